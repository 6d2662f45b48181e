"""The alias of a sandbox's host ends, which names the sandbox."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

MAX_ALIAS: Final = 254
"""The most bytes of an alias: fewer than `IFALIASZ`, 256, with the final NUL.

Source: `dev_set_alias` in `net/core/dev.c`, `include/uapi/linux/if.h`.
"""

ALIAS: Final = "watcher "
"""The beginning of a host end's alias; the sandbox's id follows, for readers of `ip link`."""

_CUT: Final = "~"
"""Separates a shortened id from its digest in an alias; no id contains it."""


def alias_of(sandbox_id: str) -> str:
    """A different alias for each sandbox; an id that is too long is cut, and its digest follows."""
    alias = ALIAS + sandbox_id
    if len(alias) <= MAX_ALIAS:
        return alias
    tail = _CUT + blake2b(sandbox_id.encode(), digest_size=16).hexdigest()
    return alias[: MAX_ALIAS - len(tail)] + tail
