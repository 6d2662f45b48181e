"""The host's locks: one writer at a time, one service at a time. Source: flock(2).

A waiter waits in short steps, so that it can name the holder and every wait has an end. The kernel
knows the holder (`/proc/locks`), so taking a lock writes nothing.

A killed process that waits uninterruptibly in the kernel (a frozen disk, an absent file server)
keeps its locks until that wait ends. It changes nothing any more, so a waiter replaces its lock
file by a new one. A process that gets a lock then checks that the file still has the lock's name.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from handlers.kernel.directories import make_directory
from watcher.locks import holders
from watcher.locks.holders import Holder
from watcher.locks.names import PATIENCE
from watcher.model.errors import WatcherError

_TRIES: Final = 10
"""How often to make a directory again if another process removes it."""


MOMENT: Final = 1.0
"""Seconds to wait for another service to end: a killed one takes a moment."""

WRITERS_PATIENCE: Final = 60.0
"""Seconds that a command waits for a writer that makes progress: a start may attach thousands."""

HOPELESS: Final = 2.0
"""Seconds that a command waits for a writer that is stopped, or was killed but does not end."""

GRACE: Final = 1.0
"""Seconds to wait longer if no holder is found: it may just have ended."""

_STEPS: Final = (0.001, 0.05)
"""Seconds between two tries: first and maximum."""


class Busy(WatcherError):
    """Another process has the lock.

    Attributes:
        holder: that process; `None` if it has just released the lock.
    """

    def __init__(self, path: Path, holder: Holder | None) -> None:
        if holder is None:
            super().__init__(f"{path} is held by many in turn", "try again")
        else:
            super().__init__(f"{holder} has {path}", holder.remedy)
        self.holder = holder

    @property
    def who(self) -> str:
        """The holder in words."""
        return str(self.holder or "a process that cannot be seen from here")


class Lock:
    """A lock file in `run_dir`; the kernel releases it when its holder ends in any way.

    A removed file is no lock any more. So after locking, the file is compared with the present one
    of that name, which is opened instead if it differs.

    Args:
        run_dir: its directory, which is made if it is missing.
        name: its name.
        patience: seconds that :meth:`locked` waits for another process.
        hopeless: the same, if that process is stopped, or was killed but does not end.
        told: called once with a message about a long wait, or about a lock taken over from a
            process that cannot end.
        rest: waits for a moment; its exceptions end the wait.

    Raises:
        WatcherError: the file cannot be opened.
    """

    def __init__(
        self,
        run_dir: str,
        name: str,
        *,
        patience: float = WRITERS_PATIENCE,
        hopeless: float = HOPELESS,
        told: Callable[[str], object] = lambda _: None,
        rest: Callable[[float], object] = time.sleep,
    ) -> None:
        self._path = Path(run_dir, name)
        self._patience = patience
        self._hopeless = min(hopeless, patience)
        self._told = told
        self._rest = rest
        self._name = str(self._path)
        self._descriptor = _open(self._path)
        self._file = _file(os.fstat(self._descriptor))

    def close(self) -> None:
        """Release it and close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def locked(self) -> Locked:
        """A context manager that has the lock; entering it raises Busy after too long a wait."""
        return Locked(self)

    def acquire(self) -> None:
        """Take the lock until `release`; see :meth:`locked`."""
        if not self._seized():
            self._wait()

    def release(self) -> None:
        """Release the lock."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def wait_no_longer(self, seconds: float) -> None:
        """Make :meth:`locked` wait at most `seconds` from now on, without the `rest` given."""
        self._patience = self._hopeless = seconds
        self._rest = time.sleep

    def free(self) -> bool:
        """Whether no process has it now."""
        if not self._seized():
            return False
        self.release()
        return True

    def lost(self) -> bool:
        """Whether its file was removed or replaced, so that other processes open another file."""
        try:
            return _file(os.lstat(self._name)) != self._file
        except FileNotFoundError:
            return True

    def renew(self) -> None:
        """Open the present file of that name, made if it is missing, without locking it."""
        self._change_to(_open(self._path))

    def remove(self) -> None:
        """Remove the file while it is locked; a waiter makes a new one."""
        self._path.unlink(missing_ok=True)

    def take(self, note: str = "") -> bool:
        """Take the lock until `close`, with a `note` in it; false if another process has it."""
        if not self._seized():
            return False
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n%s" % (os.getpid(), os.fsencode(note)), 0)
        return True

    def wait_and_take(self, note: str = "") -> None:
        """Wait for the lock, take it until `close`, and write `note` into it.

        Raises:
            Busy: another process keeps it for longer than this one waits.
        """
        if not self.take(note):
            self._wait()
            self.take(note)

    def holder(self) -> Holder | None:
        """Its holder; `None` if there is none or it is unknown."""
        return holders.holder_of(self._descriptor)

    def _seized(self) -> bool:
        """Try to lock the present file of that name; returns whether that worked."""
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not self.lost():
                    return False
            else:
                if not self.lost():
                    return True
            self.renew()

    def _change_to(self, descriptor: int) -> None:
        before, self._descriptor = self._descriptor, descriptor
        self._file = _file(os.fstat(descriptor))
        os.close(before)

    def _wait(self) -> None:
        """Wait for the lock and take it, or raise Busy."""
        began = time.monotonic()
        told = False
        step, longest = _STEPS
        while not self._seized():
            waited = time.monotonic() - began
            holder = None
            if waited >= min(self._patience, PATIENCE):
                holder = self.holder()
            if holder is not None and holder.cannot_end and self._took_over(holder):
                self._told(f"{holder}; its lock {self._path} is taken over")
                return
            hopeless = holder is not None and (holder.stopped or holder.cannot_end)
            limit = self._hopeless if hopeless else self._patience
            if waited >= (limit if holder is not None else limit + GRACE):
                raise Busy(self._path, holder)
            if holder is not None and not told:
                told = True
                self._told(f"waiting: {holder} has {self._path}; {holder.remedy}")
            self._rest(step)
            step = min(step * 2, longest)

    def _took_over(self, holder: Holder) -> bool:
        """Replace the file that `holder` keeps by a new one, locked by this process."""
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)  # by one process at a time
            if self._seized():
                return True
            if self.holder() != holder:
                return False
            beside = self._path.with_suffix(f".{os.getpid()}")
            beside.unlink(missing_ok=True)
            mine = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(mine, fcntl.LOCK_EX)
            beside.rename(self._path)
            self._change_to(mine)
            return True
        except BlockingIOError:  # another process is doing this
            return False
        finally:
            os.close(directory)


class Locked:
    """The context of a taken lock; a class because the hot path uses it twice per container."""

    __slots__ = ("_lock",)

    def __init__(self, lock: Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def written_in(descriptor: int) -> tuple[str, str]:
    """The pid and the note that the last `take` wrote into the lock file `descriptor`."""
    pid, _, note = os.pread(descriptor, 1 << 13, 0).partition(b"\n")
    return pid.decode("ascii", "replace").strip(), os.fsdecode(note)


def _file(status: os.stat_result) -> tuple[int, int]:
    """What identifies a file as long as it is open or has a name: its device and inode number."""
    return status.st_dev, status.st_ino


def _open(path: Path) -> int:
    """Open the lock file `path`, and make it if it is missing.

    Raises:
        WatcherError: it cannot be opened, or belongs to another user.
    """
    try:
        descriptor = _made(path)
    except OSError as error:
        raise WatcherError(
            f"{path} cannot be opened: {error.strerror}",
            f"run as root, and make {path.parent} a writable directory",
        ) from error
    if os.fstat(descriptor).st_uid == os.geteuid():
        return descriptor
    os.close(descriptor)
    raise WatcherError(f"{path} belongs to another user", "remove it, and find out whose it is")


def _made(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(_TRIES):
        make_directory(path.parent, 0o755)  # each file in it has a mode of its own
        with suppress(FileNotFoundError):  # `down` has just removed the directory
            return os.open(path, flags, 0o600)
    return os.open(path, flags, 0o600)
