"""How many descriptors there may be, tables of a thread's own, and copies of another thread's.

Sources: getrlimit(2), unshare(2), close_range(2), pidfd_getfd(2). A thread has a pidfd since Linux
6.9 (`PIDFD_THREAD`, pidfd_open(2)).
"""

from __future__ import annotations

import ctypes
import os
import resource
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

_STANDARD = 3
"""The number of standard descriptors."""

_PIDFD_THREAD = os.O_EXCL
_SYS_PIDFD_GETFD = 438

_libc = ctypes.CDLL(None, use_errno=True)
_pidfd_getfd = _libc.syscall
_pidfd_getfd.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_uint)
_pidfd_getfd.restype = ctypes.c_long


def raise_limit() -> int:
    """Allow this process as many descriptors as possible; how many that is.

    Raises:
        OSError: that is not allowed.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def have_own(keep: Iterable[int]) -> None:
    """Give this thread a descriptor table of its own, with `keep` and the standard descriptors."""
    os.unshare(os.CLONE_FILES)
    low = _STANDARD
    for high in [*sorted(keep), os.sysconf("SC_OPEN_MAX")]:
        if low < high:  # Python makes an empty range an endless one
            os.closerange(low, high)
        low = max(low, high + 1)


def copy_of(descriptor: int, pidfd: int) -> int:
    """A copy of `descriptor` of the process or thread of `pidfd`; the caller closes it.

    Raises:
        OSError: there is no such descriptor, or the kernel does not allow it (ptrace(2), "Ptrace
            access mode checking").
    """
    copy: int = _pidfd_getfd(_SYS_PIDFD_GETFD, pidfd, descriptor, 0)
    if copy < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return copy


class Lender:
    """A thread of this process, by its pidfd."""

    __slots__ = ("_pidfd",)

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd

    @classmethod
    def of(cls, thread: threading.Thread) -> Self | None:
        """A lender for `thread`; `None` if the kernel is too old."""
        assert thread.native_id is not None
        try:
            return cls(os.pidfd_open(thread.native_id, _PIDFD_THREAD))
        except OSError:
            return None

    def borrow(self, descriptor: int) -> int:
        """A copy, in this thread, of the other thread's `descriptor`; the caller closes it soon.

        Raises:
            OSError: there is no such descriptor, or the kernel does not allow it.
        """
        return copy_of(descriptor, self._pidfd)

    def close(self) -> None:
        """Close the pidfd."""
        os.close(self._pidfd)
