"""Watching the roots with watchdog: which container to look at again, which root is anew."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import ObservedWatch
from watchdog.observers.inotify import InotifyObserver

from watcher.directories import make_directory

_STATE: Final = "/state.json"
_LOGGER: Final = "watchdog"
_EVENTS: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileDeletedEvent,
    FileMovedEvent,
]
"""runc renames `state.json` into place, and removes it and the directory.

It never writes in place, but people and broken disks do: that is a file which was closed.
"""

REMOVED: Final[list[type[FileSystemEvent]]] = [FileDeletedEvent]
REPLACED: Final[list[type[FileSystemEvent]]] = [
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
]
"""What may befall a name in a directory: a file that is moved in from elsewhere was created."""


class RootWatch:
    """Watches roots, in threads of watchdog's, from `start` to `stop`.

    Args:
        paths: the roots. One that is not there is made, empty, as runc would make it.
        look: called with a root and a container's id when something of it has changed.
        anew: called with a root that was removed, and with it everything that was watched in it.
        overflow: called where the kernel dropped events.
    """

    def __init__(
        self,
        paths: Iterable[str],
        look: Callable[[str, str], object],
        anew: Callable[[str], object],
        overflow: Callable[[], object],
    ) -> None:
        self._observer = InotifyObserver()
        self._look = look
        self._anew = anew
        self._paths = list(paths)
        self._overflow = _Overflow(overflow)
        self._watches: dict[str, list[ObservedWatch]] = {}

    def start(self) -> None:
        """Begin to watch.

        Raises:
            OSError: a root cannot be made or watched.
        """
        logging.getLogger(_LOGGER).addHandler(self._overflow)
        for path in self._paths:
            self._schedule(path)
        self._observer.start()

    def stop(self) -> None:
        """End the threads."""
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
        logging.getLogger(_LOGGER).removeHandler(self._overflow)

    def watch_names(
        self,
        directory: str,
        call: Callable[[str], object],
        events: list[type[FileSystemEvent]] = REMOVED,
    ) -> None:
        """Call `call` with each name in `directory` to which one of `events` happens.

        The directory is made if it is missing; again, after it was removed and made anew.
        """
        make_directory(Path(directory), 0o755)
        for watch in self._watches.pop(directory, []):
            self._observer.unschedule(watch)
        self._watches[directory] = [
            self._observer.schedule(_Names(call), directory, recursive=False, event_filter=events)
        ]

    def watch_anew(self, path: str) -> None:
        """Watch `path` again, after it was removed or mounted over; make it if it is not there."""
        for watch in self._watches.pop(path, []):
            self._observer.unschedule(watch)
        self._schedule(path)

    def _schedule(self, path: str) -> None:
        make_root(path)
        parent = str(Path(path).parent)
        self._watches[path] = [
            self._observer.schedule(
                _InRoot(path, self._look), path, recursive=True, event_filter=_EVENTS
            ),
            self._observer.schedule(
                _OfRoot(path, self._anew), parent, recursive=False, event_filter=_EVENTS
            ),
        ]


def _text(path: bytes | str) -> str:
    return os.fsdecode(path)


def make_root(path: str) -> None:
    """Make the root `path` if it is not there, with runc's own permissions."""
    if not Path(path).is_dir():
        Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        Path(path).mkdir(mode=0o711, exist_ok=True)


class _InRoot(FileSystemEventHandler):
    """Tells which container an event in a root is about."""

    def __init__(self, root: str, look: Callable[[str, str], object]) -> None:
        self._prefix = root.rstrip("/") + "/"
        self._root = root
        self._look = look

    def dispatch(self, event: FileSystemEvent) -> None:
        """Called by watchdog; a move is about where it came from and where it went."""
        if isinstance(event, FileClosedEvent) and not _text(event.src_path).endswith(_STATE):
            return
        ids = {self._id(event.src_path), self._id(event.dest_path)}
        for id_ in ids - {""}:
            self._look(self._root, id_)

    def _id(self, path: bytes | str) -> str:
        text = _text(path)
        if not text.startswith(self._prefix):
            return ""
        return text.removeprefix(self._prefix).partition("/")[0]


class _Names(FileSystemEventHandler):
    """Tells to which names in a directory something happened."""

    def __init__(self, call: Callable[[str], object]) -> None:
        self._call = call

    def dispatch(self, event: FileSystemEvent) -> None:
        """Called by watchdog; a move is about two names."""
        for path in (event.src_path, event.dest_path):
            if path:
                self._call(_text(path).rpartition("/")[2])


class _Overflow(logging.Handler):
    """Hears watchdog say that the kernel dropped events, which it says in its log alone."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(logging.WARNING)
        self._call = call

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging."""
        if "overflow" in record.getMessage():
            self._call()


class _OfRoot(FileSystemEventHandler):
    """Tells when a root itself was removed, moved or made."""

    def __init__(self, root: str, anew: Callable[[str], object]) -> None:
        self._root = root
        self._anew = anew

    def dispatch(self, event: FileSystemEvent) -> None:
        """Called by watchdog."""
        if self._root in (_text(event.src_path), _text(event.dest_path)):
            self._anew(self._root)
