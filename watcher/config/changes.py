"""Compares two configurations, and says whether a running service can take the changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from watcher.config.keys import hints, names
from watcher.config.load import Source, dotted
from watcher.model.errors import UsageError

if TYPE_CHECKING:
    from watcher.config.rules import KeyPath
    from watcher.config.settings import Config


def live_changes(config: Config, source: Source) -> list[str]:
    """Name the keys in which a file that was read again differs from the configuration in force.

    Raises:
        UsageError: some of them need a restart; the error names each with its line.
    """
    found = list(_differences(config, source.config, ()))
    if late := [path for path, live in found if not live]:
        lines = source.lines()
        keys = ", ".join(f"{_where(source, lines.get(path))}: {dotted(path)}" for path in late)
        raise UsageError(
            f"{keys}: cannot change while the service runs",
            "restart it, e.g. `systemctl restart watcher`, or change it back",
        )
    return [dotted(path) for path, _ in found]


def _where(source: Source, line: int | None) -> str:
    name = source.name or "without a file"
    return name if line is None else f"{name}:{line}"


def _differences(before: Struct, after: Struct, path: KeyPath) -> Iterator[tuple[KeyPath, bool]]:
    """Find each key that differs between two tables, and whether it can change live."""
    for key, name in names(type(after)).items():
        old, new = getattr(before, name), getattr(after, name)
        if isinstance(new, Struct):
            yield from _differences(old, new, (*path, key))
            continue
        old_tables, new_tables = _tables(old), _tables(new)
        if old_tables.keys() != new_tables.keys() or (old != new and not new_tables):
            yield (*path, key), _is_live(hints(type(after))[key])
        for one in old_tables.keys() & new_tables.keys():
            at, table = new_tables[one]
            yield from _differences(old_tables[one][1], table, (*path, key, at))


def _tables(value: Any) -> dict[str, tuple[str | int, Struct]]:
    """Return the tables in a value, by name or path, each with its place in the file."""
    if isinstance(value, dict):
        return {name: (name, table) for name, table in value.items()}
    if isinstance(value, tuple):
        return {item.path: (i, item) for i, item in enumerate(value) if hasattr(item, "path")}
    return {}


def _is_live(hint: Any) -> bool:
    return any((meta.extra_json_schema or {}).get("x-live") for meta in hint.__metadata__)
