"""The file of the lease store: opening it, reopening it after a loss, and transactions."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from watcher.store import copies, failures, schema
from watcher.store.checkpoints import CHECKPOINT, Checkpoints
from watcher.store.errors import BROKEN, StoreDamaged, tell, translated
from watcher.store.files import StoreFiles, put_aside
from watcher.store.opening import check, connect, make, shrink, undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PAGE_SIZE: Final = 1024
"""Bytes of a page of a new file: a commit writes whole pages, about sixteen."""

DUE: Final = 512
"""Commits after which the journal is to be moved into the file itself: some 8 MiB."""

LONG: Final = 4 * DUE
"""Commits after which it is moved by the thread that commits, if there always was another commit
beside: SQLite begins it anew only when all of it was moved."""

BACKSTOP: Final = 64 << 20
"""Bytes of the journal at which a commit moves it, in a process that never does it otherwise."""


class Database:
    """One open file. Outside of transactions, a statement on `db` is a transaction of its own."""

    __slots__ = (
        "_changes", "_checkpoints", "_damage", "_files", "_moved", "_news", "_path", "_whole",
        "db", "untold",
    )  # fmt: skip

    def __init__(self, db: sqlite3.Connection, path: Path, files: StoreFiles | None = None) -> None:
        self.db = db
        self._path = path
        self._files = files
        self._damage = ""
        """The damage that SQLite has found since the file was opened; empty if none."""
        self._news = ""
        """What happened to the previous file."""
        self.untold = 0
        """How often content has come from somewhere else than from what this process did."""
        self._changes = self._moved = self._whole = 0
        """How often this object has changed its content: by now, when the last checkpoint began,
        and when all of the journal was moved."""
        self._checkpoints = Checkpoints(path)

    @classmethod
    def open_anew(cls, path: Path, in_use_by: Callable[[], str] = lambda: "") -> Self:
        """Like :meth:`open`, but put a file aside first that is damaged or no database.

        Another program's or a newer version's database is left alone. The caller has the
        host-wide lock.

        Raises:
            WatcherError: as :meth:`open`.
        """
        try:
            return cls.open(path, in_use_by)
        except StoreDamaged as error:
            with translated(path):
                aside = put_aside(path)
            opened = cls.open(path)
            opened._news = f"{error.what}; it is kept as {aside}"
            return opened

    @classmethod
    def open(cls, path: Path, in_use_by: Callable[[], str] = lambda: "") -> Self:
        """Open `path` for reading and writing; make or migrate it as needed.

        `in_use_by` is as in :func:`watcher.store.opening.check`.

        Raises:
            StoreDamaged: it is damaged, or no database.
            WatcherError: it cannot be opened or written, is something else, is a newer program's,
                or an older service has it open.
        """
        return undisturbed(path, lambda: cls._open(path, in_use_by))

    @classmethod
    def _open(cls, path: Path, in_use_by: Callable[[], str]) -> Self:
        with translated(path):
            make(path)
            made = StoreFiles.of(path)  # before it is opened, so that a replacement is noticed
            db = connect(path, "mode=rw")
            try:
                check(db, path, in_use_by)
                db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
                db.execute("PRAGMA journal_mode = WAL")
                # A power failure may lose the last commits, but does not damage the file, and a
                # killed program loses nothing. After a reboot the leases are worthless anyway.
                db.execute("PRAGMA synchronous = NORMAL")
                (size,) = db.execute("PRAGMA page_size").fetchone()
                db.execute(f"PRAGMA wal_autocheckpoint = {BACKSTOP // size}")
                schema.migrate(db)
                failures.cut(db)
                shrink(db)
                db.execute("PRAGMA foreign_keys = ON")
            except BaseException:
                db.close()
                raise
            beside = StoreFiles.opened(path).inodes[1:]
            return cls(db, path, StoreFiles(made.paths, (made.inodes[0], *beside)))

    @classmethod
    def open_empty(cls, path: Path, news: str) -> Self:
        """An empty store in memory, in place of `path`; `news` says what happened to that."""
        database = cls(copies.empty(), path)
        database._news = news
        return database

    @classmethod
    def open_copy(cls, path: Path, *, read_only: bool = True) -> Self:
        """Open a copy in memory of the present content of `path`; empty if it is missing.

        It waits for no writer, and no writer for it. It makes no file unless a killed writer left
        its journal.

        Raises:
            WatcherError: as :meth:`open`.
        """
        with translated(path):
            copy = undisturbed(path, lambda: copies.read(path))
            try:
                schema.migrate(copy)
                copy.execute("PRAGMA foreign_keys = ON")
                copy.execute(f"PRAGMA query_only = {read_only}")
            except BaseException:
                copy.close()
                raise
            return cls(copy, path)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._checkpoints.wait()
        self.db.close()

    def lost(self) -> str:
        """Which of its files was removed, replaced or damaged since it was opened; or empty."""
        return self._news or self._damage or ("" if self._files is None else self._files.lost())

    def renew(self) -> str:
        """Open the file anew by its name, if :meth:`lost` is not empty; returns the text of that.

        The old content is put into the file that is there now, or is made, unless somebody else has
        put sandboxes there. Until a file can be opened, the content is kept in memory. A file that
        is damaged or no database is put aside first.

        Raises:
            WatcherError: as :meth:`open`.
        """
        if self._news:
            news, self._news = self._news, ""
            return news
        if self._files is None or not (lost := self._damage or self._files.lost()):
            return ""
        self._checkpoints.wait()
        with self._files.journal_held() as held:
            return self._renew(self._files, lost, journal=held)

    def _renew(self, files: StoreFiles, lost: str, *, journal: bool) -> str:
        """Do so; `journal`: that of `files` still has its name, and is held."""
        others_wrote = files.others_wrote()
        with translated(self._path):
            files.remove_beside()
        kept = copies.kept(self.db)
        # Without this it would move its journal into the file, and remove what has its names now.
        self.db.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)
        self.db.close()  # first: connections of one process share their locks, even lost ones
        replaced = files.lost()
        self.db, self._files = kept, files.given_up()
        if self._damage and not replaced:
            with translated(self._path):
                lost = f"{lost}; it is kept as {put_aside(self._path)}"
        self._damage = ""
        renewed = self.open_anew(self._path)
        if renewed._news:
            lost = renewed._news
        assert renewed._files is not None
        now = renewed._files.inodes
        # A part of the old content, or all of it, was in the journal alone.
        lacks_journal = now[0] == files.inodes[0] and not (journal and now[1] == files.inodes[1])
        behind = lacks_journal and not others_wrote and copies.has_sandboxes(kept)
        try:
            with renewed.writing() as db:
                if behind or not copies.has_sandboxes(db):
                    copies.put_back(kept, db)
        except BaseException:
            renewed.close()
            raise
        self.db, self._files = renewed.db, renewed._files
        self._changes += 1
        self.untold += 1
        kept.close()
        return lost

    @property
    def journal_is_long(self) -> bool:
        """Whether a checkpoint is due."""
        return self._changes - self._moved >= DUE

    def begin_checkpoint(self, ended: Callable[[], object]) -> bool:
        """Begin to move the journal into the file, in another thread; false if that cannot be now.

        `ended` is called by that thread; :meth:`end_checkpoint` then says how it went.
        """
        if self._files is None or not self._checkpoints.begin(self._files, ended):
            return False
        self._moved = self._changes
        return True

    def end_checkpoint(self) -> None:
        """Wait for the checkpoint, if one was begun.

        Raises:
            StoreDamaged: it is no database any more; :meth:`renew` makes it anew.
            WatcherError: the file cannot be written.
        """
        error = self._checkpoints.wait()
        if isinstance(error, StoreDamaged):
            self._damage = error.what
        if error is not None:
            raise error
        if not self._checkpoints.whole and self._changes - self._whole >= LONG:
            with translated(self._path):  # little is left to be moved
                self.db.execute(CHECKPOINT).fetchone()
        elif not self._checkpoints.whole:
            return
        self._whole = self._changes

    def version(self) -> tuple[int, int]:
        """Differs from an earlier result if the content may have changed since, whoever did it.

        Source: sqlite.org/pragma.html, `data_version`.

        Raises:
            WatcherError: the file cannot be read.
        """
        return self._changes, self._others()

    def others_version(self) -> tuple[int, int]:
        """Differs from an earlier result if the content may have changed, and no fact tells of it.

        Raises:
            WatcherError: the file cannot be read.
        """
        return self.untold, self._others()

    def _others(self) -> int:
        row = self.peek("PRAGMA data_version", ())
        assert row is not None
        return int(row[0])

    def peek(self, query: str, values: Sequence[str | int]) -> tuple[Any, ...] | None:
        """The first row of one query, which needs no transaction.

        Raises:
            WatcherError: the file cannot be read.
        """
        try:
            row: tuple[Any, ...] | None = self.db.execute(query, values).fetchone()
        except BROKEN as error:
            self.tell(error)
        return row

    def writing(self) -> Transaction:
        """A transaction that any exception rolls back; WatcherError if the file cannot be used."""
        return Transaction(self, "BEGIN IMMEDIATE", writes=True)

    def reading(self) -> Transaction:
        """A transaction whose reads see one moment; WatcherError if the file cannot be read."""
        return Transaction(self, "BEGIN", writes=False)

    def tell(self, error: sqlite3.DatabaseError | ValueError) -> NoReturn:
        """Raise `error` as one with a remedy, and remember it if the file is damaged."""
        try:
            tell(self._path, error)
        except StoreDamaged as damaged:
            self._damage = damaged.what
            raise


class Transaction:
    """A transaction, for `with`; a class is fast, and the hot path has a dozen of them."""

    __slots__ = ("_begin", "_database", "_db", "_writes")

    def __init__(self, database: Database, begin: str, *, writes: bool) -> None:
        self._database = database
        self._db = database.db
        self._begin = begin
        self._writes = writes

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._db.execute(self._begin)
        except BROKEN as error:
            self._database.tell(error)
        return self._db

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        try:
            if error is None:
                self._db.execute("COMMIT")
                self._database._changes += self._writes
        except BROKEN as refused:
            self._database.tell(refused)
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        if isinstance(error, BROKEN):
            self._database.tell(error)
