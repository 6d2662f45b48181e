"""Prints tables and JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from watcher.model.errors import printable

_GAP: Final = "  "


def print_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    within: int | None = None,
    least: Mapping[str, int] = {},
) -> None:
    """Print `rows` below `header` in aligned columns; an empty cell shows as a dash.

    Args:
        header: the names of the columns.
        rows: the cells.
        within: characters that a line should have at the most.
        least: the columns to shorten for that, the first first, and to which width.
    """
    lines = [list(header), *([printable(cell) or "-" for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if within is not None:
        excess = sum(widths) + len(_GAP) * (len(widths) - 1) - within
        for name, width in least.items():
            if excess > 0 and name in header:
                column = header.index(name)
                less = min(excess, max(0, widths[column] - max(width, len(name))))
                widths[column] -= less
                excess -= less
    for line in lines:
        cells = (_fitted(cell, width) for cell, width in zip(line, widths, strict=True))
        print(_GAP.join(cells).rstrip())  # noqa: T201


def terminal_width() -> int | None:
    """The characters of a line of the terminal that stdout is; `None` if it is none."""
    if not sys.stdout.isatty():
        return None
    return os.get_terminal_size(sys.stdout.fileno()).columns or None


def _fitted(cell: str, width: int) -> str:
    return cell.ljust(width) if len(cell) <= width else cell[: width - 1] + "…"


def print_json(value: object) -> None:
    """Print `value` as indented JSON; characters that UTF-8 cannot encode are escaped."""
    try:
        text = msgspec.json.encode(value, enc_hook=str)
    except UnicodeEncodeError:
        import json

        text = json.dumps(msgspec.to_builtins(value, enc_hook=str)).encode()
    print(msgspec.json.format(text, indent=2).decode())  # noqa: T201
