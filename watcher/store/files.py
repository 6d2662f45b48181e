"""The lease store's files as they were opened: people remove, move and replace them meanwhile.

Who has a file open that has no name any more writes for nobody, and is not told so.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from pathlib import Path

STORE: Final = "leases.db"
"""The lease store's file, in `state_dir`."""

SUFFIXES: Final = ("", "-wal", "-shm")
"""What SQLite puts behind a file's name: itself, its journal, and the journal's index and locks."""


@dataclass(frozen=True, slots=True)
class StoreFiles:
    """The files of one open database.

    Attributes:
        paths: the name of each.
        inodes: device and inode of each; `None` for one that was not there.
    """

    paths: tuple[str, ...]
    inodes: tuple[tuple[int, int] | None, ...]

    @classmethod
    def of(cls, path: Path) -> Self:
        """Those that are there now for the database `path`."""
        paths = tuple(f"{path}{suffix}" for suffix in SUFFIXES)
        return cls(paths, tuple(map(_inode, paths)))

    def given_up(self) -> Self:
        """The same, whatever becomes of them lost for good."""
        return replace(self, inodes=(None,) * len(self.inodes))

    def lost(self) -> str:
        """What became of the first that is not what it was; empty if all are. Costs a stat each."""
        for path, inode in zip(self.paths, self.inodes, strict=True):
            now = _inode(path)
            if now is None:
                return f"{path} was removed"
            if now != inode:
                return f"{path} was replaced"
        return ""

    def remove_beside(self) -> None:
        """Remove journal and index where the file itself is another: SQLite would mix the two.

        Raises:
            OSError: they cannot be removed.
        """
        if _inode(self.paths[0]) == self.inodes[0]:
            return
        for path, inode in zip(self.paths[1:], self.inodes[1:], strict=True):
            if inode is not None and _inode(path) == inode:
                os.unlink(path)  # noqa: PTH108


def put_aside(path: Path) -> str:
    """Give the files of a database that is of no use another name; which one the first has now.

    Raises:
        OSError: they cannot be renamed.
    """
    taken = {entry.name for entry in path.parent.iterdir()}
    names = (f"{path.name}.damaged-{number}" for number in count(1))
    aside = path.with_name(next(name for name in names if name not in taken))
    path.rename(aside)
    _, journal, index = SUFFIXES
    with suppress(FileNotFoundError):  # what is left of it if this is cut off is no part of another
        path.with_name(path.name + journal).rename(aside.with_name(aside.name + journal))
    path.with_name(path.name + index).unlink(missing_ok=True)
    return str(aside)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 (hot path)
    except OSError:  # whatever is in the way: by that name it cannot be had
        return None
    return status.st_dev, status.st_ino
