#!/usr/bin/env python3
"""Writes what is said of the configuration: `deploy/watcher.toml` and `docs/configuration.md`.

Both are made of the JSON Schema, and that of `watcher/config/settings.py`; a test compares them.
Of the page, what is between the two marks is made, the rest is written by hand.

    .venv/bin/python tools/configuration.py
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from watcher.config.schema import schema  # noqa: E402
from watcher.config.written import toml  # noqa: E402

FILE: Final = REPOSITORY / "deploy/watcher.toml"
PAGE: Final = REPOSITORY / "docs/configuration.md"

BEGIN: Final = "<!-- made by tools/configuration.py: from here -->\n"
END: Final = "<!-- to here -->\n"

WIDTH: Final = 100

HEAD: Final = """\
# /etc/watcher/watcher.toml: what is commented out is the default; what is indented, an example. A
# key that is unknown or a value that is wrong is named with its line, and nothing starts. To have a
# change taken:
#
#   systemctl reload watcher         where it can change while the service runs; else that is logged
#   systemctl restart watcher        containers and their connections go on meanwhile
#   watcher config                   says what is in force, and which line says so
#   watcher check                    says whether this host can do what this file asks for
"""

HEADERS: Final = {
    "root": "[[root]]",
    "root.limits": "[root.limits]",
    "gate": "[gate]",
    "network": "[network.default]",
    "firewall": "[firewall]",
    "events": "[events]",
    "names": "[names]",
    "cluster": "[cluster]",
}
"""How each table begins in the file."""

OPTIONAL: Final = ("root.limits",)
"""The tables whose header is commented out as well."""

type Key = dict[str, Any]


def tables() -> Iterator[tuple[str, Key, dict[str, Key]]]:
    """List the tables: its path, what is said of it, and the keys that are in it itself."""
    made = schema()

    def keys_of(reference: str) -> dict[str, Key]:
        keys: dict[str, Key] = made["$defs"][reference.rpartition("/")[2]]["properties"]
        return keys

    def walk(path: str, about: Key, keys: dict[str, Key]) -> Iterator[tuple[str, Key, Any]]:
        inner = {name: key for name, key in keys.items() if _table_in(key) and name != "routes"}
        yield path, about, {name: key for name, key in keys.items() if name not in inner}
        for name, key in inner.items():
            yield from walk(f"{path}.{name}".lstrip("."), key, keys_of(_table_in(key)))

    yield from walk("", {}, keys_of(made["$ref"]))


def _table_in(key: Key) -> str:
    """Return the reference to the table that a key holds, or holds several of; else nothing."""
    for place in (key, key.get("items"), key.get("additionalProperties")):
        if isinstance(place, dict) and "$ref" in place:
            return str(place["$ref"])
    return ""


def file() -> str:
    """Return what `deploy/watcher.toml` is to be."""
    parts = [HEAD]
    for path, about, keys in tables():
        parts.append("\n")
        if title := about.get("title"):
            parts.append(f"\n# ---- {title} ".ljust(WIDTH, "-") + "\n#\n")
            parts.append(f"{_comment(about['description'])}\n")
        elif path:
            parts.append(_comment(about["description"]))
        if path:
            parts.append(f"{'#' if path in OPTIONAL else ''}{HEADERS[path]}\n")
        parts.append("\n".join(_lines_of(name, key) for name, key in keys.items()))
    return "".join(parts)


def _lines_of(name: str, key: Key) -> str:
    """Return a key with its words, as a default that is commented out, if TOML has one."""
    text = _comment(_words(key))
    for example in key.get("examples", ()):
        text += f"#   {name} = {toml(example)}\n"
    if key["default"] is None:
        return text
    return text + f"#{name} = {toml(list(key['default']) if _is_list(key) else key['default'])}\n"


def _is_list(key: Key) -> bool:
    return isinstance(key["default"], tuple | list)


def _words(key: Key) -> str:
    unit = f" In {key['x-unit']}." if "x-unit" in key else ""
    return f"{key['description']}{unit}"


def _comment(words: str) -> str:
    return textwrap.fill(
        words, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False,
        break_long_words=False,
    ) + "\n"  # fmt: skip


def page(now: str) -> str:
    """Return what `docs/configuration.md` is to be, which is `now` there."""
    before, _, rest = now.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{''.join(_sections())}{END}{after}"


def _sections() -> Iterator[str]:
    for path, about, keys in tables():
        yield f"### {f'`{HEADERS[path]}`' if path else 'Above all tables'}\n\n"
        if words := about.get("description"):
            yield f"{words}\n\n"
        yield "| key | value | default | live | |\n| --- | --- | --- | --- | --- |\n"
        for name, key in keys.items():
            default = list(key["default"]) if _is_list(key) else key["default"]
            live = "yes" if key.get("x-live") else "restart"
            usual = "absent" if default is None else f"`{toml(default)}`"
            cells = (f"`{name}`", _type(key), usual, live, key["description"])
            yield f"| {' | '.join(cells).replace('<', '&lt;')} |\n"
        yield "\n"


def _type(key: Key) -> str:
    """Say in words what a key accepts."""
    if "anyOf" in key:
        return ", or ".join(_type({**one, **_unit(key)}) for one in key["anyOf"])
    match key:
        case {"enum": words}:
            return ", ".join(f"`{toml(word)}`" for word in words)
        case {"type": "boolean"}:
            return "`true`, `false`"
        case {"type": "integer", "minimum": low, "maximum": high}:
            return f"whole number from {low} to {high}{_in(key)}"
        case {"type": "number", "exclusiveMinimum": low, "maximum": high}:
            return f"more than {low}, at the most {high}{_in(key)}"
        case {"type": "array", "items": {"type": "string"}}:
            return "list of strings"
        case {"type": "array"}:
            return "list of tables"
        case {"type": "string", "pattern": "^/"}:
            return "absolute path"
    return "string"


def _unit(key: Key) -> Key:
    return {"x-unit": key["x-unit"]} if "x-unit" in key else {}


def _in(key: Key) -> str:
    return f", in {key['x-unit']}" if "x-unit" in key else ""


if __name__ == "__main__":
    FILE.write_text(file())
    PAGE.write_text(page(PAGE.read_text()))
