"""The only service of a network namespace, wherever its `run_dir` is.

Its lock has a fixed path with the namespace's inode number, in a directory in which only root can
make a file. (Any user could take the name of an abstract socket first.) The lock in `run_dir`
excludes services with the same configuration; this one excludes those with another.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct

from watcher.containers import proc
from watcher.locks.lock import MOMENT, Busy, Lock, written_in
from watcher.model.errors import WatcherError, quoted

DIRECTORY: Final = "/run"


class Serving(Struct, frozen=True):
    """The service of this network namespace.

    Attributes:
        pid: its pid, as it sees itself.
        run_dir: its `run_dir` with links resolved.
    """

    pid: str
    run_dir: str

    def is_by(self, run_dir: str) -> bool:
        """Whether its `run_dir` is `run_dir`."""
        return self.run_dir == os.path.realpath(run_dir)


def serving() -> Serving | None:
    """The service of this network namespace, or `None`; `OSError` if that is unknown."""
    try:
        descriptor = os.open(_path(), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Serving(*written_in(descriptor))
    finally:
        os.close(descriptor)
    return None  # its process has ended


def serve(
    run_dir: str,
    *,
    told: Callable[[str], object] = lambda _: None,
    rest: Callable[[float], object] = time.sleep,
) -> Lock:
    """Take the lock of this network namespace's service; it is locked until it is closed.

    Args:
        run_dir: the `run_dir` of this service.
        told, rest: as in :class:`watcher.locks.lock.Lock`.

    Raises:
        WatcherError: another process has it, or it cannot be made.
    """
    path = _path()
    lock = Lock(str(path.parent), path.name, patience=MOMENT, told=told, rest=rest)
    try:
        lock.wait_and_take(os.path.realpath(run_dir))
    except Busy as busy:
        lock.close()
        raise _refusal(serving()) from busy
    except BaseException:
        lock.close()
        raise
    return lock


def refuse_other(run_dir: str) -> None:
    """Raise WatcherError if a service with another `run_dir` serves this host, or if unknown."""
    try:
        other = serving()
    except OSError as error:
        raise WatcherError(
            f"{_path()} cannot be opened: {error.strerror}", "run as root"
        ) from error
    if other is not None and not other.is_by(run_dir):
        raise _refusal(other)


def _refusal(other: Serving | None) -> WatcherError:
    who = "another one" if other is None else f"process {other.pid} with run_dir = "
    where = "" if other is None else quoted(other.run_dir)
    return WatcherError(
        f"a watcher serves this network namespace already: {who}{where}",
        "stop it first, or use its configuration (`watcher --config FILE`)",
    )


def _path() -> Path:
    return Path(DIRECTORY, f"watcher-{proc.own_netns()}.lock")
