"""Connection tracking: ends flows that would stick to the former user of an address or port.

A flow outlives both its ends as long as somebody sends. A machine outside that goes on sending to
a vanished sandbox would reach the next holder of its address. A UDP client that repeats its request
would bypass a new sandbox.

The kernel cannot look up flows by an address: its hash is of whole tuples. So one pass over the
whole table, about 12 ms if it is empty, ends the flows of a batch, of every protocol. For an
address that is needed at once, the kernel filters the list if it is an IPv4 address. Its filter
by an IPv6 address is inverted, and matches all other flows (`ctnetlink_filter_match_tuple` in
`net/netfilter/nf_conntrack_netlink.c`).
"""

from __future__ import annotations

import errno
import socket
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Network, ip_address
from itertools import chain
from typing import Final

from msgspec import Struct, field

from handlers.context import Context
from handlers.handler import Handler
from handlers.kernel import flows, rtnl, sysctl
from handlers.kernel.netlink import NETLINK_NETFILTER, Netlink, NetlinkError
from watcher.model.address import Address
from watcher.model.repair import Repair
from watcher.model.request import PortMap
from watcher.model.sandbox import Member, Sandbox, published_at, without

_LOOPBACK: Final = IPv4Network("127.0.0.0/8")
"""All of it is local, though the kernel lists only one address of it."""
_COUNT: Final = "netfilter/nf_conntrack_count"
"""The number of flows. To go through an empty table takes as long as through a full one."""

_AT_ONCE: Final = 100
"""Flows deleted per call; the socket's buffer has room for as many errors."""


class PortChange(Struct, frozen=True):
    """UDP ports of the host that now lead to a sandbox, or no longer do.

    Attributes:
        ports: the ports.
        targets: the sandbox's address by IP version, where it has one.
        published: if true, flows of the ports that lead elsewhere end; else those to it.
    """

    ports: PortMap
    targets: tuple[tuple[int, bytes], ...]
    published: bool


class Batch(Struct):
    """The flows that one pass ends.

    Attributes:
        addresses: packed addresses that sandboxes have given back.
        changes: changes of UDP ports, ordered and without duplicates.
    """

    addresses: set[bytes] = field(default_factory=set)
    changes: dict[PortChange, None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.addresses or self.changes)


class ConntrackHandler(Handler):
    """Collects the flows that have to end, and ends them when told to.

    The verbs only collect: a pass is too long to wait for, and one is enough for many sandboxes.
    They belong to one thread; :meth:`end_due` may run in another at the same time.
    """

    def __init__(self, context: Context) -> None:
        self._drivers = context.drivers
        self._lock = threading.Lock()
        self._due = Batch()
        self._ending = Batch()

    def appear(self, sandbox: Sandbox) -> None:
        """Mark flows to its published UDP ports that lead elsewhere."""
        self._change(sandbox, sandbox.ports, published=True)

    def vanish(self, sandbox: Sandbox, leaving: Sequence[Member]) -> None:
        """Mark the flows of its addresses if it ends, else those to UDP ports of `leaving`."""
        rest = without(sandbox, leaving)
        if rest is None:
            self.give_back(a.ip for i in sandbox.interfaces for a in i.addresses)
            return
        kept = rest.ports
        gone = [port for member in leaving for port in member.ports if port not in kept]
        self._change(sandbox, gone, published=False)

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Repeat each `appear`, because its pass may have been cut off."""
        for sandbox in () if dry_run else sandboxes:
            self.appear(sandbox)
        return []

    def give_back(self, addresses: Iterable[Address]) -> None:
        """Mark the flows of `addresses`."""
        with self._lock:
            self._due.addresses.update(address.packed for address in addresses)

    @property
    def due(self) -> bool:
        """Whether there is anything to end."""
        return bool(self._due)

    @property
    def urgent(self) -> bool:
        """Whether UDP ports are due: until the pass, their clients reach the former target."""
        return bool(self._due.changes)

    def end_of(self, addresses: Collection[Address]) -> None:
        """End the flows of `addresses` now, because a sandbox is about to get them."""
        packed = {address.packed for address in addresses}
        with self._lock:  # from now on, a running pass leaves them alone
            self._due.addresses -= packed
            self._ending.addresses -= packed
        requests = (
            [flows.every_flow(socket.AF_INET6)] if any(a.version == 6 for a in addresses) else []
        )
        for address in addresses:
            if address.version == 4:
                requests += (flows.flows_with(direction, address) for direction in flows.TUPLES)
        try:
            self._pass(Batch(packed), *requests)
        except OSError:
            self.give_back(addresses)
            raise

    def end_due(self) -> set[Address]:
        """End all due flows in one pass; returns the addresses concerned.

        Raises:
            OSError: the kernel refused; everything is still due.
        """
        with self._lock:
            batch, self._due = self._due, Batch()
            self._ending = batch
        try:
            self._pass(batch, flows.every_flow())
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
        networks = {i.network: self._drivers[i.network].network for i in sandbox.interfaces}
        targets = tuple(
            (version, address.packed)
            for version in (4, 6)
            if (address := published_at(sandbox, networks, version)) is not None
        )
        with self._lock:
            for port in udp:
                self._due.changes.pop(PortChange(port, targets, not published), None)
                self._due.changes[PortChange(port, targets, published)] = None

    def _pass(self, batch: Batch, *requests: bytearray) -> None:
        """End those flows listed for `requests` that `batch` names."""
        if not batch or sysctl.get(_COUNT) == "0":
            return
        ports = _Ports(batch.changes)
        with Netlink(NETLINK_NETFILTER) as listing, Netlink(NETLINK_NETFILTER) as deleting:
            found: list[tuple[frozenset[bytes], bytearray]] = []
            for body in chain.from_iterable(map(listing.listed, requests)):
                ends = flows.ends(body)
                if not batch.addresses.isdisjoint(ends):
                    found.append((frozenset(ends), flows.deletion(body)))
                elif ports and ports.concerns(body, ends):
                    found.append((frozenset(), flows.deletion(body)))
                if len(found) >= _AT_ONCE:
                    self._delete(deleting, batch, found)
            self._delete(deleting, batch, found)

    def _delete(
        self, netlink: Netlink, batch: Batch, found: list[tuple[frozenset[bytes], bytearray]]
    ) -> None:
        """End the flows `found`, except those of addresses removed from `batch` meanwhile."""
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
    """The changes of a batch, by host port."""

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
        """Whether a flow to a changed port has to end."""
        changes = self._by_port.get(flows.udp_port(body), ())
        _, asked, answers, _ = ends
        version = flows.version_of(body)
        return any(self._is_stuck(change, version, asked, answers) for change in changes)

    def _is_stuck(self, change: PortChange, version: int, asked: bytes, answers: bytes) -> bool:
        """Whether a flow to a changed port leads where the port led before."""
        to = dict(change.targets).get(version)
        if to is None:
            return False
        if change.published:
            return answers != to and self._takes(change, ip_address(asked))
        return answers == to and asked != answers

    def _takes(self, change: PortChange, address: Address) -> bool:
        """Whether the port map covers packets to `address`."""
        host_ip = change.ports.host_ip
        if host_ip is not None and not host_ip.is_unspecified:
            return host_ip == address
        if host_ip is not None and host_ip.version != address.version:
            return False
        return address in self._local or address in _LOOPBACK
