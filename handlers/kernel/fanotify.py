"""fanotify(7): permission events of a whole mount, or of a whole file system.

Our own binding, because the published one for Python forks a process that passes the events on, and
the gate needs one system call between an event and its answer. Failures are `OSError` with the
kernel's `errno`. Constants and structures: `include/uapi/linux/fanotify.h`; behaviour:
fanotify_init(2), fanotify_mark(2), fanotify(7).
"""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass
from typing import Final, Self

_FAN_CLOEXEC: Final = 0x01
_FAN_NONBLOCK: Final = 0x02
_FAN_CLASS_CONTENT: Final = 0x04
_FAN_UNLIMITED_QUEUE: Final = 0x10
_FAN_REPORT_TID: Final = 0x100
_FAN_MARK_ADD: Final = 0x01
_FAN_MARK_REMOVE: Final = 0x02
_FAN_MARK_ONLYDIR: Final = 0x08
_FAN_MARK_MOUNT: Final = 0x10
_FAN_MARK_FILESYSTEM: Final = 0x100
_FAN_Q_OVERFLOW: Final = 0x4000
_FAN_OPEN_PERM: Final = 0x10000
_FAN_ALLOW: Final = 1
_FAN_DENY: Final = 2
_FAN_NOFD: Final = -1
_AT_FDCWD: Final = -100

_METADATA: Final = struct.Struct("=IBBHQii")
"""struct fanotify_event_metadata: event_len, vers, reserved, metadata_len, mask, fd, pid."""

_METADATA_VERSION: Final = 3
_RESPONSE: Final = struct.Struct("=iI")
"""struct fanotify_response: fd, response."""

_EVENTS_A_READ: Final = 64
"""The most events per read(2): each takes a descriptor."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fanotify_init.argtypes = (ctypes.c_uint, ctypes.c_uint)
_libc.fanotify_mark.argtypes = (
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_uint64,
    ctypes.c_int,
    ctypes.c_char_p,
)


@dataclass(frozen=True, slots=True)
class Event:
    """An open(2) that waits for its answer, or an overflow of the queue.

    Attributes:
        fd: a descriptor of the file, to be answered and then closed; `None` for an overflow.
        thread: the opening thread, in this process's pid namespace; 0 if it is not in that.
            `/proc/<thread>` exists as for a process, and describes that thread.
    """

    fd: int | None
    thread: int


class FanotifyGroup:
    """A fanotify group: the kernel asks it about each open(2) of a regular file below its marks.

    When it closes, by :meth:`close` or the end of the process, the kernel allows all waiting opens.
    Reading never blocks: wait for :meth:`fileno` to become readable.

    Args:
        unlimited: whether the queue of events is unlimited; else the sysctl
            `fs.fanotify.max_queued_events` limits it, and further opens are allowed unasked.

    Raises:
        OSError: `EPERM` without `CAP_SYS_ADMIN` in the initial user namespace, `ENOSYS` or
            `EINVAL` with a kernel older than 4.20 or built without permission events.
    """

    def __init__(self, *, unlimited: bool = True) -> None:
        flags = _FAN_CLASS_CONTENT | _FAN_CLOEXEC | _FAN_NONBLOCK | _FAN_REPORT_TID
        if unlimited:
            flags |= _FAN_UNLIMITED_QUEUE
        self._fd: int = _libc.fanotify_init(flags, os.O_RDONLY | os.O_CLOEXEC | os.O_LARGEFILE)
        if self._fd < 0:
            raise _error("fanotify_init")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Its descriptor, readable while events wait."""
        return self._fd

    def mark(self, path: str, *, filesystem: bool = False) -> None:
        """Mark the whole mount of the directory `path`: opens below it become events.

        With `filesystem`, mark its whole file system, in all mounts and mount namespaces. Marking
        it twice changes nothing. The mark ends with the mount or the file system.
        """
        self._mark(_FAN_MARK_ADD | _FAN_MARK_ONLYDIR, path, filesystem=filesystem)

    def unmark(self, path: str, *, filesystem: bool = False) -> None:
        """Undo :meth:`mark`; `ENOENT` if the mount of `path` has no mark."""
        self._mark(_FAN_MARK_REMOVE, path, filesystem=filesystem)

    def read(self) -> list[Event]:
        """The oldest waiting events; at most a fixed number, so more may be left.

        Raises:
            OSError: `EMFILE` if this process has no descriptor left for an event's file; the
                kernel has denied that open.
            RuntimeError: the kernel has another version of the structure.
        """
        try:
            content = os.read(self._fd, _EVENTS_A_READ * _METADATA.size)
        except BlockingIOError:
            return []
        events: list[Event] = []
        offset = 0
        while offset < len(content):
            length, version, _, _, mask, fd, thread = _METADATA.unpack_from(content, offset)
            if version != _METADATA_VERSION:
                raise RuntimeError(f"fanotify speaks version {version}, not {_METADATA_VERSION}")
            offset += length
            if mask & _FAN_Q_OVERFLOW:
                events.append(Event(None, thread))
            elif fd != _FAN_NOFD:
                events.append(Event(fd, thread))
        return events

    def answer(self, fd: int, *, allow: bool, group: int | None = None) -> None:
        """Let the open(2) of the event with descriptor `fd` succeed, or fail with `EPERM`.

        `ENOENT` if the opening process was killed. `fd` must stay open until this has returned,
        because its number identifies the event.

        Args:
            fd: the number of the event's descriptor, in the table of the thread that has read it.
            allow: the answer.
            group: another descriptor of this group, for a thread with a table of its own.
        """
        target = self._fd if group is None else group
        os.write(target, _RESPONSE.pack(fd, _FAN_ALLOW if allow else _FAN_DENY))

    def close(self) -> None:
        """Allow all waiting opens, and end; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _mark(self, flags: int, path: str, *, filesystem: bool) -> None:
        flags |= _FAN_MARK_FILESYSTEM if filesystem else _FAN_MARK_MOUNT
        if _libc.fanotify_mark(self._fd, flags, _FAN_OPEN_PERM, _AT_FDCWD, os.fsencode(path)) != 0:
            raise _error(path)


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)
