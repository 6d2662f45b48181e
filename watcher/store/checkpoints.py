"""Moves the journal of the lease store into its file, where nobody waits for that.

A checkpoint waits for the disk twice: 10 ms and more. SQLite's own would be part of a commit, and
so of a start that waits at the gate. A connection of its own does it while the other one goes on to
read and write (section "Checkpointing" of sqlite.org/wal.html). A killed process loses nothing by
it: what has been moved is in the journal as well, until the file is on the disk.
"""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING, Final

from watcher.model.errors import WatcherError
from watcher.store import schema
from watcher.store.errors import translated
from watcher.store.opening import connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from watcher.store.files import StoreFiles

CHECKPOINT: Final = "PRAGMA wal_checkpoint(PASSIVE)"
"""Moves what no reader prevents; nobody waits for it, and it for nobody."""

TURNS: Final = 4
"""Checkpoints in a row, each of what was committed during the one before. SQLite writes its journal
from the beginning again only after one that nothing was committed beside."""


class Checkpoints:
    """At most one checkpoint of the file `path` at a time, each in a thread that ends with it.

    The thread has no descriptor table of its own, because connections of one process share their
    descriptors. Nobody may borrow a descriptor (:mod:`handlers.kernel.descriptors`) meanwhile.

    Attributes:
        whole: whether the last one has moved everything.
    """

    __slots__ = ("_error", "_path", "_thread", "whole")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread: threading.Thread | None = None
        self._error: WatcherError | None = None
        self.whole = False

    def begin(self, files: StoreFiles, ended: Callable[[], object]) -> bool:
        """Begin one of `files`; false if one has begun that :meth:`wait` was not called for.

        `ended` is called in its thread, at its end.
        """
        if self._thread is not None:
            return False
        self.whole = False
        self._thread = threading.Thread(
            target=self._run, args=(files, ended), name="checkpoint", daemon=True
        )
        self._thread.start()
        return True

    def wait(self) -> WatcherError | None:
        """Wait for the end of the one that has begun, and return its error, if any."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        return error

    def _run(self, files: StoreFiles, ended: Callable[[], object]) -> None:
        try:
            if not files.lost():
                self._move(files)
        except WatcherError as error:
            if not files.lost():  # what it found is another's file, or none: no error
                self._error = error
        finally:
            ended()

    def _move(self, files: StoreFiles) -> None:
        """Move what is in the journal, as far as no reader prevents it.

        A connection of its own also reads a file that somebody has overwritten; the cache of the
        other one would hide that.
        """
        with translated(self._path), closing(connect(self._path, "mode=rw")) as db:
            if files.lost() or not schema.version_of(db):
                return  # another file has that name by now; the next change notices it
            for _ in range(TURNS):
                _, pages, moved = db.execute(CHECKPOINT).fetchone()
                self.whole = pages <= moved
                if self.whole:
                    return
