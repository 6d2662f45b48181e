"""Where a key is in a TOML file: tomllib keeps no line numbers, and an error needs one."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watcher.config.rules import KeyPath

_BUDGET: Final = 1024 * 1024
"""Characters that are parsed in search of a line before it is given up."""

_DEPTH: Final = 8
"""Parts of the longest path that is looked for."""


def follow(document: Any, path: KeyPath) -> tuple[bool, Any]:
    """Look for `path` in `document`: whether it is there, and its value."""
    for part in path:
        try:
            document = document[part]
        except (LookupError, TypeError):
            return False, None
    return True, document


def find_line(text: str, path: KeyPath) -> int | None:
    """Find the line, from 1, of the TOML `text` on which the statement with `path` begins.

    Returns:
        `None` if no statement has it, or `text` is too long to look for it.
    """
    return find_lines(text).get(path)


def find_lines(text: str) -> dict[KeyPath, int]:
    """Find the line of each key, table and element of a list in the TOML `text`.

    What is deeper than any key of the configuration is left out, and the end of a text that is too
    long to look for it.
    """
    table: KeyPath = ()
    latest: dict[KeyPath, int] = {}
    found: dict[KeyPath, int] = {}
    for line, header, parsed in _statements(text):
        if header:
            table = _table_path(parsed, latest)
            for depth in range(1, min(len(table), _DEPTH) + 1):
                found.setdefault(table[:depth], line)
        else:
            for path in _paths(parsed, table):
                found.setdefault(path, line)
    return found


def _paths(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """Name everything that is in `value`, which is at `path`."""
    if len(path) < _DEPTH and isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from _paths(item, (*path, key))


def _statements(text: str) -> Iterator[tuple[int, bool, dict[str, Any]]]:
    """Split `text`, which is valid: first line, whether it is a table's header, and the content."""
    budget = _BUDGET
    chunk = ""
    start = 1
    for number, line in enumerate(text.split("\n"), 1):
        if not chunk:
            start = number
        chunk += line + "\n"
        if not chunk.strip() or (number == start and line.lstrip().startswith("#")):
            chunk = ""
            continue
        budget -= len(chunk)
        if budget < 0:
            return
        try:
            parsed = tomllib.loads(chunk)
        except ValueError:
            continue  # it goes on in the next line
        yield start, chunk.lstrip().startswith("["), parsed
        chunk = ""


def _table_path(parsed: Any, latest: dict[KeyPath, int]) -> KeyPath:
    """Name the table that the header `parsed` begins; `latest` has the last index of each array."""
    path: KeyPath = ()
    while parsed:
        if isinstance(parsed, list):  # [[array]]
            latest[path] = latest.get(path, -1) + 1
            return (*path, latest[path])
        if path in latest:
            path = (*path, latest[path])
        name, parsed = next(iter(parsed.items()))
        path = (*path, name)
    return path
