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

PATIENCE: Final = 1.0
"""Seconds that a reader waits for a writer, who takes milliseconds for one container."""


class Lock:
    """A lock file below `run_dir`; the kernel lets it go when its holder ends, however it ends."""

    def __init__(self, run_dir: str, name: str) -> None:
        directory = Path(run_dir)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(
                directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise WatcherError(
                f"{directory / name} cannot be opened: {error.strerror}",
                "run as root, and make run_dir a writable directory",
            ) from error

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
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def take(self) -> bool:
        """Take the lock until `close`; whether nobody else has it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)
        return True

    def holder(self) -> str:
        """The pid that the last one to `take` it wrote."""
        return os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()


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
