"""`watcher config`: the configuration in force and the origin of each value, or its JSON Schema."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from watcher.commands.output import print_json
from watcher.config.load import Source, read
from watcher.config.rules import KeyPath
from watcher.config.schema import schema
from watcher.config.settings import Config
from watcher.config.written import toml, toml_key, written
from watcher.model.errors import printable


def run(_config: Config, options: argparse.Namespace) -> int:
    """Print the configuration that a command would use now, as TOML, or with `--json` as keys."""
    if options.schema:
        print_json(schema())
        return 0
    source = read(options.config)
    lines = source.lines()
    if options.json:
        print_json(
            [
                {
                    "key": _shown(path),
                    "value": value,
                    "file": source.name if path in lines else None,
                    "line": lines.get(path),
                }
                for path, value in _values(written(source.config), ())
            ]
        )
        return 0
    _print(source, lines)
    return 0


def _print(source: Source, lines: dict[KeyPath, int]) -> None:
    """Print the configuration in the form of a file, each value with its origin."""
    values = list(_values(written(source.config), ()))
    texts = [f"{toml_key(str(path[-1]))} = {printable(toml(value))}" for path, value in values]
    width = min(48, max(map(len, texts)))
    before: KeyPath = ()
    for (path, _), text in zip(values, texts, strict=True):
        if path[:-1] != before:
            before = path[:-1]
            print(f"\n{_header(before)}")  # noqa: T201
        origin = f"{source.name}:{lines[path]}" if path in lines else "default"
        print(f"{text:{width}}  # {origin}")  # noqa: T201


def _values(table: dict[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Each key that is not a table, those of a table before those of the tables in it."""
    tables: list[tuple[KeyPath, dict[str, Any]]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            tables.append(((*path, key), value))
        elif (*path, key) == ("root",):
            tables += [((key, index), one) for index, one in enumerate(value)]
        else:
            yield (*path, key), value
    for at, inner in tables:
        yield from _values(inner, at)


def _header(path: KeyPath) -> str:
    name = ".".join(toml_key(part) for part in path if isinstance(part, str))
    return f"[[{name}]]" if isinstance(path[-1], int) else f"[{name}]"


def _shown(path: KeyPath) -> str:
    """A key in the form `root[0].limits.fixed`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{toml_key(part)}" for part in path)
    return text.removeprefix(".")
