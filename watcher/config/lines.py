"""Finds the line of a key in a TOML file, for errors; tomllib keeps no line numbers."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watcher.config.rules import KeyPath

_BUDGET: Final = 1024 * 1024
"""The most characters to parse in search of a line."""

_DEPTH: Final = 8
"""The most parts of a path that is looked for."""


def follow(document: Any, path: KeyPath) -> tuple[bool, Any]:
    """Whether `path` is in `document`, and its value."""
    for part in path:
        try:
            document = document[part]
        except (LookupError, TypeError):
            return False, None
    return True, document


def find_line(text: str, path: KeyPath) -> int | None:
    """The line, from 1, of the statement with `path` in a TOML `text`; `None` if not found."""
    return find_lines(text).get(path)


def find_lines(text: str) -> dict[KeyPath, int]:
    """Find the line of each key, table and list element in the TOML `text`.

    What is nested deeper than any key of the configuration is left out, and so is the end of a text
    that is too long.
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
    """List the paths of everything in `value`, which is at `path`."""
    if len(path) < _DEPTH and isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from _paths(item, (*path, key))


def _statements(text: str) -> Iterator[tuple[int, bool, dict[str, Any]]]:
    """Split a valid `text` into statements: first line, whether it is a table header, content."""
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
            continue  # the statement continues on the next line
        yield start, chunk.lstrip().startswith("["), parsed
        chunk = ""


def _table_path(parsed: Any, latest: dict[KeyPath, int]) -> KeyPath:
    """The path of the table under the header `parsed`; `latest` has each array's last index."""
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
