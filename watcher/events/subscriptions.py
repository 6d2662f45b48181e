"""Which kernel events about drift arrive, and on which sockets.

The host's links, guards, addresses, routes and rules have one socket, what is in sandboxes another
one, the host's settings a third and nftables a fourth. A filter in the kernel drops events that
cannot matter, such as additions.

For each event in another namespace that the host receives, the kernel goes through the numbers of
all namespaces (`peernet2id` in `net/core/net_namespace.c`). So this program subscribes only to
events that it can use.

Sources: rtnetlink(7), netlink(7) (NETLINK_LISTEN_ALL_NSID), `include/uapi/linux/rtnetlink.h`.
"""

from __future__ import annotations

import errno
import socket
import struct
from array import array
from typing import TYPE_CHECKING, Final

from handlers.kernel import rtnl
from handlers.kernel.bpf import INSTRUCTION, Field, Node, Return, Test, any_of, assemble
from handlers.kernel.messages import messages
from handlers.kernel.netlink import NETLINK_NETFILTER, SOL_NETLINK
from handlers.kernel.rtnl.numbers import (
    RTM_DELCHAIN,
    RTM_DELQDISC,
    RTM_DELRULE,
    RTM_DELTFILTER,
    RTM_NEWQDISC,
    RTM_NEWROUTE,
    RTM_NEWTFILTER,
    RTPROT_KERNEL,
    RTPROT_STATIC,
)
from watcher.events.near_routes import passing
from watcher.model.cluster import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from watcher.model.address import Subnet

_NETLINK_LISTEN_ALL_NSID: Final = 8
_NETLINK_ADD_MEMBERSHIP: Final = 1
_LINKS: Final = 1
"""RTNLGRP_LINK"""
_ADDRESSES_AND_ROUTES: Final = {4: (5, 7), 6: (9, 11)}
"""RTNLGRP_IPV4_IFADDR and _IPV4_ROUTE, _IPV6_IFADDR and _IPV6_ROUTE."""
_GUARDS: Final = 4
"""RTNLGRP_TC"""
_RULES: Final = {4: 8, 6: 19}
"""RTNLGRP_IPV4_RULE and _IPV6_RULE."""
_SETTINGS: Final = (24, 25)
"""RTNLGRP_IPV4_NETCONF and _IPV6_NETCONF."""
_NFNLGRP_NFTABLES: Final = 7
_SO_ATTACH_FILTER: Final = 26
_MOST_INSTRUCTIONS: Final = 4096
"""BPF_MAXINSNS."""
_RECEIVE_BUFFER: Final = 8 << 20
"""Bytes of unread messages that the kernel keeps for one socket."""

GUARD_EVENTS: Final = (
    RTM_NEWTFILTER, RTM_DELTFILTER, RTM_DELCHAIN, RTM_NEWQDISC, RTM_DELQDISC,
)  # fmt: skip
"""The types of events about a guard or a limit of bandwidth that came or went."""

_TYPE: Final = Field(4, 2)
"""`nlmsg_type`"""
_NAME, _NAME_BEHIND = Field(16 + 16 + 4, 4), Field(16 + 16 + 8, 2)
"""The beginning of IFLA_IFNAME, the first attribute (`rtnl_fill_ifinfo` in
`net/core/rtnetlink.c`)."""
_HOST_END: Final = b"netnsv"
_PARENT, _ROOT = Field(16 + 12, 4), 0xFFFFFFFF
"""`tcm_parent`, and TC_H_ROOT, that of a link's qdisc; the one that a guard needs has another."""
_PROTOCOL: Final = Field(16 + 5, 1)
"""`rtm_protocol`, after the header."""


type Event = tuple[int, int, int | None, memoryview]
"""Type, port of the socket that caused it, namespace id (`None`: the host's), and body."""


def of_host(subnets: Collection[Subnet]) -> socket.socket:
    """A socket that hears of the host's links, guards, addresses, routes and their rules.

    Of routes that appear, it hears of those near `subnets`.
    """
    filters = _filter(subnets=subnets), _filter(subnets=None)
    rules = (_RULES[version] for version in {subnet.version for subnet in subnets})
    return listen(socket.NETLINK_ROUTE, [*_groups(subnets), _GUARDS, *rules], *filters)


def request_links(heard: socket.socket) -> None:
    """Request all links of the host on `heard`; the answer looks as if all had just been made."""
    request = bytearray(rtnl.links())
    struct.pack_into("=I", request, 8, 1)  # nlmsg_seq
    heard.send(request)


