"""Changes kernel settings if necessary, and restores them."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from handlers.handler import Notes
from handlers.kernel import sysctl

_PREFIX: Final = "sysctl "


class Sysctl:
    """Settings of the host; the old values are noted, and `give_back` restores them."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def set(self, name: str, value: str) -> None:
        """Set `name` to `value`, and note the old value the first time."""
        before = sysctl.get(name)
        if before is None or before == value:
            return
        self.keep(name)
        sysctl.put(name, value)

    def keep(self, name: str) -> None:
        """Note the value of `name` once, because it will change together with another setting."""
        value = sysctl.get(name)
        if value is not None and self._notes.noted(_PREFIX + name) is None:
            self._notes.note(_PREFIX + name, value)

    def give_back(self, names: list[str]) -> list[str]:
        """Restore those of `names` that `set` changed; returns their names."""
        restored = []
        for name in names:
            before = self._notes.noted(_PREFIX + name)
            if before is not None:
                with suppress(FileNotFoundError):
                    sysctl.put(name, before)
                self._notes.erase(_PREFIX + name)
                restored.append(name)
        return restored
