"""The connection tracking table: lists, reads and deletes flows over ctnetlink.

Sources: `include/uapi/linux/netfilter/nfnetlink*.h` and `net/netfilter/nf_conntrack_netlink.c`.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from handlers.kernel.messages import (
    NLM_F_DUMP,
    attribute,
    attributes,
    chosen,
    request,
)
from handlers.kernel.netlink import Netlink, NetlinkError
from watcher.model.address import Address

_CT_GET, _CT_DELETE = (1 << 8) | 1, (1 << 8) | 2
"""NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_*."""
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_ID, _CTA_ZONE, _NESTED = 1, 2, 12, 18, 0x8000
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO, _CTA_IP_V4_SRC, _CTA_FILTER, _BY_SOURCE = 1, 2, 1, 25, 1
_ENDS: Final = {
    int(socket.AF_INET): struct.Struct("=HH4x4x4s4x4s"),
    int(socket.AF_INET6): struct.Struct("=HH4x4x16s4x16s"),
}
"""Length and type of a tuple; after the header of its addresses, source and destination."""
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT = 1, 2, 3
_CTA_STATUS, _CTA_PROTOINFO, _CTA_STATUS_MASK = 3, 4, 26
_CTA_PROTOINFO_TCP, _CTA_PROTOINFO_TCP_STATE = 1, 1
_TCP_CONNTRACK_TIME_WAIT, _TCP_CONNTRACK_CLOSE = 7, 8
ANSWERED, SOURCE_CHANGED, DESTINATION_CHANGED = 1 << 1, 1 << 4, 1 << 5
"""Bits of a flow's status: IPS_SEEN_REPLY, IPS_SRC_NAT, IPS_DST_NAT
(`include/uapi/linux/netfilter/nf_conntrack_common.h`)."""
_CONNECTED: Final = (socket.IPPROTO_TCP, socket.IPPROTO_SCTP, 33)
"""Protocols with connections; 33 is DCCP."""
AT_ONCE: Final = 100
"""Flows to ask for or to end per call; the socket's buffer has room for as many errors."""
TUPLES: Final = (_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY)
_VERSIONS: Final = {int(socket.AF_INET): 4, int(socket.AF_INET6): 6}
_GENERIC: Final = struct.Struct("=BBH")
"""`struct nfgenmsg`."""


def version_of(body: memoryview) -> int:
    """The IP version of the flow in `body`."""
    return _VERSIONS[body[0]]


class Details(NamedTuple):
    """What :func:`ends` leaves out, of a flow that may matter.

    Attributes:
        protocol: the number of its protocol.
        port: the destination port of its first packet; 0 if the protocol has none.
        answering: the source port of its replies.
        connected: whether it is a connection that both ends have, and that may go on.
    """

    protocol: int
    port: int
    answering: int
    connected: bool


def details(body: memoryview) -> Details:
    """The details of the flow in `body`."""
    flow = chosen(body, _GENERIC.size, _OF_DETAILS)
    first, replies = (_protocol(flow[kind]) for kind in TUPLES)
    protocol = first[_CTA_PROTO_NUM][0]
    status = int.from_bytes(flow.get(_CTA_STATUS, b""), "big")
    return Details(
        protocol=protocol,
        port=int.from_bytes(first.get(_CTA_PROTO_DST_PORT, b""), "big"),
        answering=int.from_bytes(replies.get(_CTA_PROTO_SRC_PORT, b""), "big"),
        connected=protocol in _CONNECTED
        and bool(status & ANSWERED)
        and _tcp_state(flow.get(_CTA_PROTOINFO)) != _TCP_CONNTRACK_CLOSE,
    )


_OF_DETAILS: Final = frozenset((*TUPLES, _CTA_STATUS, _CTA_PROTOINFO))


def _protocol(flow: memoryview) -> dict[int, memoryview]:
    """The attributes about the protocol in a tuple."""
    return dict(attributes(chosen(flow, 0, (_CTA_TUPLE_PROTO,))[_CTA_TUPLE_PROTO], 0))


def has_ended(body: memoryview) -> bool:
    """Whether the flow in `body` is a TCP connection that both ends have closed, or one has reset.

    nftables' `ct count` leaves these out (`already_closed` in `net/netfilter/nf_conncount.c`).
    """
    info = chosen(body, _GENERIC.size, (_CTA_PROTOINFO,)).get(_CTA_PROTOINFO)
    return _tcp_state(info) in (_TCP_CONNTRACK_TIME_WAIT, _TCP_CONNTRACK_CLOSE)


