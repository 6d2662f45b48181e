"""The host's locks: one writer at a time, one service at a time. Source: flock(2).

Whoever waits for one waits in short steps, so that it can be told who has it, and so that a wait
has an end. Who that is, the kernel tells (`/proc/locks`): nothing is written where a lock is taken.

A killed process that waits uninterruptibly in the kernel (a frozen disk, a file server that is
away) keeps its locks for as long. It changes nothing any more, so its lock file is replaced by a
new one. Whoever gets a lock therefore sees that its file is still the one by that name.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn, Self

from watcher.locks import holders
from watcher.locks.holders import Holder
from watcher.model.errors import WatcherError

WRITERS: Final = "lock"
"""The lock that whoever changes the host or the lease store has meanwhile."""

SERVICE: Final = "service.lock"
"""The lock that a service has as long as it runs.

Who has the writers' lock may see whether it is free, and go by that: a service that starts makes
its roots mounts again once it has had the writers' lock.
"""

_TRIES: Final = 10
"""How often a directory is made that somebody removes again."""

PATIENCE: Final = 1.0
"""Seconds that a reader waits for a writer, who takes milliseconds for one container."""

MOMENT: Final = 1.0
"""Seconds to wait for the end of another service: one that was killed takes a moment."""

WRITERS_PATIENCE: Final = 60.0
"""Seconds that a command waits for a writer that works: a start attaches thousands."""

HOPELESS: Final = 2.0
"""Seconds that a command waits for a writer that is stopped, or was killed and does not end."""

GRACE: Final = 1.0
"""Seconds to wait longer where nobody is seen to have it: who had it may just have ended."""

_STEPS: Final = (0.001, 0.05)
"""Seconds between two tries: at first, and at the most."""


class Busy(WatcherError):
    """Another process has the lock.

    Attributes:
        holder: who that is; `None` if it has just let it go.
    """

    def __init__(self, path: Path, holder: Holder | None) -> None:
        if holder is None:
            super().__init__(f"{path} is held by many in turn", "try again")
        else:
            super().__init__(f"{holder} has {path}", holder.remedy)
        self.holder = holder


class Lock:
    """A lock file below `run_dir`; the kernel lets it go when its holder ends, however it ends.

    What is locked is the file that has the name now: one that was removed is nobody's lock any
    more, so whoever gets it opens the name anew.

    Args:
        run_dir: its directory, which is made if need be.
        name: its name.
        patience: seconds that :meth:`held` waits for another process.
        hopeless: seconds that it waits where that is stopped, or was killed and does not end.
        told: called once with what there is to tell of a wait that lasts, and of a lock that was
            taken over from a process that cannot end.
        rest: how to wait for a moment; what it raises ends the wait.

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
        self._descriptor = _open(self._path)

    def close(self) -> None:
        """Let it go, if it is held, and close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def held(self) -> Held:
        """Hold the lock meanwhile, in a `with`.

        It raises Busy where another process has the lock, for longer than this one waits.
        """
        return Held(self)

    def acquire(self) -> None:
        """Take the lock until `release`; see :meth:`held`."""
        if not self._seized():
            self._wait()

    def release(self) -> None:
        """Let the lock go."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def wait_no_longer(self, seconds: float) -> None:
        """Have :meth:`held` wait for `seconds` from now on, whatever `rest` was."""
        self._patience = self._hopeless = seconds
        self._rest = time.sleep

    def free(self) -> bool:
        """Whether nobody has it now."""
        if not self._seized():
            return False
        self.release()
        return True

    def lost(self) -> bool:
        """Whether its file was removed or replaced: whoever opens it now has another lock."""
        try:
            there = os.stat(self._path, follow_symlinks=False)  # noqa: PTH116 (hot path)
        except FileNotFoundError:
            return True
        return not os.path.samestat(there, os.fstat(self._descriptor))

    def renew(self) -> None:
        """Open what is there now, and make it if it is not; it is held no more.

        Raises:
            WatcherError: it cannot be opened.
        """
        self._change_to(_open(self._path))

    def remove(self) -> None:
        """Remove the file of a lock that is held; whoever waits for it makes it anew."""
        self._path.unlink(missing_ok=True)

    def take(self, note: str = "") -> bool:
        """Take the lock until `close`, and leave a `note` in it; whether nobody else has it."""
        if not self._seized():
            return False
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n%s" % (os.getpid(), os.fsencode(note)), 0)
        return True

    def wait_and_take(self, note: str = "") -> None:
        """Take the lock until `close`, as soon as nobody else has it, and leave a `note` in it.

        Raises:
            Busy: another process has it, for longer than this one waits.
        """
        if not self.take(note):
            self._wait()
            self.take(note)

    def holder(self) -> Holder | None:
        """Who has it; `None` if nobody has, or it cannot be known."""
        return holders.holder_of(self._descriptor)

    def _seized(self) -> bool:
        """Whether it is had from now on: of the file that is there by its name now."""
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
        os.close(before)

    def _wait(self) -> None:
        """Return with the lock held, or raise Busy."""
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
        """Put a new file, which this process has, in place of the one that `holder` keeps."""
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody else does it meanwhile
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
        except BlockingIOError:  # somebody else does it
            return False
        finally:
            os.close(directory)


class Held:
    """A lock while it is held; a class because the hot path has it twice a container."""

    __slots__ = ("_lock",)

    def __init__(self, lock: Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def written_in(descriptor: int) -> tuple[str, str]:
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
