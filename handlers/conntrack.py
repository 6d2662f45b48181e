"""Connection tracking: ends flows that would stick to the former user of an address or port.

A flow outlives both its ends as long as somebody sends. A machine outside that goes on sending to
a vanished sandbox would reach the next holder of its address. A UDP client that repeats its request
would bypass a new sandbox.

The kernel cannot look up flows by an address: its hash is of whole tuples. So one pass over the
whole table, about 12 ms if it is empty, ends the flows of a batch, of every protocol. So do flows
that began while rules were missing (:mod:`handlers.translations`). For an
address that is needed at once, the kernel filters the list if it is an IPv4 address. Its filter
by an IPv6 address is inverted, and matches all other flows (`ctnetlink_filter_match_tuple` in
`net/netfilter/nf_conntrack_netlink.c`).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import ip_address
from itertools import chain
from typing import Final

from msgspec import Struct, field

from handlers.context import Context
from handlers.handler import Handler
from handlers.kernel import flows, sysctl
from handlers.kernel.netlink import NETLINK_NETFILTER, Netlink
from handlers.networks import networks_of
from handlers.port_changes import PortChange, PortChanges
from handlers.successors import Successors
from handlers.translations import Translations
from watcher.model.address import Address
from watcher.model.network import Network
from watcher.model.port_sets import less
from watcher.model.repair import Repair
from watcher.model.request import PortMap
from watcher.model.sandbox import Sandbox, published_at

_COUNT: Final = "netfilter/nf_conntrack_count"
"""The number of flows. To go through an empty table takes as long as through a full one."""

_STRETCH: Final = 32
"""Flows to look at in one go, some 0.1 ms; then other threads get their turn."""


class Batch(Struct):
    """The flows that one pass ends.

    Attributes:
        addresses: packed addresses that sandboxes have given back.
        changes: changes of UDP ports, ordered and without duplicates.
        reviewed: the sandboxes whose flows have to be translated as the rules say, by key.
        networks: the networks of these, by name.
    """

    addresses: set[bytes] = field(default_factory=set)
    changes: dict[PortChange, None] = field(default_factory=dict)
    reviewed: dict[int, Sandbox] = field(default_factory=dict)
    networks: Mapping[str, Network] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.addresses or self.urgent)

    @property
    def urgent(self) -> bool:
        """Whether clients may reach the wrong end until the pass is made."""
        return bool(self.changes or self.reviewed)


class _Found(Struct, frozen=True):
    """A flow to end.

    Attributes:
        deletion: the request.
        successor: the request for the flow in its place, unless it ends because of its addresses.
        ends: its addresses, if it ends because of those.
        lacking: the sandbox because of which it should be translated otherwise, if that is why.
    """

    deletion: bytes
    successor: bytes = b""
    ends: frozenset[bytes] = frozenset()
    lacking: Sandbox | None = None


def _no_rest() -> None:
    """Go on at once."""


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
        self._successors = Successors()

    def appear(self, sandbox: Sandbox) -> None:
        """Mark flows to its published UDP ports that lead elsewhere."""
        self._note(sandbox.key, sandbox)
        self._change(sandbox, sandbox.ports, published=True)

    def vanish(self, before: Sandbox, after: Sandbox | None) -> None:
        """Mark the flows of the addresses and to the UDP ports that it no longer has."""
        self._note(before.key, after)
        if after is None:
            self.give_back(before.leased)
            return
        if before.interfaces != after.interfaces:
            self.give_back(set(before.leased).difference(after.leased))
        self._change(before, less(before.ports, after.ports), published=False)

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Repeat each `appear`, because its pass may have been cut off; review all flows.

        The rules are right by now, but may have been missing for a while.
        """
        if dry_run:
            return []
        for sandbox in sandboxes:
            self.appear(sandbox)
        with self._lock:
            self._due.reviewed = {sandbox.key: sandbox for sandbox in sandboxes}
            self._due.networks = {name: d.network for name, d in self._drivers.items()}
        return []

    def _note(self, key: int, sandbox: Sandbox | None) -> None:
        """Let a review that is due or running know a sandbox that has changed or gone."""
        with self._lock:
            for batch in (self._due, self._ending):
                if key in batch.reviewed:
                    del batch.reviewed[key]
                    if sandbox is not None:
                        # It may have got one since the last sync.
                        batch.networks = {**batch.networks, **networks_of(sandbox, self._drivers)}
                        batch.reviewed[key] = sandbox

    def give_back(self, addresses: Iterable[Address]) -> None:
        """Mark the flows of `addresses`."""
        with self._lock:
            self._due.addresses.update(address.packed for address in addresses)

    @property
    def due(self) -> bool:
        """Whether there is anything to end."""
        return bool(self._due or self._successors)

    @property
    def urgent(self) -> bool:
        """Whether more is due than the flows of addresses that nobody has any more."""
        return bool(self._due.urgent or self._successors)

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

    def end_due(self, rest: Callable[[], object] = _no_rest) -> set[Address]:
        """End all due flows in one pass; returns the addresses concerned.

        `rest` is called again and again during the pass, for the sake of other threads.

        Raises:
            OSError: the kernel refused; everything is still due.
        """
        with self._lock:
            batch, self._due = self._due, Batch()
            self._ending = batch
        try:
            self._successors.end()
            self._pass(batch, *_listing(batch), rest=rest)
        except OSError:
            with self._lock:
                self._due.addresses |= batch.addresses
                self._due.changes = batch.changes | self._due.changes
                self._due.reviewed = self._due.reviewed or batch.reviewed
                self._due.networks = self._due.networks or batch.networks
            raise
        finally:
            with self._lock:
                self._ending = Batch()
        return {ip_address(packed) for packed in batch.addresses}

    def _change(self, sandbox: Sandbox, ports: Iterable[PortMap], *, published: bool) -> None:
        udp = [port for port in ports if port.protocol == "udp"]
        if not udp:
            return
        networks = networks_of(sandbox, self._drivers)
        targets = tuple(
            (version, address.packed)
            for version in (4, 6)
            if (address := published_at(sandbox, networks, version)) is not None
        )
        with self._lock:
            for port in udp:
                self._due.changes.pop(PortChange(port, targets, not published), None)
                self._due.changes[PortChange(port, targets, published)] = None

    def _pass(self, batch: Batch, *requests: bytes, rest: Callable[[], object] = _no_rest) -> None:
        """End those flows listed for `requests` that `batch` names."""
        if not requests or sysctl.get(_COUNT) == "0":
            return
        with Netlink(NETLINK_NETFILTER) as listing, Netlink(NETLINK_NETFILTER) as deleting:
            found: list[_Found] = []
            with Netlink() as route:
                judge = self._judge(batch, route)
                for number, body in enumerate(chain.from_iterable(map(listing.listed, requests))):
                    if (one := judge(body)) is not None:
                        found.append(one)
                    if len(found) >= flows.AT_ONCE:
                        self._delete(deleting, batch, found)
                    if number % _STRETCH == _STRETCH - 1:
                        rest()
            self._delete(deleting, batch, found)

    def _judge(self, batch: Batch, route: Netlink) -> Callable[[memoryview], _Found | None]:
        """What says of a listed flow whether it has to end."""
        with self._lock:
            reviewed = list(batch.reviewed.values())
        addresses = batch.addresses
        ports = PortChanges(batch.changes, route) if batch.changes else None
        translations = Translations(reviewed, batch.networks, route) if reviewed else None

        def judge(body: memoryview) -> _Found | None:
            ends = flows.ends(body)
            if not addresses.isdisjoint(ends):
                return _Found(flows.deletion(body), ends=frozenset(ends))
            if ports is not None and ports.concerns(body, ends):
                return _Found(flows.deletion(body), flows.successor(body))
            if translations is not None:
                sandbox = translations.lacking(body, ends)
                if sandbox is not None:
                    return _Found(flows.deletion(body), flows.successor(body), lacking=sandbox)
            return None

        return judge

    def _delete(self, netlink: Netlink, batch: Batch, found: list[_Found]) -> None:
        """End the flows `found`, unless what they end for has changed meanwhile."""
        with self._lock:
            ending = [one for one in found if _still_due(one, batch)]
            found.clear()
            flows.end(netlink, [one.deletion for one in ending])
            self._successors.look_for([one.successor for one in ending if one.successor])


_SUSPECT: Final = (
    flows.with_status(0, flows.SOURCE_CHANGED | flows.DESTINATION_CHANGED),
    flows.with_status(flows.DESTINATION_CHANGED, flows.DESTINATION_CHANGED | flows.ANSWERED),
)
"""Lists the flows that may lack a translation: those without any, and without an answer."""


def _listing(batch: Batch) -> Sequence[bytes]:
    """The requests that list the flows of `batch`."""
    if batch.addresses or batch.changes:
        return [flows.every_flow()]
    return _SUSPECT if batch.reviewed else []


def _still_due(one: _Found, batch: Batch) -> bool:
    """Whether the reason for the end of a flow is the same as when it was found."""
    if one.lacking is not None:
        return batch.reviewed.get(one.lacking.key) == one.lacking
    return not one.ends or not batch.addresses.isdisjoint(one.ends)
