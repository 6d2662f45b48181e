"""Kernel events about the ways to other hosts of a cluster: routes, VXLAN devices, their entries.

They have a socket of their own, which a host in no cluster does not need. A filter in the kernel
drops what happens with each container, and what the host learns of its neighbours. An event is only
a hint; whether it contradicts what is wanted is decided elsewhere.

Sources: rtnetlink(7), `include/uapi/linux/rtnetlink.h`, `include/uapi/linux/neighbour.h`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Collection
from typing import Final

from handlers.kernel import rtnl
from handlers.kernel.bpf import Field, Return, Test, any_of, assemble
from handlers.kernel.netlink import RECEIVE
from handlers.kernel.rtnl.numbers import (
    RTM_DELNEIGH,
    RTM_NEWADDR,
    RTM_NEWNEIGH,
    RTM_NEWNETCONF,
    RTM_NEWROUTE,
    RTN_LOCAL,
    RTPROT_KERNEL,
)
from watcher.events import subscriptions
from watcher.events.subscriptions import receive

_GROUPS: Final = (1, 3, 5, 7, 9, 11, 24)
"""RTNLGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE, _IPV4_NETCONF."""

_TYPE, _FAMILY, _LENGTH = Field(4, 2), Field(16, 1), Field(17, 1)
_PROTOCOL, _KIND, _INDEX = Field(16 + 5, 1), Field(16 + 7, 1), Field(16 + 4, 4)
"""Of the header, `struct rtmsg` and `struct ndmsg`."""

_IFINDEX: Final = Field(16 + 4 + 4, 4)
"""NETCONFA_IFINDEX, the first attribute of a netconf message (`inet_netconf_fill_devconf` in
`net/ipv4/devinet.c`)."""

_LOCAL: Final = (RTN_LOCAL, 3, 5)
"""Types of routes to the host itself: RTN_LOCAL, RTN_BROADCAST and RTN_MULTICAST."""

_MOST: Final = 64
"""The most links that the filter tells from others: the kernel takes no program of any length."""

_AT_ONCE: Final = 256
"""Messages to read in one go; other work of the loop comes in between."""


type _Links = tuple[frozenset[int], frozenset[int]]


class HostsWatch:
    """Reports that something may be wrong with the ways to other hosts.

    Args:
        loop: the event loop in whose thread it listens.
        is_wrong: whether an event, by its type and body, contradicts what is wanted.
        links: returns the indices of the VXLAN devices, and with them those of the links by which
            other hosts are reached.
        suspect: called if one does, or if events were lost.
        lost: called before that if they were.
        failed: called with the error that ended it.

    Attributes:
        alive: whether it listens.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        is_wrong: Callable[[int, memoryview], bool],
        links: Callable[[], _Links],
        suspect: Callable[[], object],
        lost: Callable[[], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self.alive = True
        self._loop = loop
        self._is_wrong = is_wrong
        self._links = links
        self._suspect = suspect
        self._lost = lost
        self._failed = failed
        self._buffer = bytearray(RECEIVE)
        self._of: _Links = frozenset(), frozenset()
        self._heard = subscriptions.of_hosts(_GROUPS, _filter(*self._of))
        loop.call_soon(self.refresh)  # once what there is has been looked at
        loop.add_reader(self._heard, self._read)

    def close(self) -> None:
        """Stop listening; a second call does nothing."""
        if self.alive:
            self.alive = False
            self._loop.remove_reader(self._heard)
            self._heard.close()

    def refresh(self) -> None:
        """Hear of the entries and the settings of the links that there are now."""
        now = self._links()
        if self.alive and now != self._of:
            self._of = now
            subscriptions.attach(self._heard, _filter(*now))

    def _read(self) -> None:
        suspected = False
        try:
            for _ in range(_AT_ONCE):
                for kind, _, _, body in receive(self._heard, self._buffer):
                    suspected = self._is_wrong(kind, body) or suspected
                    if kind == rtnl.RTM_NEWLINK:
                        self.refresh()
        except BlockingIOError:
            pass
        except Exception as error:  # noqa: BLE001 (whatever it is, what else was heard is lost)
            if not (isinstance(error, OSError) and error.errno == errno.ENOBUFS):
                self.close()
                self._failed(error)
                return
            self._lost()
            suspected = True
        if suspected:
            self._suspect()


def _filter(devices: Collection[int], links: Collection[int]) -> bytes:
    """A filter program: of entries, it passes those of `devices`; of settings, those of `links`."""
    kept, dropped = Return(0xFFFFFFFF), Return(0)
    whole = Test(
        _FAMILY, socket.AF_INET,
        Test(_LENGTH, 32, dropped, kept), Test(_LENGTH, 128, dropped, kept),
    )  # fmt: skip
    routes = any_of(_KIND, _LOCAL, dropped, Test(_PROTOCOL, RTPROT_KERNEL, whole, kept))
    entries, settings = (
        kept if len(indices) > _MOST else any_of(at, map(at.native, sorted(indices)), kept, dropped)
        for at, indices in ((_INDEX, devices), (_IFINDEX, links))
    )
    of_links = subscriptions.other_than_host_ends(kept, dropped)
    node = any_of(_TYPE, _types(RTM_NEWROUTE, rtnl.RTM_DELROUTE), routes, dropped)
    node = any_of(_TYPE, _types(RTM_NEWNETCONF), settings, node)
    node = any_of(_TYPE, _types(RTM_NEWNEIGH, RTM_DELNEIGH), entries, node)
    node = any_of(_TYPE, _types(RTM_NEWADDR, rtnl.RTM_DELADDR), kept, node)
    node = any_of(_TYPE, _types(rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK), of_links, node)
    return assemble(node, short=dropped).text


def _types(*numbers: int) -> list[int]:
    return [_TYPE.native(number) for number in numbers]
