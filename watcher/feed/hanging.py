"""Notices a broker that reads nothing any more, though something was sent to it."""

from __future__ import annotations

import fcntl
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

SOON: Final = 1.0
"""Seconds from what is sent to the first look; by then, a broker that is well has read it."""

LATER: Final = 10.0
"""Seconds between two looks at a broker that has not read everything."""

LOOKS: Final = 2
"""After how many looks in a row, in between which it has read nothing, it hangs.

One is not enough: where service and broker are frozen together (cgroup.freeze of cgroups(7)) or
the machine sleeps, the next look may be due before the broker has had its first chance.
"""

_SIOCOUTQ: Final = 0x5411
"""Bytes of memory of what the other end has not read (unix(7); net/unix/af_unix.c, unix_ioctl)."""


class Hanging:
    """Looks at a socket for a while after something was sent; no timer runs once all is read.

    Args:
        loop: the event loop in whose thread it is used.
        end: the socket.
        hangs: called once if the other end hangs.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, end: socket.socket, hangs: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._socket = end
        self._hangs = hangs
        self._timer: asyncio.TimerHandle | None = None
        self._sent = self._sent_before = 0
        self._unread = 0
        self._looks = 0

    def sent(self, size: int) -> None:
        """`size` bytes are to be read."""
        self._sent += size
        if self._timer is None:
            self._looks = -1
            self._timer = self._loop.call_later(SOON, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        before, self._unread = self._unread, _unread(self._socket)
        sent, self._sent_before = self._sent - self._sent_before, self._sent
        if not self._unread:
            return
        # What is sent takes at least as much memory as it has bytes.
        still = self._looks < 0 or self._unread >= before + sent
        self._looks = self._looks + 1 if still else 0
        if self._looks >= LOOKS:
            self._hangs()
        else:
            self._timer = self._loop.call_later(LATER, self._look)


def _unread(end: socket.socket) -> int:
    return int(struct.unpack("i", fcntl.ioctl(end, _SIOCOUTQ, b"\0" * 4))[0])
