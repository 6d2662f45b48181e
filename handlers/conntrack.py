"""Connection tracking: ending the flows that would stick to what an address or a port was before.

A flow outlives both its ends for as long as somebody sends: a machine outside that goes on sending
to a sandbox that is gone would reach whoever has its address next, and a UDP client that keeps
asking would be led past a sandbox that is new.

No flow can be found by an address: the kernel has a hash of whole tuples alone. So one pass over
the whole table, some 12 ms where it is empty, ends the flows of a whole batch, of every protocol.
For an address that cannot wait for its batch, the kernel sorts out the flows of others, but for
those of IPv6: by such an address its filter takes all the others (`ctnetlink_filter_match_tuple`
in `net/netfilter/nf_conntrack_netlink.c`).
"""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_address
from itertools import chain
from typing import Final

from handlers.context import Context
from handlers.handler import Handler
from handlers.kernel import rtnl
from handlers.kernel.netlink import (
    NETLINK_NETFILTER,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    Netlink,
    NetlinkError,
    attribute,
    attributes,
    chosen,
)
from watcher.model.address import Address
from watcher.model.repair import Repair
from watcher.model.request import PortMap
from watcher.model.sandbox import Member, Sandbox, published_at, without

_CT_GET, _CT_DELETE = (1 << 8) | 1, (1 << 8) | 2
"""NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_* (`include/uapi/linux/netfilter/nfnetlink*.h`)."""
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_ID, _CTA_ZONE, _NESTED = 1, 2, 12, 18, 0x8000
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO, _CTA_IP_V4_SRC, _CTA_FILTER, _BY_SOURCE = 1, 2, 1, 25, 1
_ENDS: Final = {
    int(socket.AF_INET): struct.Struct("=HH4x4x4s4x4s"),
    int(socket.AF_INET6): struct.Struct("=HH4x4x16s4x16s"),
}
"""Length and type of a tuple; behind the head of its addresses, source and destination."""
_CTA_PROTO_NUM, _CTA_PROTO_DST_PORT = 1, 3
_LISTED: Final = (_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY)
_VERSIONS: Final = {int(socket.AF_INET): 4, int(socket.AF_INET6): 6}
_GENERIC: Final = struct.Struct("=BBH")
"""`struct nfgenmsg`."""
_HEADER: Final = struct.Struct("=IHHII")
_LOOPBACK: Final = IPv4Network("127.0.0.0/8")
"""All of it is the host's, though only one of it is listed."""
_AT_ONCE: Final = 100
"""Flows that are deleted by one call: as many refusals fit into the socket's buffer."""


@dataclass(frozen=True, slots=True)
class PortChange:
    """UDP ports of the host that lead to a sandbox by now, or do so no more.

    Attributes:
        ports: which.
        targets: that sandbox's address by IP version, where it has one.
        published: they lead there, and flows that lead elsewhere end; else those that lead there.
    """

    ports: PortMap
    targets: tuple[tuple[int, bytes], ...]
    published: bool


@dataclass(slots=True)
class Batch:
    """Whose flows one pass ends.

    Attributes:
        addresses: those, packed, that sandboxes have given back.
        changes: of UDP ports, without repetition and in order.
    """

    addresses: set[bytes] = field(default_factory=set)
    changes: dict[PortChange, None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.addresses or self.changes)


