"""The host's locks: one writer at a time, one service at a time. Source: flock(2)."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn, Self

from watcher.errors import WatcherError

WRITERS: Final = "lock"
"""The lock that whoever changes the host or the lease store has meanwhile."""

SERVICE: Final = "service.lock"
"""The lock that a service has as long as it runs.

It is taken under the other one, the writers': who has that and is refused this one, or is not, may
go by it.
"""

_TRIES: Final = 10
"""How often a directory is made that somebody removes again."""

PATIENCE: Final = 1.0
"""Seconds that a reader waits for a writer, who takes milliseconds for one container."""


class Lock:
    """A lock file below `run_dir`; the kernel lets it go when its holder ends, however it ends.

    What is locked is the file that has the name now: one that was removed is nobody's lock any
    more, so whoever gets it opens the name anew.
    """

    def __init__(self, run_dir: str, name: str) -> None:
        self._path = Path(run_dir, name)
        self._descriptor = _open(self._path)

    def close(self) -> None:
        """Let it go, if it is held, and close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the lock, and hold it meanwhile."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        while self.lost():
            self.renew()
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def lost(self) -> bool:
        """Whether its file was removed or replaced: whoever opens it now has another lock."""
        try:
            there = os.lstat(self._path)
        except FileNotFoundError:
            return True
        return not os.path.samestat(there, os.fstat(self._descriptor))

    def renew(self) -> None:
        """Open what is there now, and make it if it is not; it is held no more.

        Raises:
            WatcherError: it cannot be opened.
        """
        before, self._descriptor = self._descriptor, _open(self._path)
        os.close(before)

    def take(self, note: str = "") -> bool:
        """Take the lock until `close`, and leave a `note` in it; whether nobody else has it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            while self.lost():
                self.renew()
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n%s" % (os.getpid(), os.fsencode(note)), 0)
        return True

    def holder(self) -> str:
        """The pid that the last one to `take` it wrote."""
        return holder_of(self._descriptor)[0]

    def remove(self) -> None:
        """Remove the file of a lock that is held; whoever waits for it makes it anew."""
        self._path.unlink(missing_ok=True)


def holder_of(descriptor: int) -> tuple[str, str]:
    """The pid and the note that the last one to `take` the lock file `descriptor` wrote."""
    pid, _, note = os.pread(descriptor, 1 << 13, 0).partition(b"\n")
    return pid.decode("ascii", "replace").strip(), os.fsdecode(note)


def _open(path: Path) -> int:
    """The lock file `path`, made where it is missing.

    Raises:
        WatcherError: it cannot be opened, or is another user's.
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
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # `down` has just removed the directory
            return os.open(path, flags, 0o600)
    return os.open(path, flags, 0o600)


@contextmanager
def settled(run_dir: str) -> Iterator[None]:
    """Have nobody change the host or the lease store meanwhile, so that nothing is half-made.

    A writer that is at it is waited for, but no longer than `PATIENCE`. For the main thread.
    """
    try:
        descriptor = os.open(Path(run_dir, WRITERS), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # nobody has ever written, or whoever asks may not know
        yield
        return
    try:
        with suppress(TimeoutError), _alarm(PATIENCE):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what takes longer. Source: setitimer(2)."""

    def late(*_: object) -> NoReturn:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
