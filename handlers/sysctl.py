"""Kernel settings under `/proc/sys/net`, changed where needed and given back.

Sources: `Documentation/networking/ip-sysctl.rst` of the kernel. What a file shows depends on the
network namespace of the thread that opens it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from handlers.handler import Notes

_PREFIX: Final = "sysctl "


def get(name: str) -> str | None:
    """The value of `name`, with slashes and below `net`; `None` if the kernel has no such."""
    try:
        return Path("/proc/sys/net", name).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None


def put(name: str, value: str) -> None:
    """Set `name` to `value`, whoever else sets it."""
    descriptor = os.open(f"/proc/sys/net/{name}", os.O_WRONLY | os.O_CLOEXEC)  # hot path
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


class Sysctl:
    """Settings of the host as a whole: what they were is noted, and `give_back` restores it."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def set(self, name: str, value: str) -> None:
        """Set `name` to `value` and note what it was, once."""
        before = get(name)
        if before is None or before == value:
            return
        self.keep(name)
        put(name, value)

    def keep(self, name: str) -> None:
        """Note what `name` is, once: it changes along with another that is about to be set."""
        value = get(name)
        if value is not None and self._notes.noted(_PREFIX + name) is None:
            self._notes.note(_PREFIX + name, value)

    def give_back(self, names: list[str]) -> list[str]:
        """Restore those of `names` that `set` changed; the names that were restored."""
        restored = []
        for name in names:
            before = self._notes.noted(_PREFIX + name)
            if before is not None:
                with suppress(FileNotFoundError):
                    put(name, before)
                self._notes.erase(_PREFIX + name)
                restored.append(name)
        return restored