def of_sandboxes(subnets: Collection[Subnet]) -> socket.socket:
    """A socket that hears of links, addresses and routes in every namespace that has a number here.

    It also hears of the host's own, except of host ends.
    """
    heard = listen(socket.NETLINK_ROUTE, _groups(subnets), _filter(host_ends=False))
    heard.setsockopt(SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
    return heard


def of_settings() -> socket.socket:
    """A socket that hears of the host's settings of links, such as forwarding."""
    return listen(socket.NETLINK_ROUTE, _SETTINGS)


def of_hosts(groups: Collection[int], wanted: bytes) -> socket.socket:
    """A socket that hears of `groups` of rtnetlink, through the filter `wanted`."""
    return listen(socket.NETLINK_ROUTE, groups, wanted)


def attach(heard: socket.socket, wanted: bytes) -> None:
    """Replace the filter of a socket."""
    _attached(heard, wanted, last=True)


def of_nftables() -> socket.socket:
    """A socket that hears of the host's nftables."""
    return listen(NETLINK_NETFILTER, (_NFNLGRP_NFTABLES,))


def receive(heard: socket.socket, buffer: bytearray) -> Iterator[Event]:
    """The events in the next datagram, mostly one; their bodies are views of it.

    Raises:
        BlockingIOError: there is none.
        OSError: ENOBUFS: some were lost.
    """
    size, ancillary, _, _ = heard.recvmsg_into((buffer,), 64)
    namespace = None
    for level, kind, value in ancillary:
        if (level, kind) == (SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID):
            namespace = int.from_bytes(value[:4], "little", signed=True)
    for kind, _, _, port, body in messages(memoryview(buffer[:size])):
        yield kind, port, namespace, body


def _groups(subnets: Collection[Subnet]) -> list[int]:
    versions = {subnet.version for subnet in subnets}
    return [_LINKS, *(g for version in versions for g in _ADDRESSES_AND_ROUTES[version])]


def listen(protocol: int, groups: Collection[int], *wanted: bytes) -> socket.socket:
    """Listen to `groups`, through the first of the filters `wanted` that the kernel takes, if any.

    The socket does not wait. The kernel refuses a filter that is longer than BPF_MAXINSNS,
    or than `net.core.optmem_max` bytes.
    """
    heard = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
    )
    heard.setsockopt(socket.SOL_SOCKET, 33, _RECEIVE_BUFFER)  # SO_RCVBUFFORCE
    for program in wanted:
        if _attached(heard, program, last=program is wanted[-1]):
            break
    heard.bind((0, 0))
    for group in groups:
        heard.setsockopt(SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
    return heard


def _attached(heard: socket.socket, text: bytes, *, last: bool) -> bool:
    """Filter what is heard by the program `text`.

    Returns false if the kernel does not take it, and it is not the `last` one to try.
    """
    program = array("B", text)
    address, size = program.buffer_info()
    length = size // INSTRUCTION.size
    if length > _MOST_INSTRUCTIONS and not last:
        return False
    try:
        heard.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", length, address))
    except OSError as error:
        if last or error.errno != errno.ENOMEM:
            raise
        return False
    return True


def _filter(*, host_ends: bool = True, subnets: Collection[Subnet] | None = ()) -> bytes:
    """A filter program that passes events about links, and about removed things of this program.

    Of routes that appear, it passes those near `subnets`, or all if `None`; of qdiscs, those of
    whole links.

    Without `host_ends`, it drops those about links with the name of one, which another socket gets.
    """
    kept, dropped = Return(0xFFFFFFFF), Return(0)
    links: Node = kept if host_ends else other_than_host_ends(kept, dropped)
    near = kept if subnets is None else passing(subnets, kept, dropped)
    near = Test(_PROTOCOL, PROTOCOL, dropped, near)  # those have a watch of their own
    ours = any_of(_PROTOCOL, (RTPROT_KERNEL, RTPROT_STATIC), kept, near)
    of_guards = (kind for kind in GUARD_EVENTS if kind != RTM_NEWQDISC)
    removed = (rtnl.RTM_DELADDR, RTM_DELRULE, *of_guards)
    added = Test(_TYPE, _TYPE.native(RTM_NEWROUTE), near, dropped)
    routes = Test(_TYPE, _TYPE.native(rtnl.RTM_DELROUTE), ours, added)
    at_root = Test(_PARENT, _ROOT, kept, dropped)
    qdiscs = Test(_TYPE, _TYPE.native(RTM_NEWQDISC), at_root, routes)
    node = any_of(_TYPE, map(_TYPE.native, removed), kept, qdiscs)
    of_links = map(_TYPE.native, (rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK))
    return assemble(any_of(_TYPE, of_links, links, node), short=dropped).text


def other_than_host_ends(kept: Node, dropped: Node) -> Node:
    """A decision about an event of a link: `dropped` if it has the name of a host end."""
    rest = Test(_NAME_BEHIND, int.from_bytes(_HOST_END[4:]), dropped, kept)
    return Test(_NAME, int.from_bytes(_HOST_END[:4]), rest, kept)
