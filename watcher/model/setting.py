"""Describes a key of the configuration, beside its type and default."""

from __future__ import annotations

from typing import Any

from msgspec import Meta


def about(
    words: str, *, live: bool = False, unit: str = "", file: dict[str, Any] | None = None,
    **more: Any,
) -> Meta:  # fmt: skip
    """Describe a key, in its annotation, which is evaluated only when needed.

    Args:
        words: for `deploy/watcher.toml`, `docs/configuration.md` and the JSON Schema.
        live: whether a running service can take a change of it.
        unit: the unit of a number.
        file: the JSON Schema of the value in the file, if its type differs from the one here.
        more: other arguments of `Meta`: bounds, examples, a title.
    """
    extra = {**(file or {}), "x-unit": unit, "x-live": live}
    said = {key: value for key, value in extra.items() if value}
    return Meta(description=words, extra_json_schema=said or None, **more)
