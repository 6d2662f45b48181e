"""What `/proc` says of an init: whether it is the process that the hold is about."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from handlers.kernel.processes import parent, start_time
from handlers.moving.errors import CannotMove

if TYPE_CHECKING:
    from watcher.model.container import Process

_GONE: Final = (FileNotFoundError, ProcessLookupError)

_CAP_SYS_ADMIN: Final = 21
"""`include/uapi/linux/capability.h`."""

AGAIN: Final = "start it again"


def tasks(pid: int) -> list[int]:
    """The threads of process `pid`; none if it has ended."""
    with suppress(*_GONE):
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208
    return []


def check(init: Process, runtime: int) -> None:
    """Check that `init` is the child of process or thread `runtime`, and of the host's users.

    Raises:
        CannotMove: it is another process, or has ended.
    """
    above = parent(init.pid)
    if above is None or start_time(init.pid) != init.start:
        raise CannotMove("its init has ended", AGAIN)
    if not os.access(f"/proc/{above}/task/{runtime}", os.F_OK):
        raise CannotMove("its init is not the child of the runtime that waits")
    if _inode(f"/proc/{init.pid}/ns/user") != _inode("/proc/self/ns/user"):
        raise CannotMove("it has a user namespace of its own")


def check_powers(pid: int) -> None:
    """Check that process `pid` may move itself, and that this one may kill it (kill(2)).

    Raises:
        CannotMove: it has given up what it needs, as the init of `crun create` has when it is held.
    """
    status = _status(pid)
    if not int(status[b"CapEff"], 16) >> _CAP_SYS_ADMIN & 1:
        raise CannotMove("its init has given up its capabilities already")
    if set(status[b"Uid"].split()) != {b"%d" % os.geteuid()}:
        raise CannotMove("its init runs as another user already")


def check_threads(pid: int, threads: list[int], netns: int) -> None:
    """Check that each of the stopped `threads` is in the namespace `netns`, and has no child.

    Raises:
        CannotMove: one is elsewhere, or the process `pid` has made another process.
    """
    for tid in threads:
        if netns_of(pid, tid) != netns:
            raise CannotMove("its init is not in the network namespace that it had", AGAIN)
        with open(f"/proc/{pid}/task/{tid}/children", "rb", buffering=0) as children:  # noqa: PTH123
            if children.read(1):
                remedy = "let no hook leave a process behind in the container"
                raise CannotMove("another process is in the container already", remedy)


def netns_of(pid: int, tid: int) -> int | None:
    """Inode number of the network namespace of a thread; `None` if it has ended."""
    return _inode(f"/proc/{pid}/task/{tid}/ns/net")


def has_ended(pid: int, tid: int) -> bool:
    """Whether a thread has ended, though its process may go on."""
    try:
        return _status(f"{pid}/task/{tid}")[b"State"][:1] in (b"Z", b"X")
    except _GONE:
        return True


def tracer_of(pid: int) -> int:
    """The process that traces process `pid`; 0 if there is none."""
    try:
        return int(_status(pid)[b"TracerPid"])
    except _GONE:
        return 0


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino  # noqa: PTH116
    except _GONE:
        return None


def _status(task: int | str) -> dict[bytes, bytes]:
    """The lines of `/proc/<task>/status` by their keys (proc_pid_status(5))."""
    lines = (line.partition(b":") for line in _read(f"/proc/{task}/status").splitlines())
    return {key: value.strip() for key, _, value in lines}


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        return file.read(1 << 13)
