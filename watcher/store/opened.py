"""The open file of the lease store: how it is opened, lost, opened anew and closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from watcher.store.database import Database
from watcher.store.errors import StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType


class OpenStore:
    """What :class:`watcher.store.leases.LeaseStore` does with its file."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Open the store at `path`; make or migrate it as needed.

        With `read_only`, it is a copy of the file's present content, and empty if there is no file.
        Nothing is made, and neither this process nor a writer waits.

        Raises:
            WatcherError: the file is damaged, something else, a newer program's, locked for more
                than two seconds, or may not be opened or written.
        """
        return cls(Database.open_copy(path) if read_only else Database.open(path))

    @classmethod
    def open_anew(cls, path: Path, in_use_by: Callable[[], str] = lambda: "") -> Self:
        """Open the store at `path`; put it aside first if it is damaged or no database.

        The caller has the host-wide lock, and calls :meth:`renew` next, which reports this.
        `in_use_by` is as in :func:`watcher.store.opening.check`.

        Raises:
            WatcherError: as :meth:`open`, but for a damaged file; or an older service has it open.
        """
        return cls(Database.open_anew(path, in_use_by))

    @classmethod
    def open_copy(cls, path: Path) -> Self:
        """Open a copy, as with `read_only`, that can be written without a change to the file.

        Raises:
            WatcherError: as :meth:`open_anew`.
        """
        try:
            return cls(Database.open_copy(path, read_only=False))
        except StoreDamaged as error:  # it would be put aside
            return cls(Database.open_empty(path, error.what))

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._database.close()

    def lost(self) -> str:
        """Which of its files was removed, replaced or damaged since it was opened; or empty."""
        return self._database.lost()

    def renew(self) -> str:
        """Open the store anew if it was lost, with its old content unless the new file has its own.

        The caller has the host-wide lock, and then makes a sync: the file may be another's.
        Returns the text of :meth:`lost`.

        Raises:
            WatcherError: as :meth:`open`; the content is kept until a file can be opened.
        """
        return self._database.renew()

    def others_version(self) -> tuple[int, int]:
        """Differs from an earlier result if another process may have changed the content.

        Or it is another file's, or was put back from copies. A renewed file counts as well.

        Raises:
            WatcherError: the file cannot be read.
        """
        return self._database.others_version()

    @property
    def journal_is_long(self) -> bool:
        """Whether a checkpoint is due, because there were many changes since the last one."""
        return self._database.journal_is_long

    def begin_checkpoint(self, ended: Callable[[], object]) -> bool:
        """Begin to move the journal into the file, so that no later change waits for that.

        It happens in another thread, which calls `ended` at its end. Returns false, and does
        nothing, if one has begun already. Nobody may borrow a descriptor meanwhile
        (:mod:`handlers.kernel.descriptors`): the thread may wait for ever for the disk.
        """
        return self._database.begin_checkpoint(ended)

    def end_checkpoint(self) -> None:
        """Wait for the checkpoint, if one was begun; StoreDamaged if it found damage."""
        self._database.end_checkpoint()

    def checkpoint(self) -> None:
        """Move the journal into the file, and wait for that."""
        self.begin_checkpoint(lambda: None)
        self.end_checkpoint()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
