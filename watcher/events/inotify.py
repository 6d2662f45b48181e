"""inotify(7) in the event loop: reports changed names in watched directories.

The system calls are watchdog's binding. Its threads and observers are not used: they watch
recursively, guess paths from names, and end with a traceback if directories come and go faster than
they look. Here a watch is of one directory, given by descriptor, and a name is only a hint.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from watchdog.observers.inotify_c import (
    InotifyConstants,
    inotify_add_watch,
    inotify_init,
    inotify_rm_watch,
)

CREATED: Final[int] = InotifyConstants.IN_CREATE | InotifyConstants.IN_MOVED_TO
REMOVED: Final[int] = InotifyConstants.IN_DELETE | InotifyConstants.IN_MOVED_FROM
WRITTEN: Final[int] = InotifyConstants.IN_CLOSE_WRITE
MODIFIED: Final[int] = InotifyConstants.IN_MODIFY
ATTRIBUTES: Final[int] = InotifyConstants.IN_ATTRIB
DIRECTORY: Final[int] = InotifyConstants.IN_ISDIR
"""Kinds of change of a name, and the flag of a directory."""

ENDED: Final[int] = InotifyConstants.IN_IGNORED
"""The watch has ended: its directory was removed, or its file system unmounted. It has no name."""

_OVERFLOW: Final[int] = InotifyConstants.IN_Q_OVERFLOW
_FLAGS: Final[int] = (
    InotifyConstants.IN_ONLYDIR | InotifyConstants.IN_EXCL_UNLINK | InotifyConstants.IN_MASK_ADD
)
_DONT_FOLLOW: Final[int] = InotifyConstants.IN_DONT_FOLLOW
_EVENT: Final = struct.Struct("iIII")
"""struct inotify_event: wd, mask, cookie, len; the name follows."""
_READ: Final = 1 << 16

type Call = Callable[[int, str], object]
"""Called with the kind of change and the name."""


class Watch:
    """A watch of one directory. For the kernel, two watches of the same directory are one."""

    __slots__ = ("call", "mask", "number")

    def __init__(self, number: Any, mask: int, call: Call) -> None:
        self.number = number
        self.mask = mask
        self.call = call


class Inotify:
    """One queue of events, read in the loop's thread.

    Args:
        lost: called if the kernel dropped events.

    Raises:
        OSError: the user has no queue left (`fs.inotify.max_user_instances`).
    """

    def __init__(self, lost: Callable[[], object]) -> None:
        self._lost = lost
        self._watches: dict[int, list[Watch]] = {}
        self._descriptor: int = inotify_init()
        if self._descriptor < 0:
            raise _error("inotify")
        os.set_inheritable(self._descriptor, False)
        os.set_blocking(self._descriptor, False)

    def fileno(self) -> int:
        """Its descriptor, readable while events wait; call :meth:`read` then."""
        return self._descriptor

    def close(self) -> None:
        """End all watches."""
        os.close(self._descriptor)
        self._watches.clear()

    def add(self, directory: str, mask: int, call: Call, *, follow: bool = False) -> Watch:
        """Call `call` for each change of `mask` in `directory`, and with :data:`ENDED`.

        Args:
            directory: its path; `/proc/self/fd/<n>` for an open one.
            mask: the kinds of change to report.
            call: the callback.
            follow: whether to follow a link at the end of the path, as for an open directory.

        Raises:
            OSError: it is missing, or the user has no watch left (`ENOSPC`).
        """
        flags = _FLAGS | (0 if follow else _DONT_FOLLOW)
        number: Any = inotify_add_watch(self._descriptor, os.fsencode(directory), mask | flags)
        if number < 0:
            raise _error(directory)
        watch = Watch(number, mask, call)
        self._watches.setdefault(number, []).append(watch)
        return watch

    def remove(self, watch: Watch) -> None:
        """Stop reporting to `watch`; does nothing if it has ended."""
        watches = self._watches.get(watch.number, [])
        if watch in watches:
            watches.remove(watch)
            if not watches:
                del self._watches[watch.number]
                with suppress(OSError):
                    inotify_rm_watch(self._descriptor, watch.number)

    def read(self) -> None:
        """Report all changes so far.

        Raises:
            Exception: whatever a callback raises; the events after that one are lost.
            OSError: the queue cannot be read.
        """
        try:
            content = os.read(self._descriptor, _READ)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(content):
            number, mask, _, length = _EVENT.unpack_from(content, offset)
            offset += _EVENT.size
            name = os.fsdecode(content[offset : offset + length].rstrip(b"\0"))
            offset += length
            self._tell(number, mask, name)

    def _tell(self, number: int, mask: int, name: str) -> None:
        if mask & _OVERFLOW:
            self._lost()
            return
        watches = list(self._watches.get(number, ()))
        if mask & ENDED:
            self._watches.pop(number, None)
        for watch in watches:
            if mask & (watch.mask | ENDED):
                watch.call(mask, name)


def _error(about: str) -> OSError:
    number = ctypes.get_errno()
    if number == errno.ENOSPC:
        return OSError(number, "no inotify watch is left; raise fs.inotify.max_user_watches", about)
    return OSError(number, os.strerror(number), about)
