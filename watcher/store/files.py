"""Notices that the lease store's files were removed, moved or replaced while open.

Otherwise a process would go on writing to a file without a name, and get no error.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
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

    def given_up(self) -> Self:
        """The same files, marked as lost for good."""
        return replace(self, inodes=(None,) * len(self.inodes))

    def lost(self) -> str:
        """What happened to the first file that changed; empty if none did. One stat per file."""
        for path, inode in zip(self.paths, self.inodes, strict=True):
            now = _inode(path)
            if now is None:
                return f"{path} was removed"
            if now != inode:
                return f"{path} was replaced"
        return ""

    def remove_beside(self) -> None:
        """Remove journal and index if the file itself is another one: SQLite would mix them.

        Raises:
            OSError: they cannot be removed.
        """
        if _inode(self.paths[0]) == self.inodes[0]:
            return
        for path, inode in zip(self.paths[1:], self.inodes[1:], strict=True):
            if inode is not None and _inode(path) == inode:
                os.unlink(path)  # noqa: PTH108


def put_aside(path: Path) -> str:
    """Rename the files of a useless database; returns the new name of the first.

    Raises:
        OSError: they cannot be renamed.
    """
    taken = {entry.name for entry in path.parent.iterdir()}
    names = (f"{path.name}.damaged-{number}" for number in count(1))
    aside = path.with_name(next(name for name in names if name not in taken))
    path.rename(aside)
    _, journal, index = SUFFIXES
    with suppress(FileNotFoundError):  # what is left of them belongs to no other database
        path.with_name(path.name + journal).rename(aside.with_name(aside.name + journal))
    path.with_name(path.name + index).unlink(missing_ok=True)
    return str(aside)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 (hot path)
    except OSError:  # whatever the cause, the name cannot be used
        return None
    return status.st_dev, status.st_ino
