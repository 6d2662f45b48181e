"""Routes to the blocks of other hosts, made, repaired, removed."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from msgspec import Struct

from handlers.cluster import comparing, devices, own_addresses
from handlers.cluster.devices import Device
from handlers.cluster.hearing import Expected
from handlers.cluster.plan import Local, Plan
from handlers.cluster.sending import carry_out
from handlers.cluster.wanted import wanted
from handlers.cluster.ways import NOWHERE, Way, ways
from handlers.context import Context
from handlers.handler import Difference, Handler, apply
from handlers.kernel import rtnl, sysctl
from handlers.kernel.uplink import underlay_mtu
from handlers.networks.clustered import ClusteredDriver
from handlers.networks.forwarding import FORWARDING
from handlers.networks.routed import RoutedDriver
from handlers.settings import Sysctl
from watcher.model.address import Address
from watcher.model.cluster import Block, ClusterChange, vni
from watcher.model.network import Network
from watcher.model.repair import Repair
from watcher.model.sandbox import Sandbox

_NOTE: Final = "routes to other hosts"
"""The note that there may be something of this kind."""


class _Known(Struct, frozen=True):
    """What the last look worked out.

    Attributes:
        plan: the routes and entries that are wanted.
        devices: the devices that are.
        own: what the others reach this host by.
        underlay: the MTU of packets to them.
        sources: the host's own addresses by network and IP version.
        expected: what events should agree with.
    """

    plan: Plan
    devices: tuple[Device, ...]
    own: Address | None
    underlay: int
    sources: Mapping[str, Mapping[int, Address]]
    expected: Expected


class ClusterHandler(Handler):
    """Owns the routes with our protocol, the VXLAN devices, and the host's addresses in blocks.

    What the lease store says of other hosts counts, whether they live or not.
    """

    def __init__(self, context: Context) -> None:
        self._netlink = context.netlink
        self._drivers = context.drivers
        self._cluster = context.cluster
        self._notes = context.notes
        self._settings = Sysctl(context.notes)
        self._known: _Known | None = None
        """`None` if everything has to be looked at."""
        self._own: Address | None = None
        """The last address that this host had."""
        self.failed = False
        """Whether the last look left something that is not as it should be."""
        self._ways: Mapping[Address, Way] = {}
        """The last ways to other hosts."""

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:  # noqa: ARG002
        """Make the routes exactly those that the lease store needs; look how hosts are reached."""
        return self.look(dry_run=dry_run)

    def look(self, *, dry_run: bool = False) -> list[Repair]:
        """What :meth:`sync` does; it needs no sandboxes."""
        drivers = self._clustered()
        noted = self._notes.noted(_NOTE) is not None
        if not drivers and not noted:
            return []
        if not noted and not dry_run:
            self._notes.note(_NOTE, "made")
        self._known, self.failed = None, True
        try:
            repairs = apply(self._differences(drivers), dry_run=dry_run)
        finally:
            if dry_run:
                self._known = None
        self.failed = any(repair.error for repair in repairs)
        if not drivers and not repairs and not dry_run:  # as after a reload
            self._notes.erase(_NOTE)
        return repairs

    def meet(self, change: ClusterChange) -> None:
        """Send what `change` needs; everything is looked at only if all routes may be others.

        Raises:
            OSError: the kernel refused something; the rest was done.
        """
        if self._clustered() and not (self._known and self._met(self._known, change)):
            failed = [repair for repair in self.look() if repair.error]
            if failed:
                raise OSError(errno.EIO, f"{failed[0].what}: {failed[0].error}")

    def is_wrong(self, kind: int, body: memoryview) -> bool:
        """Whether an event of rtnetlink, of that type, is a reason for a :meth:`look`.

        A link that is being made is not as it should be at first, so it is looked at once more.
        """
        if self._known is None or not self._known.expected.is_wrong(kind, body):
            return False
        if kind != rtnl.RTM_NEWLINK:
            return True
        index, _ = rtnl.read_state(body)
        now = self._netlink.get(rtnl.link_at(index))
        return now is None or self._known.expected.is_wrong(kind, now)

    @property
    def address(self) -> Address | None:
        """What the other hosts reached this one by at the last look."""
        return self._own

    @property
    def links(self) -> tuple[frozenset[int], frozenset[int]]:
        """The indices of the VXLAN devices; the same and those of the links to other hosts."""
        if self._known is None:
            return frozenset(), frozenset()
        return frozenset(_indices(self._known.plan)), self._known.expected.links

    def remove(self, networks: Iterable[Network]) -> list[str]:  # noqa: ARG002
        """Remove all routes with our protocol, and all VXLAN devices of ours."""
        self._known = None
        done = apply(comparing.without_any(self._netlink), dry_run=False)
        done += apply(devices.surplus(self._netlink, ()), dry_run=False)
        self._notes.erase(_NOTE)
        return [repair.what for repair in done]

    def _clustered(self) -> list[ClusteredDriver]:
        return [d for d in self._drivers.values() if isinstance(d, ClusteredDriver)]

    def _no_longer(self) -> Iterator[ClusteredDriver]:
        """The drivers that networks would have which may have been clustered."""
        for driver in self._drivers.values():
            if isinstance(driver, RoutedDriver) and not isinstance(driver, ClusteredDriver):
                yield ClusteredDriver(driver.network)

    def _met(self, known: _Known, change: ClusterChange) -> bool:
        """Send what `change` needs; returns false if everything has to be looked at instead."""
        plan, deltas = known.plan, []
        own = self._cluster.blocks() if change.own else ()
        if change.own and not self._is_as_before(known, own):
            return False
        found = self._ways_to(peer.address for peer in change.peers)
        deltas.append(
            plan.change(change.peers, change.blocks, change.gone, change.gone_blocks, found)
        )
        if change.peers or change.gone:
            self._ways = plan.ways
            now = self._wanted(known.own, known.underlay, plan)
            if now != known.devices or not known.expected.knows(found.values()):
                return False
            known.expected.addresses_changed()
        if change.own:
            deltas.append(plan.take_own(own))
        for delta in deltas:
            carry_out(self._netlink, delta)
        return True

    def _is_as_before(self, known: _Known, blocks: Sequence[Block]) -> bool:
        """Whether the numbers and the addresses of this host are those that were known."""
        return self._own_address() == known.own and all(
            local.number == self._cluster.number(name)
            and local.driver.sources(blocks) == known.sources[name]
            for name, local in known.plan.locals.items()
        )

    def _own_address(self) -> Address | None:
        return self._cluster.address or self._own

    def _ways_to(self, addresses: Iterable[Address]) -> dict[Address, Way]:
        """The ways to `addresses`.

        While there is no route to a host behind a router, packets in VXLAN wait for one.
        """
        found = ways(self._netlink, set(addresses))
        for address, way in found.items():
            before = self._ways.get(address, NOWHERE)
            if way == NOWHERE and not before.common:
                found[address] = before
        return found

    def _wanted(self, own: Address | None, underlay: int, plan: Plan) -> tuple[Device, ...]:
        drivers = (local.driver for local in plan.locals.values())
        return wanted(drivers, self._cluster, own, underlay, plan.peers.values(), plan.ways)

    def _differences(self, drivers: Sequence[ClusteredDriver]) -> Iterator[Difference]:
        own = self._own = self._own_address()
        underlay = underlay_mtu(own) if drivers else 0
        peers, blocks = self._cluster.peers(), self._cluster.blocks()
        found = self._ways = self._ways_to(peer.address for peer in peers.values())
        needed = wanted(drivers, self._cluster, own, underlay, peers.values(), found)
        for device in needed:
            yield from devices.differences(self._netlink, device)
        sources = {driver.network.name: driver.sources(blocks) for driver in drivers}
        for driver in drivers:
            yield from own_addresses.missing(self._netlink, driver, sources[driver.network.name])
        there = {one.its.id: one.link.index for one in devices.ours(self._netlink)}
        locals_ = {}
        for driver in drivers:
            name = driver.network.name
            number = self._cluster.number(name)
            usable = own_addresses.usable(self._netlink, driver, sources[name])
            index = there.get(vni(number), 0) if number else 0
            version = 0 if own is None else own.version
            locals_[name] = Local(driver, number, index, version, usable)
        plan = Plan(locals_, blocks, peers, self._cluster.peer_blocks(), found)
        links = {way.link for way in found.values()} - {0}
        expected = self._expected(plan, needed, links)
        self._known = _Known(plan, needed, own, underlay, sources, expected)
        yield from comparing.differences(self._netlink, plan, _indices(plan))
        yield from self._not_forwarding(links)
        for driver in (*drivers, *self._no_longer()):
            own_ones = sources.get(driver.network.name, {})
            yield from own_addresses.surplus(self._netlink, driver, own_ones)
        yield from devices.surplus(self._netlink, needed)

    def _expected(self, plan: Plan, needed: Sequence[Device], links: Iterable[int]) -> Expected:
        by_name = {device.its.id: device for device in needed}
        of_index = {
            local.device: by_name[vni(local.number)]
            for local in plan.locals.values()
            if local.device and vni(local.number) in by_name
        }
        mtus = {}
        for link in links:
            body = self._netlink.get(rtnl.link_at(link))
            mtus[link] = 0 if body is None else rtnl.read_link(body).mtu
        own = set()
        for body in self._netlink.dump(rtnl.addresses(0)) if mtus else ():
            index = int.from_bytes(body[4:8], "little")  # ifa_index of struct ifaddrmsg
            own |= {(index, packed) for packed, _ in rtnl.read_packed([body]) if index in mtus}
        return Expected(plan, of_index, mtus, own)

    def _not_forwarding(self, links: Iterable[int]) -> Iterator[Difference]:
        """The links to other hosts by which nothing is forwarded, while the host does forward."""
        for link in sorted(links) if sysctl.get(FORWARDING[4]) == "1" else ():
            name = f"ipv4/conf/{self._netlink.name(link)}/forwarding"
            if sysctl.get(name) == "0":
                repair = Repair(f"turned on {name}", "", "other hosts' packets come in there")
                yield Difference(repair, partial(self._settings.set, name, "1"), alone=True)


def _indices(plan: Plan) -> set[int]:
    return {local.device for local in plan.locals.values() if local.device}
