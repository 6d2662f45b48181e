"""The order in which the kernel says that links and filters have changed.

Sources: rtnetlink(7), `include/uapi/linux/rtnetlink.h` (`RTNLGRP_LINK`, `RTNLGRP_TC`).
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

from handlers.kernel.messages import attributes
from tests.support.traffic import entered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.host import Host, Place

_LINK_AND_TC: Final = 1 << 0 | 1 << 3
_SO_RCVBUFFORCE: Final = 33
_HEADER: Final = struct.Struct("=IHHII")
_INDEX_AND_FLAGS: Final = struct.Struct("=iI")
_NEWLINK, _NEWTFILTER = 16, 44
_IFF_UP: Final = 1
_IFLA_ADDRESS, _IFLA_MTU = 1, 4


class Events:
    """What happens to the links of a place, from now on."""

    def __init__(self, host: Host, place: Place) -> None:
        with entered(place.netns):
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        host.on_close(self._socket.close)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 23)
        self._socket.bind((0, _LINK_AND_TC))
        self._socket.setblocking(False)

    def so_far(self) -> list[tuple[int, str]]:
        """What has happened to the link of which index: `filter` made, or now `up` or `down`."""
        happened: list[tuple[int, str]] = []
        for kind, message in self._messages():
            # Both a `struct ifinfomsg` and a `struct tcmsg` have the index here.
            index, flags = _INDEX_AND_FLAGS.unpack_from(message, 20)
            if kind == _NEWTFILTER:
                happened.append((index, "filter"))
            elif kind == _NEWLINK:
                happened.append((index, "up" if flags & _IFF_UP else "down"))
        return happened

    def macs_and_mtus(self, index: int) -> set[tuple[str, int]]:
        """The MAC and the MTU that the link `index` has had at any change so far."""
        found = set()
        for kind, message in self._messages():
            if kind == _NEWLINK and _INDEX_AND_FLAGS.unpack_from(message, 20)[0] == index:
                values = dict(attributes(memoryview(message), 32))
                mtu = int.from_bytes(values[_IFLA_MTU], "little")
                found.add((values[_IFLA_ADDRESS].hex(":"), mtu))
        return found

    def _messages(self) -> Iterator[tuple[int, bytes]]:
        """The type of each message, and the message with its header."""
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            while data:
                length, kind, *_ = _HEADER.unpack_from(data)
                yield kind, data[:length]
                data = data[(length + 3) & ~3 :]
