"""The directory that the lines of the events socket make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.feed.lines import Event, NetworkLine, SandboxLine
from watcher.names.zone.directory import Directory

if TYPE_CHECKING:
    from watcher.feed.lines import AnyLine
    from watcher.names.settings import Settings
    from watcher.names.zone.remote import Remote


class Known:
    """A directory, and the networks that it was told, by name."""

    def __init__(self, settings: Settings, remote: Remote) -> None:
        self.directory = Directory(settings, remote)
        self.networks: dict[str, NetworkLine] = {}

    @property
    def sandboxes(self) -> int:
        """How many sandboxes are known."""
        return self.directory.sandboxes

    def take(self, line: AnyLine) -> bool:
        """Take a line; whether a sandbox may be new."""
        match line:
            case SandboxLine():
                self.directory.sandbox(line)
                return True
            case NetworkLine(name=name):
                self.networks[name] = line
                self.directory.network(line)
            case Event():
                for key in line.unset:  # of a sandbox or a failure
                    self.directory.forget(key)
                told = [self.take(part) for part in line.set]
                return any(told)
            case _:
                pass
        return False

    def empty(self, most: int) -> bool:
        """Forget `most` sandboxes; whether there are more."""
        return self.directory.empty(most)
