"""The alias of the host ends of a sandbox, which says whose they are."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

MAX_ALIAS: Final = 254
"""Bytes of an alias: the kernel takes fewer than `IFALIASZ`, 256, with the NUL that we send.

Source: `dev_set_alias` in `net/core/dev.c`, `include/uapi/linux/if.h`.
"""

ALIAS: Final = "watcher "
"""Begins the alias of a host end; the sandbox's id follows, for whoever reads `ip link`."""

_CUT: Final = "~"
"""Stands in an alias behind an id that was cut off, before its digest; no id has it."""


def alias_of(sandbox_id: str) -> str:
    """The alias of the host ends of a sandbox: it tells that sandbox from all others.

    An id that is too long for an alias is cut off, and its digest put behind it.
    """
    alias = ALIAS + sandbox_id
    if len(alias) <= MAX_ALIAS:
        return alias
    tail = _CUT + blake2b(sandbox_id.encode(), digest_size=16).hexdigest()
    return alias[: MAX_ALIAS - len(tail)] + tail
