"""What is said of a key of the configuration, beside its type and its default."""

from __future__ import annotations

from typing import Any

from msgspec import Meta


def about(
    words: str, *, live: bool = False, unit: str = "", file: dict[str, Any] | None = None,
    **more: Any,
) -> Meta:  # fmt: skip
    """Say what a key means; it stands in the key's annotation, which is evaluated when needed.

    Args:
        words: for `deploy/watcher.toml`, `docs/configuration.md` and the JSON Schema.
        live: whether a running service can take a change of it.
        unit: in what it is counted.
        file: the JSON Schema of what is written in the file, where the type here is another.
        more: what else `Meta` takes: bounds, examples, a title.
    """
    extra = {**(file or {}), "x-unit": unit, "x-live": live}
    said = {key: value for key, value in extra.items() if value}
    return Meta(description=words, extra_json_schema=said or None, **more)