def _tcp_state(info: memoryview | None) -> int | None:
    """The state in `info` about a flow's protocol, if that is TCP."""
    tcp = None if info is None else chosen(info, 0, (_CTA_PROTOINFO_TCP,)).get(_CTA_PROTOINFO_TCP)
    state = None if tcp is None else dict(attributes(tcp, 0)).get(_CTA_PROTOINFO_TCP_STATE)
    return None if state is None else state[0]


def ends(body: memoryview) -> tuple[bytes, bytes, bytes, bytes]:
    """Source and destination of a flow's first packet, and those of its replies.

    A table may have 262,144 flows, so this reads no further than necessary. The kernel puts both
    tuples first, and in each its addresses first (`ctnetlink_fill_info`, `ctnetlink_dump_tuples`).
    """
    layout = _ENDS[body[0]]
    offset = _GENERIC.size
    length, first, source, destination = layout.unpack_from(body, offset)
    _, second, answering, answered = layout.unpack_from(body, offset + ((length + 3) & ~3))
    if (first & ~_NESTED, second & ~_NESTED) == TUPLES:
        return source, destination, answering, answered
    raise OSError(errno.EPROTO, "the kernel lists flows in another order than it did")


def every_flow(family: int = socket.AF_UNSPEC) -> bytes:
    """Ask for all flows of a family, or of both families."""
    return _listing(family, b"")


def flows_with(direction: int, source: Address) -> bytes:
    """Ask for the IPv4 flows with that `source`, in first packets or in replies (`direction`).

    The two directions find all flows of an address: it replies to what is sent to it.
    """
    tuple_ = attribute(_CTA_TUPLE_IP | _NESTED, attribute(_CTA_IP_V4_SRC, source.packed))
    flags = attribute(direction, struct.pack("=I", _BY_SOURCE))  # same numbers as the tuples
    return _listing(
        socket.AF_INET,
        attribute(direction | _NESTED, tuple_) + attribute(_CTA_FILTER | _NESTED, flags),
    )


def with_status(value: int, mask: int) -> bytes:
    """Ask for the flows whose status is `value` in the bits of `mask`.

    An old kernel lists all. Source: `ctnetlink_filter_match` in
    `net/netfilter/nf_conntrack_netlink.c`.
    """
    return _listing(
        socket.AF_UNSPEC,
        attribute(_CTA_STATUS, struct.pack("!I", value))
        + attribute(_CTA_STATUS_MASK, struct.pack("!I", mask)),
    )


def _listing(family: int, content: bytes) -> bytes:
    body = _GENERIC.pack(family, 0, 0) + content
    return request(_CT_GET, body, NLM_F_DUMP)


def deletion(body: memoryview) -> bytes:
    """Delete one listed flow, but not a later flow with the same tuple."""
    return request(_CT_DELETE, _named(body, _CTA_ID, _CTA_ZONE))


def successor(body: memoryview) -> bytes:
    """Ask for the flow that the first packet of a listed one would belong to now.

    It began with such a packet itself, or with an answer to one: the kernel finds it by either of
    its tuples. For two flows that began with the same packet, this is the same request.
    """
    return request(_CT_GET, _named(body, _CTA_ZONE))


def end(netlink: Netlink, deletions: Sequence[bytes]) -> None:
    """Send `deletions`; flows that have ended by themselves count as ended.

    Raises:
        NetlinkError: the kernel refused one.
    """
    try:
        netlink.send(deletions)
    except NetlinkError as error:
        if error.errno != errno.ENOENT:
            raise


def _named(body: memoryview, *kinds: int) -> bytes:
    """What names the flow in `body` in a request: the tuple of its first packet, and `kinds`."""
    named = chosen(body, _GENERIC.size, (_CTA_TUPLE_ORIG, *kinds))
    content = _GENERIC.pack(body[0], 0, 0)
    content += attribute(_CTA_TUPLE_ORIG | _NESTED, named[_CTA_TUPLE_ORIG])
    return content + b"".join(attribute(kind, named[kind]) for kind in kinds if kind in named)
