"""Kernel settings that are changed where needed, and given back."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from handlers.handler import Notes
from handlers.kernel import sysctl

_PREFIX: Final = "sysctl "


class Sysctl:
    """Settings of the host as a whole: what they were is noted, and `give_back` restores it."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def set(self, name: str, value: str) -> None:
        """Set `name` to `value` and note what it was, once."""
        before = sysctl.get(name)
        if before is None or before == value:
            return
        self.keep(name)
        sysctl.put(name, value)

    def keep(self, name: str) -> None:
        """Note what `name` is, once: it changes along with another that is about to be set."""
        value = sysctl.get(name)
        if value is not None and self._notes.noted(_PREFIX + name) is None:
            self._notes.note(_PREFIX + name, value)

    def give_back(self, names: list[str]) -> list[str]:
        """Restore those of `names` that `set` changed; the names that were restored."""
        restored = []
        for name in names:
            before = self._notes.noted(_PREFIX + name)
            if before is not None:
                with suppress(FileNotFoundError):
                    sysctl.put(name, before)
                self._notes.erase(_PREFIX + name)
                restored.append(name)
        return restored
