"""The JSON Schema of the configuration file, made by msgspec from :mod:`watcher.config.settings`.

Beside the standard's words, `x-unit` is the unit of a number, and `x-live` says that a running
service takes a change of the key or, for tables, an added or removed one.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Final, get_args, get_origin

import msgspec
from msgspec import Struct

from watcher.config.keys import hints, names
from watcher.config.settings import Config
from watcher.config.written import written

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Return the JSON Schema as data."""
    return {"$schema": _DIALECT, **msgspec.json.schema(_table(Config))}


@cache
def _table(kind: type[Struct]) -> type[Struct]:
    """Make a structure with the types of the file for the tables that `kind` describes."""
    defaults = {field.name: field for field in msgspec.structs.fields(kind)}
    fields: list[Any] = []
    for key, name in names(kind).items():
        field, hint = defaults[name], _in_the_file(hints(kind)[key])
        if field.required:
            fields.append((key, hint))
        else:
            fields.append((key, hint, _default(field.default)))
    return msgspec.defstruct(kind.__name__, fields, forbid_unknown_fields=True)


def _in_the_file(hint: Any) -> Any:
    """Replace in a type what the file writes differently."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        inner, meta = parts
        is_other = "type" in (meta.extra_json_schema or {})
        return Annotated[Any if is_other else _in_the_file(inner), meta]
    if origin in (tuple, dict):
        return origin[tuple(map(_in_the_file, parts))]
    if isinstance(hint, type) and issubclass(hint, Struct):
        return _table(hint)
    return hint


def _default(value: object) -> Any:
    """Return a default as the schema shows it; that of a table is in the table's own keys."""
    if value is None:
        return None
    default = written(value)
    if isinstance(default, list) and not any(isinstance(item, dict) for item in default):
        return tuple(default)
    if isinstance(default, list | dict) or value is msgspec.NODEFAULT:
        return msgspec.field(default_factory=lambda: None)
    return default
