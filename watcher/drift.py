"""Drift: the kernel's own word that somebody changes what this program made.

One socket hears of links, addresses and routes, in the host's namespace and in every sandbox's, one
of the host's settings, one of nftables. What is heard is only a hint, and never more than a sync is
made of it. What this program itself does is heard as well and told apart: a link that the lease
store does not know (any more) is nobody's business, and nftables tells by which socket a change was
made.

For each message in a namespace that the host is to hear, the kernel goes through the numbers of all
namespaces (`peernet2id` in `net/core/net_namespace.c`), so it is asked for no more of them than can
tell anything.

Sources: rtnetlink(7), netlink(7) (NETLINK_LISTEN_ALL_NSID), `include/uapi/linux/netconf.h`,
`include/uapi/linux/netfilter/nf_tables.h`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Final

from handlers import rtnl
from handlers.conntrack import NETLINK_NETFILTER
from handlers.hostend import HOST_NAME
from handlers.netlink import RECEIVE, SOL_NETLINK, attributes, messages, own_ports

_NETLINK_LISTEN_ALL_NSID: Final = 8
_NETLINK_ADD_MEMBERSHIP: Final = 1
_LINKS: Final = 1
"""RTNLGRP_LINK"""
_ADDRESSES_AND_ROUTES: Final = {4: (5, 7), 6: (9, 11)}
"""RTNLGRP_IPV4_IFADDR and _IPV4_ROUTE, _IPV6_IFADDR and _IPV6_ROUTE."""
_SETTINGS: Final = (24, 25)
"""RTNLGRP_IPV4_NETCONF and _IPV6_NETCONF."""
_NFNLGRP_NFTABLES: Final = 7
_NFT: Final = 10 << 8
_NFT_NEWGEN: Final = _NFT | 15
_RTM_NEWNETCONF: Final = 80
_NETCONFA_IFINDEX, _NETCONFA_FORWARDING, _IFINDEX_ALL = 1, 2, -1
_IFLA_LINK_NETNSID: Final = 37
_RECEIVE_BUFFER: Final = 8 << 20
"""Bytes that the kernel keeps of what one socket has not read yet."""

type Event = tuple[int, int, int | None, memoryview]
"""Type, port of the socket that caused it, namespace id (`None`: the host's), and body."""


class Drift:
    """Listens, and asks for a sync when something that should be there was changed by others.

    Args:
        loop: the event loop in whose thread it listens.
        bridges: the names of the bridges that should be there while they are used.
        versions: the IP versions that sandboxes have.
        suspect: called with the host name of a link, or with the empty string where the firewall,
            a bridge or the host as a whole may have changed, or where events were lost.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        bridges: Collection[str],
        versions: Collection[int],
        suspect: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._bridges = frozenset(bridges)
        self._suspect = suspect
        self._names: dict[int, str] = {}
        """The host end of the pair whose other end is in the namespace of that id."""
        self._up: set[str | int] = set()
        """Host ends, and namespaces of other ends, that were up: not up is wrong from then on."""
        self._indices: dict[int, str] = {}
        """The names of host ends and bridges by their indices."""
        self._touched = False
        self._own: frozenset[int] = frozenset()
        """The ports of this process's netfilter sockets, libnftables' own among them."""
        self._buffer = bytearray(RECEIVE)
        groups = (group for version in versions for group in _ADDRESSES_AND_ROUTES[version])
        everywhere = _listen(socket.NETLINK_ROUTE, (_LINKS, *groups))
        everywhere.setsockopt(SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
        settings = _listen(socket.NETLINK_ROUTE, _SETTINGS)
        netfilter = _listen(NETLINK_NETFILTER, (_NFNLGRP_NFTABLES,))
        everywhere.send(_numbered(rtnl.links()))  # the answer comes as if all were made just now
        self._heard = (everywhere, settings, netfilter)
        takes = (self._of_route, self._of_setting, self._of_nftables)
        for heard, take in zip(self._heard, takes, strict=True):
            loop.add_reader(heard, self._read, heard, take)

    def close(self) -> None:
        """Listen no more."""
        for heard in self._heard:
            self._loop.remove_reader(heard)
            heard.close()

    def _read(self, heard: socket.socket, take: Callable[[Event], None]) -> None:
        try:
            for event in self._events(heard):
                take(event)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self._suspect("")  # some were lost

    def _events(self, heard: socket.socket) -> Iterator[Event]:
        while True:
            size, ancillary, _, _ = heard.recvmsg_into((self._buffer,), 64)
            namespace = None
            for level, kind, value in ancillary:
                if (level, kind) == (SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID):
                    namespace = int.from_bytes(value[:4], "little", signed=True)
            for kind, _, _, port, body in messages(memoryview(self._buffer[:size])):
                yield kind, port, namespace, body

    def _of_route(self, event: Event) -> None:
        kind, _, namespace, body = event
        if kind in (rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK):
            self._of_link(kind, namespace, body)
        elif namespace is not None:
            if kind in (rtnl.RTM_DELADDR, rtnl.RTM_DELROUTE):
                self._suspect_inside(namespace)
        elif kind == rtnl.RTM_DELADDR:
            index = int.from_bytes(body[4:8], "little")
            if self._indices.get(index) in self._bridges:
                self._suspect("")
        elif kind == rtnl.RTM_DELROUTE:
            name = self._indices.get(rtnl.read_route_index(body), "")
            if HOST_NAME.fullmatch(name):
                self._suspect(name)

    def _of_setting(self, event: Event) -> None:
        kind, _, _, body = event
        if kind == _RTM_NEWNETCONF and _stops_forwarding(body):
            self._suspect("")

    def _of_link(self, kind: int, namespace: int | None, body: memoryview) -> None:
        link = rtnl.read_link(body)
        wrong = kind == rtnl.RTM_DELLINK or not link.up
        if namespace is not None:
            fell = self._fell(namespace, wrong) if link.ours else wrong and link.name == "lo"
            if fell:
                self._suspect_inside(namespace)
            return
        if HOST_NAME.fullmatch(link.name):
            for type_, value in attributes(body, 16):
                if type_ == _IFLA_LINK_NETNSID:
                    self._names[int.from_bytes(value, "little")] = link.name
                    self._fell(int.from_bytes(value, "little"), wrong)
            if self._fell(link.name, wrong or not link.master):
                self._suspect(link.name)
        elif link.name not in self._bridges:
            return
        elif wrong:
            self._suspect("")
        if kind == rtnl.RTM_DELLINK:
            self._indices.pop(link.index, None)
        else:
            self._indices[link.index] = link.name

    def _fell(self, which: str | int, wrong: bool) -> bool:
        """Whether a link that was up is so no more; one that is being made was not."""
        if not wrong:
            self._up.add(which)
        elif which in self._up:
            self._up.discard(which)
            return True
        return False

    def _suspect_inside(self, namespace: int) -> None:
        name = self._names.get(namespace)
        if name is not None:
            self._suspect(name)

    def _of_nftables(self, event: Event) -> None:
        """What a transaction changed comes first, and then one event that it is done."""
        kind, port, _, body = event
        if kind == _NFT_NEWGEN:
            if self._touched and not self._is_own(port):
                self._suspect("")
            self._touched = False
        elif not self._touched and port not in self._own:
            self._touched = _table(body) == b"watcher"

    def _is_own(self, port: int) -> bool:
        """Whether a netfilter socket of this process has that port; libnftables opens it anew."""
        if port not in self._own:
            with suppress(OSError):  # no descriptor left: rather look once too often
                self._own = own_ports(NETLINK_NETFILTER)
        return port in self._own


def _listen(protocol: int, groups: Collection[int]) -> socket.socket:
    heard = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
    )
    heard.setsockopt(socket.SOL_SOCKET, 33, _RECEIVE_BUFFER)  # SO_RCVBUFFORCE
    heard.bind((0, 0))
    for group in groups:
        heard.setsockopt(SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
    return heard


def _numbered(request: bytearray) -> bytearray:
    struct.pack_into("=I", request, 8, 1)
    return request


def _stops_forwarding(body: memoryview) -> bool:
    values = dict(attributes(body, 4))
    index, forwarding = values.get(_NETCONFA_IFINDEX), values.get(_NETCONFA_FORWARDING)
    if index is None or forwarding is None:
        return False
    return int.from_bytes(index, "little", signed=True) == _IFINDEX_ALL and not any(forwarding)


def _table(body: memoryview) -> bytes:
    """The table that an nftables message is about: its first attribute behind `nfgenmsg`."""
    for kind, value in attributes(body, 4):
        if kind == 1:
            return bytes(value).rstrip(b"\0")
    return b""
