"""Prints tables and JSON."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from watcher.model.errors import printable


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print `rows` below `header` in aligned columns; an empty cell shows as a dash."""
    lines = [list(header), *([printable(cell) or "-" for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())  # noqa: T201


def print_json(value: object) -> None:
    """Print `value` as indented JSON; characters that UTF-8 cannot encode are escaped."""
    try:
        text = msgspec.json.encode(value, enc_hook=str)
    except UnicodeEncodeError:
        import json

        text = json.dumps(msgspec.to_builtins(value, enc_hook=str)).encode()
    print(msgspec.json.format(text, indent=2).decode())  # noqa: T201
