"""The columns of the table: which of them a line has room for, how wide, and what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.observe.top.text import fitted, short

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.observe.top.rates import Figures, Row

UNKNOWN: Final = "-"


class Column(Struct, frozen=True):
    """A column.

    Attributes:
        title: its header; a number's has its unit.
        cell: the text of a row, or what makes a number of its figures.
        least, most: its width.
        rank: the column with the lowest rank is the last to go where a line is short.
        right: whether it is a number.
    """

    title: str
    cell: Callable[[Row], str]
    least: int
    most: int
    rank: int
    right: bool = False


def layout(columns: tuple[Column, ...], width: int) -> list[tuple[Column, int]]:
    """The columns that fit into `width` cells with a space between them, and how wide each is.

    What is left over goes to the columns that have use for it, those of the lowest rank first.
    """
    for rank in sorted({column.rank for column in columns}, reverse=True):
        if _least(columns) <= width or not rank:
            break
        columns = tuple(column for column in columns if column.rank < rank)
    spare = max(0, width - _least(columns))
    widths = {}
    for column in sorted(columns, key=lambda column: column.rank):
        more = min(spare, column.most - column.least)
        widths[column.title] = column.least + more
        spare -= more
    return [(column, widths[column.title]) for column in columns]


def header(laid_out: list[tuple[Column, int]]) -> str:
    """The line of titles."""
    return " ".join(_placed(column, column.title, width) for column, width in laid_out)


def line(laid_out: list[tuple[Column, int]], row: Row) -> str:
    """The line of a row."""
    return " ".join(_placed(column, column.cell(row), width) for column, width in laid_out)


def columns(*, bits: bool) -> tuple[Column, ...]:
    """All columns, with traffic in bits a second or in bytes a second."""
    unit, factor = ("bit/s", 8) if bits else ("B/s", 1)
    return (
        Column("CONTAINER", lambda row: row.container, 12, 40, 0),
        Column("NETWORK", lambda row: row.network, 7, 15, 5),
        Column("ADDRESS", lambda row: row.address, 15, 39, 3),
        _number(f"IN {unit}", 0, 9, _rate(lambda of: of.received * factor)),
        _number(f"OUT {unit}", 0, 9, _rate(lambda of: of.sent * factor)),
        _number("PKT/s", 2, 6, _rate(lambda of: of.packets)),
        _number("DROP/s", 4, 6, _rate(lambda of: of.dropped)),
        _number("IN B", 6, 6, lambda row: short(row.total.received)),
        _number("OUT B", 6, 6, lambda row: short(row.total.sent)),
        _number("DROP", 7, 5, lambda row: short(row.total.dropped)),
    )


def _number(title: str, rank: int, width: int, cell: Callable[[Row], str]) -> Column:
    return Column(title, cell, width, width, rank, right=True)


def _rate(of: Callable[[Figures], float]) -> Callable[[Row], str]:
    return lambda row: UNKNOWN if row.rates is None else short(of(row.rates))


def _least(columns: tuple[Column, ...]) -> int:
    return sum(column.least for column in columns) + len(columns) - 1


def _placed(column: Column, text: str, width: int) -> str:
    return text.rjust(width) if column.right else fitted(text, width)
