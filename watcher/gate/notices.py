"""Notices: why a runc fails or was held too long, written to the standard error of that runc.

runc itself says no more than that it is "unable to store init state". So one line is written to its
descriptor 2, which pidfd_getfd(2) copies, while it is still held.

Whoever started runc chose that descriptor, so it is not trusted. It may be a terminal under Ctrl-S,
a full pipe, or a file of a frozen file system. So the write is made in a thread of its own, for
which a held runc waits only a moment. And it may be something to which a write by root is an order,
such as a file of `/proc` or a netlink socket. So only terminals, pipes, streams and files of
ordinary file systems get the line.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from handlers.kernel import descriptors, processes
from watcher.gate import filesystems
from watcher.gate.aside import Aside
from watcher.gate.hold import LAST_WORDS
from watcher.model.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from watcher.gate.hold import Hold

_PATIENCE: Final = 0.02
"""Seconds to wait until a descriptor takes the line."""

_MOST: Final = 4
"""The most threads, so the most notices that hang at once."""

_MAX_LINE: Final = 4096
"""Bytes of the longest notice: a pipe takes so many at once (PIPE_BUF, pipe(7))."""

_STDERR: Final = 2
_RWF_NOWAIT: Final = 8
"""`include/uapi/linux/fs.h`; Python has the name, but not everywhere."""

_STREAMS: Final = frozenset((socket.AF_UNIX, socket.AF_INET, socket.AF_INET6))


class Notices:
    """Writes notices.

    Args:
        keep: descriptors that the `done` of :meth:`send` needs.
    """

    def __init__(self, keep: Collection[int]) -> None:
        self._aside = Aside(keep, _MOST)

    def send(self, hold: Hold, why: str, done: Callable[[], object] = lambda: None) -> bool:
        """Write the line `why` to the standard error of a runc that is held now. From any thread.

        Nothing is written once :data:`LAST_WORDS` have passed, or where the kernel forbids it.

        Args:
            hold: the hold.
            why: the line; control characters are escaped.
            done: called in another thread when it was written or given up, unless it hangs.

        Returns:
            False if that cannot be tried, because earlier notices hang.
        """
        until = time.monotonic() + LAST_WORDS
        line = f"watcher: {printable(why)}".encode(errors="backslashreplace")[: _MAX_LINE - 1]

        def write() -> None:
            with suppress(OSError):
                _write(hold, line + b"\n", until)
            done()

        return self._aside.run(write)


def _write(hold: Hold, line: bytes, until: float) -> None:
    now = time.monotonic()
    if now >= until:
        return
    process = _process_of(hold)
    pidfd = os.pidfd_open(process)
    try:
        started = processes.start_time(process)
        if started is None or started > hold.init.start:  # another one has its number by now
            return
        descriptor = descriptors.copy_of(_STDERR, pidfd)
    finally:
        os.close(pidfd)
    try:
        _write_to(descriptor, line, min(until, now + _PATIENCE))
    finally:
        os.close(descriptor)


def _process_of(hold: Hold) -> int:
    """The process that the held thread belongs to (proc_pid_status(5)): only that has a pidfd."""
    with open(f"/proc/{hold.runc_pid}/status", "rb") as status:  # noqa: PTH123
        return int(status.read().partition(b"\nTgid:")[2].split(maxsplit=1)[0])


def _write_to(descriptor: int, line: bytes, until: float) -> None:
    """Write `line` at once, if `descriptor` is of a kind that it may go to."""
    seen = filesystems.look(descriptor)  # it asks no file system, as fstat(2) does
    mode = os.fstat(descriptor).st_mode if seen is None else seen.mode
    if stat.S_ISREG(mode):
        if filesystems.is_plain_at(descriptor):
            os.write(descriptor, line)
    elif stat.S_ISFIFO(mode):
        if _is_writable(descriptor, until):
            _write_to_pipe(descriptor, line)
    elif stat.S_ISSOCK(mode):
        if _is_writable(descriptor, until):
            _send(descriptor, line)
    elif stat.S_ISCHR(mode) and os.isatty(descriptor) and _is_writable(descriptor, until):
        os.write(descriptor, line)


def _is_writable(descriptor: int, until: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    left = max(0.0, until - time.monotonic()) * 1000
    return any(events & select.POLLOUT for _, events in poll.poll(left))


def _write_to_pipe(descriptor: int, line: bytes) -> None:
    try:
        os.pwritev(descriptor, [line], -1, _RWF_NOWAIT)  # others may have filled it since
    except OSError as error:
        if not isinstance(error, BlockingIOError):
            os.write(descriptor, line)


def _send(descriptor: int, line: bytes) -> None:
    stream = socket.socket(fileno=descriptor)
    try:
        if stream.family in _STREAMS and stream.type == socket.SOCK_STREAM:
            stream.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    finally:
        stream.detach()
