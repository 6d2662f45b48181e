"""Tables for the terminal and for Markdown, and the format of figures in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first column is text, the others are figures.

    Attributes:
        title: the line above it.
        header: the columns' names.
        rows: the cells.
        note: a sentence below it, or nothing.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def text(self) -> str:
        """The table as text for a terminal."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [_line(row, widths) for row in (self.header, *self.rows)]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self.title, "", *lines, *([self.note] if self.note else [])]) + "\n"

    def markdown(self) -> str:
        """The table as Markdown."""
        rule = ("---", *("---:" for _ in self.header[1:]))
        lines = [f"| {' | '.join(row)} |" for row in (self.header, rule, *self.rows)]
        lines = [f"**{self.title}**", "", *lines]
        return "\n".join([*lines, *(["", self.note] if self.note else [])]) + "\n"


def seconds(value: float) -> str:
    """Format a time with three digits and a suitable unit."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if value * factor >= 1:
            return f"{_three(value * factor)} {unit}"
    return f"{_three(value * 1e6)} µs"


def times(value: float) -> str:
    """A ratio."""
    return f"{value:.2f}x" if value < 10 else f"{_three(value)}x"


def mebibytes(value: float) -> str:
    """Bytes."""
    return f"{value / (1 << 20):.1f} MiB"


def whole(value: float) -> str:
    """A number, with commas."""
    return f"{value:,.0f}"


def _three(value: float) -> str:
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = [*zip(row, widths, strict=True)]
    cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
    return "  ".join(cells).rstrip()
