"""The file of the lease store: opening it, opening it anew where it was lost, its transactions."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from watcher.store import copies, failures, schema
from watcher.store.errors import BROKEN, StoreDamaged, tell, translated
from watcher.store.files import StoreFiles, put_aside
from watcher.store.opening import check, connect, make, shrink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PAGE_SIZE: Final = 1024
"""Bytes of a page of a new file: a commit writes every page that it touches, some sixteen."""

CHECKPOINT: Final = 16384
"""Pages in the journal at which a commit stops to move them into the file itself."""


class Database:
    """One open file.

    Attributes:
        db: the connection; statements run by themselves outside of the transactions below.
    """

    __slots__ = ("_damage", "_files", "_news", "_path", "db")

    def __init__(self, db: sqlite3.Connection, path: Path, files: StoreFiles | None = None) -> None:
        self.db = db
        self._path = path
        self._files = files
        self._damage = ""
        """What SQLite said of the file since it was opened, if that is of no use any more."""
        self._news = ""
        """What became of the file that was there before this one."""

    @classmethod
    def open_anew(cls, path: Path, in_use_by: Callable[[], str] = lambda: "") -> Self:
        """As :meth:`open`; a file that is no database or damaged is given another name before.

        Another program's database, or that of a newer version, is left as it is. Whoever calls this
        has the host-wide lock.

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
        """Opens `path` to read and write, making it and bringing it up to date as needed.

        Args:
            path: the file.
            in_use_by: as :func:`watcher.store.opening.check` has it.

        Raises:
            StoreDamaged: it is no database, or a damaged one.
            WatcherError: it cannot be opened or written, is something else, is a newer program's,
                or an older service has it open.
        """
        with translated(path):
            make(path)
            made = StoreFiles.of(path)  # before it is opened: one put in its place is told then
            db = connect(path, "mode=rw")
            try:
                check(db, path, in_use_by)
                db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
                db.execute("PRAGMA journal_mode = WAL")
                # Without a sync at each commit, the last of them can be lost with the machine's
                # power, the file stays whole, and a killed program loses nothing. No lease of that
                # boot is worth anything to the next.
                db.execute("PRAGMA synchronous = NORMAL")
                db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
                schema.migrate(db)
                failures.cut(db)
                shrink(db)
                db.execute("PRAGMA foreign_keys = ON")
            except BaseException:
                db.close()
                raise
            beside = StoreFiles.of(path).inodes[1:]
            return cls(db, path, StoreFiles(made.paths, (made.inodes[0], *beside)))

    @classmethod
    def open_empty(cls, path: Path, news: str) -> Self:
        """An empty one in memory, in place of `path`, of which `news` tells."""
        database = cls(copies.empty(), path)
        database._news = news
        return database

    @classmethod
    def open_copy(cls, path: Path, *, read_only: bool = True) -> Self:
        """Opens a copy, in memory, of what `path` holds now; empty if there is none.

        It waits for no writer, and no writer for it. It makes no file unless a writer that was
        killed has left its journal behind.

        Raises:
            WatcherError: as :meth:`open`.
        """
        with translated(path):
            copy = sqlite3.connect(":memory:", isolation_level=None)
            try:
                copies.fill(copy, path)
                schema.migrate(copy)
                copy.execute("PRAGMA foreign_keys = ON")
                copy.execute(f"PRAGMA query_only = {read_only}")
            except BaseException:
                copy.close()
                raise
            return cls(copy, path)

    def close(self) -> None:
        """Closes the file; a second time does nothing."""
        self.db.close()

    def lost(self) -> str:
        """Which of its files was removed, replaced or damaged meanwhile; empty if none was."""
        return self._news or self._damage or ("" if self._files is None else self._files.lost())

    def renew(self) -> str:
        """Opens anew, by its name, a database of which :meth:`lost` has something to tell.

        What was in it is put into the file that is there now, or was made, unless that has
        sandboxes of its own. Until there is one that can be opened, it is kept in memory. A file
        that is no database, or a damaged one, is given another name before.

        Returns:
            What :meth:`lost` told.

        Raises:
            WatcherError: as :meth:`open`.
        """
        if self._news:
            news, self._news = self._news, ""
            return news
        if self._files is None or not (lost := self._damage or self._files.lost()):
            return ""
        with translated(self._path):
            self._files.remove_beside()
        kept = copies.kept(self.db)
        self.db.close()  # first: connections of one process share their locks, those lost as well
        replaced = self._files.lost()
        self.db, self._files = kept, self._files.given_up()
        if self._damage and not replaced:
            with translated(self._path):
                lost = f"{lost}; it is kept as {put_aside(self._path)}"
        self._damage = ""
        renewed = self.open_anew(self._path)
        if renewed._news:
            lost = renewed._news
        try:
            with renewed.writing() as db:
                if db.execute("SELECT 1 FROM sandbox").fetchone() is None:
                    copies.put_back(kept, db)
        except BaseException:
            renewed.close()
            raise
        self.db, self._files = renewed.db, renewed._files
        kept.close()
        return lost

    def checkpoint(self) -> None:
        """Moves the journal into the file itself, as far as no reader is in the way.

        Before, it looks whether others can read it as well: what is in this one's memory says
        nothing of a file that somebody has written to.

        Raises:
            StoreDamaged: it is no database any more; :meth:`renew` makes it anew.
            WatcherError: the file cannot be written.
        """
        try:
            with translated(self._path), closing(connect(self._path, "mode=ro")) as other:
                schema.version_of(other)
        except StoreDamaged as damaged:
            self._damage = damaged.what
            raise
        with translated(self._path):
            self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

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
        """A transaction that writes: all of it is done, or on any exception nothing.

        It raises WatcherError where the file cannot be read or written.
        """
        return Transaction(self, "BEGIN IMMEDIATE")

    def reading(self) -> Transaction:
        """A transaction whose reads are all of one moment.

        It raises WatcherError where the file cannot be read.
        """
        return Transaction(self, "BEGIN")

    def tell(self, error: sqlite3.DatabaseError | ValueError) -> NoReturn:
        """Raises what `error` says of the file; of one that is damaged it is remembered."""
        try:
            tell(self._path, error)
        except StoreDamaged as damaged:
            self._damage = damaged.what
            raise


class Transaction:
    """A transaction, in a `with`; a class of its own because the hot path has a dozen."""

    __slots__ = ("_begin", "_database", "_db")

    def __init__(self, database: Database, begin: str) -> None:
        self._database = database
        self._db = database.db
        self._begin = begin

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
        except BROKEN as refused:
            self._database.tell(refused)
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        if isinstance(error, BROKEN):
            self._database.tell(error)
