"""Writes a configuration as its file would have it: the inverse of `keys`."""

from __future__ import annotations

import json
import re
from typing import Any

from msgspec import Struct

from watcher.config.keys import names
from watcher.model.policy.limits import RATES
from watcher.model.policy.rates import rate_text


def written(value: object) -> Any:
    """Turn a value of the configuration into what the file has: tables, lists and words."""
    match value:
        case Struct():
            values = {key: getattr(value, name) for key, name in names(type(value)).items()}
            there = {key: v for key, v in values.items() if v is not None}
            return {k: rate_text(v) if k in RATES else written(v) for k, v in there.items()}
        case dict():
            return {key: written(item) for key, item in value.items()}
        case (int(low), int(high)):  # a range of ports
            return str(low) if low == high else f"{low}-{high}"
        case tuple():
            return [written(item) for item in value]
        case bool() | int() | float():
            return value
    return str(value)


def toml(value: object) -> str:
    """Write a result of :func:`written` as TOML; a table becomes an inline table."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return f"{{ {', '.join(f'{toml_key(k)} = {toml(v)}' for k, v in value.items())} }}"
    return str(value)


def toml_key(key: str) -> str:
    """Write a key, or a part of a table header."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml(key)