class ConntrackHandler(Handler):
    """Collects whose flows have to end, and ends them when it is told to.

    The verbs of a handler only collect: a pass is too long for anybody to wait for, and one is
    enough for many. They belong to one thread; :meth:`end_due` may be called in another at the
    same time.
    """

    def __init__(self, context: Context) -> None:
        self._networks = context.networks
        self._lock = threading.Lock()
        self._due = Batch()
        self._ending = Batch()

    def appear(self, sandbox: Sandbox) -> None:
        """Flows to its published UDP ports which lead elsewhere are to end."""
        self._change(sandbox, sandbox.ports, published=True)

    def vanish(self, sandbox: Sandbox, leaving: Sequence[Member]) -> None:
        """Flows of its addresses, or to the UDP ports of those `leaving`, are to end."""
        rest = without(sandbox, leaving)
        if rest is None:
            self.give_back(a.ip for i in sandbox.interfaces for a in i.addresses)
            return
        kept = rest.ports
        gone = [port for member in leaving for port in member.ports if port not in kept]
        self._change(sandbox, gone, published=False)

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Whoever was cut off between a change and its pass has left it to be done."""
        for sandbox in () if dry_run else sandboxes:
            self.appear(sandbox)
        return []

    def give_back(self, addresses: Iterable[Address]) -> None:
        """Flows of `addresses` are to end."""
        with self._lock:
            self._due.addresses.update(address.packed for address in addresses)

    @property
    def due(self) -> bool:
        """Whether there is anything to end."""
        return bool(self._due)

    @property
    def urgent(self) -> bool:
        """Whether UDP ports are among it, whose clients go on asking somebody else until then."""
        return bool(self._due.changes)

    def end_of(self, addresses: Collection[Address]) -> None:
        """End the flows of `addresses` now; they are about to be somebody's.

        Raises:
            OSError: the kernel refused.
        """
        packed = {address.packed for address in addresses}
        with self._lock:  # from now on a pass that is under way leaves them alone
            self._due.addresses -= packed
            self._ending.addresses -= packed
        requests = [_every_flow(socket.AF_INET6)] if any(a.version == 6 for a in addresses) else []
        for address in addresses:
            if address.version == 4:
                requests += (_flows_with(direction, address) for direction in _LISTED)
        try:
            self._pass(Batch(packed), *requests)
        except OSError:
            self.give_back(addresses)
            raise

    def end_due(self) -> set[Address]:
        """End by one pass all flows that are due; of which addresses that was.

        Raises:
            OSError: the kernel refused; it is still due.
        """
        with self._lock:
            batch, self._due = self._due, Batch()
            self._ending = batch
        try:
            self._pass(batch, _every_flow())
        except OSError:
            with self._lock:
                self._due.addresses |= batch.addresses
                self._due.changes = batch.changes | self._due.changes
            raise
        finally:
            with self._lock:
                self._ending = Batch()
        return {ip_address(packed) for packed in batch.addresses}

    def _change(self, sandbox: Sandbox, ports: Iterable[PortMap], *, published: bool) -> None:
        udp = [port for port in ports if port.protocol == "udp"]
        if not udp:
            return
        targets = tuple(
            (version, address.packed)
            for version in (4, 6)
            if (address := published_at(sandbox, self._networks, version)) is not None
        )
        with self._lock:
            for port in udp:
                self._due.changes.pop(PortChange(port, targets, not published), None)
                self._due.changes[PortChange(port, targets, published)] = None

    def _pass(self, batch: Batch, *requests: bytearray) -> None:
        """Go through what the kernel lists for `requests`, and end what `batch` names."""
        if not batch:
            return
        ports = _Ports(batch.changes)
        with Netlink(NETLINK_NETFILTER) as listing, Netlink(NETLINK_NETFILTER) as deleting:
            found: list[tuple[frozenset[bytes], bytearray]] = []
            for body in chain.from_iterable(map(listing.listed, requests)):
                ends = _ends(body)
                if not batch.addresses.isdisjoint(ends):
                    found.append((frozenset(ends), _deletion(body)))
                elif ports and ports.concerns(body, ends):
                    found.append((frozenset(), _deletion(body)))
                if len(found) >= _AT_ONCE:
                    self._delete(deleting, batch, found)
            self._delete(deleting, batch, found)

    def _delete(
        self, netlink: Netlink, batch: Batch, found: list[tuple[frozenset[bytes], bytearray]]
    ) -> None:
        """End the flows `found`, but not those of an address that was taken out of `batch`."""
        with self._lock:
            requests = [r for ends, r in found if not ends or not batch.addresses.isdisjoint(ends)]
            found.clear()
            if not requests:
                return
            try:
                netlink.send(requests)
            except NetlinkError as error:
                if error.errno != errno.ENOENT:  # it ended by itself
                    raise


class _Ports:
    """The changes of a batch by their port of the host."""

    def __init__(self, changes: Iterable[PortChange]) -> None:
        self._by_port: defaultdict[int, tuple[PortChange, ...]] = defaultdict(tuple)
        for change in changes:
            for port in range(change.ports.host_port, change.ports.last + 1):
                self._by_port[port] += (change,)
        self._local: frozenset[Address] = frozenset()
        if self._by_port:
            with Netlink() as route:
                bodies = route.dump(rtnl.addresses(0))
                self._local = frozenset(address.ip for address in rtnl.read_addresses(bodies))

    def __bool__(self) -> bool:
        return bool(self._by_port)

    def concerns(self, body: memoryview, ends: Sequence[bytes]) -> bool:
        """Whether a flow is one to such a port that has to end."""
        flow = chosen(body, _GENERIC.size, (_CTA_TUPLE_ORIG,))[_CTA_TUPLE_ORIG]
        proto = chosen(flow, 0, (_CTA_TUPLE_PROTO,))[_CTA_TUPLE_PROTO]
        told = dict(attributes(proto, 0))
        if told[_CTA_PROTO_NUM][0] != socket.IPPROTO_UDP:
            return False
        changes = self._by_port.get(int.from_bytes(told[_CTA_PROTO_DST_PORT], "big"), ())
        _, asked, answers, _ = ends
        version = _VERSIONS[body[0]]
        return any(self._is_stuck(change, version, asked, answers) for change in changes)

    def _is_stuck(self, change: PortChange, version: int, asked: bytes, answers: bytes) -> bool:
        """Whether a flow to a changed port leads where that led before."""
        to = dict(change.targets).get(version)
        if to is None:
            return False
        if change.published:
            return answers != to and self._takes(change, ip_address(asked))
        return answers == to and asked != answers

    def _takes(self, change: PortChange, address: Address) -> bool:
        """Whether its port map takes what is addressed to `address`."""
        host_ip = change.ports.host_ip
        if host_ip is not None and not host_ip.is_unspecified:
            return host_ip == address
        if host_ip is not None and host_ip.version != address.version:
            return False
        return address in self._local or address in _LOOPBACK


def _ends(body: memoryview) -> tuple[bytes, bytes, bytes, bytes]:
    """A flow's source and destination as first seen, and those of what is answered.

    A table may have 262,144 of them: this reads no further than it has to. The kernel lists both
    tuples first, and in each its addresses first (`ctnetlink_fill_info` and
    `ctnetlink_dump_tuples`).
    """
    ends = _ENDS[body[0]]
    offset = _GENERIC.size
    length, first, source, destination = ends.unpack_from(body, offset)
    _, second, answering, answered = ends.unpack_from(body, offset + ((length + 3) & ~3))
    if (first & ~_NESTED, second & ~_NESTED) == _LISTED:
        return source, destination, answering, answered
    raise OSError(errno.EPROTO, "the kernel lists flows in another order than it did")


def _every_flow(family: int = socket.AF_UNSPEC) -> bytearray:
    """Ask for all flows of a family, or of both."""
    return _listing(family, b"")


def _flows_with(direction: int, source: Address) -> bytearray:
    """Ask for the flows of IPv4 with that `source`, as first seen or in what is answered.

    Those two are all of an address: what is addressed to it is answered by it.
    """
    tuple_ = attribute(_CTA_TUPLE_IP | _NESTED, attribute(_CTA_IP_V4_SRC, source.packed))
    flags = attribute(direction, struct.pack("=I", _BY_SOURCE))  # numbered as the tuples are
    return _listing(
        socket.AF_INET,
        attribute(direction | _NESTED, tuple_) + attribute(_CTA_FILTER | _NESTED, flags),
    )


def _listing(family: int, content: bytes) -> bytearray:
    body = _GENERIC.pack(family, 0, 0) + content
    header = _HEADER.pack(_HEADER.size + len(body), _CT_GET, NLM_F_REQUEST | NLM_F_DUMP, 0, 0)
    return bytearray(header + body)


def _deletion(body: memoryview) -> bytearray:
    """Delete one flow, named as the kernel has listed it; not one that came in its place."""
    named = chosen(body, _GENERIC.size, (_CTA_TUPLE_ORIG, _CTA_ID, _CTA_ZONE))
    content = bytearray(_GENERIC.pack(body[0], 0, 0))
    content += attribute(_CTA_TUPLE_ORIG | _NESTED, named[_CTA_TUPLE_ORIG])
    for kind in (_CTA_ID, _CTA_ZONE):
        if kind in named:
            content += attribute(kind, named[kind])
    header = _HEADER.pack(_HEADER.size + len(content), _CT_DELETE, NLM_F_REQUEST, 0, 0)
    return bytearray(header) + content
