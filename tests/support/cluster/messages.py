"""Counts what the kernel says that has changed of routes and neighbours in a place."""

from __future__ import annotations

import socket
from collections import Counter
from typing import Final, Self

from handlers.kernel.messages import messages
from handlers.kernel.rtnl import RTM_DELROUTE
from handlers.kernel.rtnl.numbers import (
    RTM_DELNEIGH,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    RTPROT_KERNEL,
)
from tests.support.host import Place
from tests.support.traffic import entered
from watcher.events.subscriptions import listen

_GROUPS: Final = (3, 7, 11)
"""RTNLGRP_NEIGH, RTNLGRP_IPV4_ROUTE and RTNLGRP_IPV6_ROUTE."""

_NAMES: Final = {
    RTM_NEWROUTE: "NEWROUTE", RTM_DELROUTE: "DELROUTE",
    RTM_NEWNEIGH: "NEWNEIGH", RTM_DELNEIGH: "DELNEIGH",
}  # fmt: skip


class Messages:
    """What is told from now on: all changes, whoever causes them."""

    def __init__(self, place: Place) -> None:
        with entered(place.netns):
            self._socket = listen(socket.NETLINK_ROUTE, _GROUPS)
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def so_far(self) -> Counter[str]:
        """How many there were of each kind, of entries that last and of routes by programs.

        ARP comes and goes. The kernel makes routes itself as it comes to know that an address is
        the host's alone.
        """
        found: Counter[str] = Counter()
        while True:
            try:
                data = self._socket.recv(1 << 17)
            except BlockingIOError:
                return found
            for kind, _, _, _, body in messages(memoryview(data)):
                state = int.from_bytes(body[8:10], "little")
                if kind == RTM_NEWNEIGH and not state & 0x80:  # NUD_PERMANENT
                    continue
                if kind in (RTM_NEWROUTE, RTM_DELROUTE) and body[5] == RTPROT_KERNEL:
                    continue
                if kind in _NAMES:
                    found[_NAMES[kind]] += 1
