"""Notices that the lease store's files were removed, moved or replaced while open.

Otherwise a process would go on writing to a file without a name, and get no error.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watcher.config.settings import Config

SUFFIXES: Final = ("", "-wal", "-shm")
"""SQLite's file name suffixes: the file, its journal, and the journal's index and locks."""


def store_path(config: Config) -> Path:
    """The file of the lease store."""
    return Path(config.state_dir, "leases.db")


class StoreFiles(Struct, frozen=True):
    """The files of one open database.

    Attributes:
        paths: their names.
        inodes: device and inode of each; `None` for a missing file.
    """

    paths: tuple[str, ...]
    inodes: tuple[tuple[int, int] | None, ...]

    @classmethod
    def of(cls, path: Path) -> Self:
        """The present files of the database `path`."""
        paths = tuple(f"{path}{suffix}" for suffix in SUFFIXES)
        return cls(paths, tuple(map(_inode, paths)))

    @classmethod
    def opened(cls, path: Path) -> Self:
        """The present files of the database `path`, which this process has open.

        One of them that it has not counts as lost: while SQLite opened it, that which it opened was
        removed, and another process has made another one.
        """
        there, opened = cls.of(path), _opened()
        return replace(there, inodes=tuple(i if i in opened else None for i in there.inodes))

    def given_up(self) -> Self:
        """The same files, marked as lost for good; which the first one was stays known."""
        return replace(self, inodes=(self.inodes[0], None, None))

    def lost(self) -> str:
        """What happened to the first file that changed; empty if none did. One stat per file."""
        for path, inode in zip(self.paths, self.inodes, strict=True):
            try:
                now = os.stat(path)  # noqa: PTH116 (hot path)
            except OSError:  # whatever the cause, the name cannot be used
                return f"{path} was removed"
            if (now.st_dev, now.st_ino) != inode:
                return f"{path} was replaced"
        return ""

    @property
    def has_file(self) -> bool:
        """Whether the file itself is still the same, whatever became of those beside it."""
        return _inode(self.paths[0]) == self.inodes[0]

    @contextmanager
    def journal_held(self) -> Iterator[bool]:
        """Yields whether the journal still has its name.

        Meanwhile no other file gets its inode number, even if it is removed and closed.
        """
        try:
            held = os.open(self.paths[1], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            yield False
            return
        try:
            status = os.fstat(held)
            yield (status.st_dev, status.st_ino) == self.inodes[1]
        finally:
            os.close(held)  # SQLite has no locks on a journal, which this would release

    def others_wrote(self) -> bool:
        """Whether the file is the same, and another process wrote to it after the journal was lost.

        The process found no journal by its name, and began another one.
        """
        return (
            self.has_file
            and _inode(self.paths[1]) != self.inodes[1]
            and not has_no_journal(Path(self.paths[0]))
        )

    def remove_beside(self) -> None:
        """Remove the journal and the index that do not go with the file: SQLite would mix them.

        They are its own if the file itself is another one, and those of another process, which has
        written nothing, if only its own were lost.

        Raises:
            OSError: they cannot be removed.
        """
        same = self.has_file
        if same and not has_no_journal(Path(self.paths[0])):
            return
        for path, inode in zip(self.paths[1:], self.inodes[1:], strict=True):
            if same or (inode is not None and _inode(path) == inode):
                with suppress(FileNotFoundError):
                    os.unlink(path)  # noqa: PTH108


def has_no_journal(path: Path) -> bool:
    """Whether the database `path` has no journal, or one with nothing in it.

    Nothing is in the one that a process has just made. If the one before was removed while another
    process has it open, SQLite cannot read beside that process: their index has what the journal
    lacks.
    """
    try:
        return path.with_name(path.name + SUFFIXES[1]).stat().st_size == 0
    except FileNotFoundError:
        return True


def put_aside(path: Path) -> str:
    """Rename the files of a useless database; returns the new name of the first.

    Raises:
        OSError: they cannot be renamed.
    """
    taken = {entry.name for entry in path.parent.iterdir()}
    names = (f"{path.name}.damaged-{number}" for number in count(1))
    aside = path.with_name(next(name for name in names if name not in taken))
    with suppress(FileNotFoundError):  # somebody was faster
        path.rename(aside)
    _, journal, index = SUFFIXES
    with suppress(FileNotFoundError):  # what is left of them belongs to no other database
        path.with_name(path.name + journal).rename(aside.with_name(aside.name + journal))
    path.with_name(path.name + index).unlink(missing_ok=True)
    return str(aside)


def _opened() -> set[tuple[int, int]]:
    """Device and inode of every file that this thread can use."""
    found = set()
    for descriptor in Path("/proc/thread-self/fd").iterdir():
        with suppress(OSError):  # that of the list itself is closed by now
            status = os.fstat(int(descriptor.name))
            found.add((status.st_dev, status.st_ino))
    return found


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 (hot path)
    except OSError:  # whatever the cause, the name cannot be used
        return None
    return status.st_dev, status.st_ino
