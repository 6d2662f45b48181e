"""Sees to it that answers which cannot go do not keep others from going.

All answers of a socket share its send buffer, which may have no more than 208 KiB (`wmem_max`). The
kernel counts an answer until it has left: one to a neighbour that does not answer ARP stays for
three seconds (`neigh_timer_handler` in net/core/neighbour.c), and one to a slow link until that
takes it. A sandbox can decide not to answer ARP, and two of them could fill the buffer.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import time
from typing import Final

_SIOCOUTQ: Final = 0x5411
"""From linux/sockios.h; udp(7): the bytes that have not left."""
_INT: Final = struct.Struct("i")

SOME: Final = 16 << 10
"""So many bytes may wait before it is looked whose they are."""
AGE: Final = 4.0
"""Seconds after which nothing that waits now can still wait for ARP."""


class SendQueue:
    """Knows whose answers wait in the send buffer of a socket.

    Attributes:
        careful: whether so many wait that :meth:`send` has to be used.
    """

    def __init__(self, bound: socket.socket) -> None:
        self.careful = False
        self._socket = bound
        self._descriptor = bound.fileno()
        self._most = bound.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 4
        self._waiting: dict[str, int] = {}
        self._since = 0.0

    def look(self) -> None:
        """Look how many wait; to be called after some answers were sent."""
        waiting = self._length()
        now = time.monotonic()
        if waiting < SOME:
            self.careful = False
            self._waiting.clear()
        elif not self.careful or now > self._since + AGE:
            self.careful = True
            self._waiting.clear()
            self._since = now

    def send(self, answer: bytes, peer: tuple[str, int]) -> bool:
        """Send `answer`, unless too much of its receiver waits already; whether it was sent.

        Each may have its share of a quarter of the buffer; nothing if half of it is full.

        Raises:
            OSError: it cannot be sent.
        """
        before = self._length()
        source = peer[0]
        of_source = self._waiting.get(source, 0)
        if of_source and (before > 2 * self._most or of_source * len(self._waiting) > self._most):
            return False
        self._socket.sendto(answer, peer)
        if (more := self._length() - before) > 0:
            self._waiting[source] = of_source + more
        return True

    def _length(self) -> int:
        length: int = _INT.unpack(fcntl.ioctl(self._descriptor, _SIOCOUTQ, b"\0\0\0\0"))[0]
        return length
