"""Looks at everything by which other hosts are reached: what is there, and what is wanted."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import batched
from typing import Final

from msgspec import Struct

from handlers.cluster import comparing, devices, own_addresses
from handlers.cluster.comparing import Step
from handlers.cluster.devices import Device
from handlers.cluster.hearing import Expected
from handlers.cluster.plan import Local, Plan
from handlers.cluster.wanted import wanted
from handlers.cluster.ways import NOWHERE, Way, ways
from handlers.context import Context
from handlers.handler import Difference
from handlers.kernel import rtnl, sysctl
from handlers.kernel.uplink import underlay_mtu
from handlers.networks.clustered import ClusteredDriver
from handlers.networks.forwarding import FORWARDING
from handlers.networks.routed import RoutedDriver
from handlers.settings import Sysctl
from watcher.model.address import Address
from watcher.model.cluster import vni
from watcher.model.repair import Repair

_WAYS_AT_ONCE: Final = 512
"""Ways that are looked at before other work may have its turn: some milliseconds."""


class Known(Struct, frozen=True):
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


class Looker:
    """See the module's docstring.

    Attributes:
        known: what the last look worked out; `None` if everything has to be looked at.
        own: the last address that this host had.
        ways: the last ways to other hosts.
    """

    def __init__(self, context: Context) -> None:
        self._netlink = context.netlink
        self._cluster = context.cluster
        self._drivers = context.drivers
        self._settings = Sysctl(context.notes)
        self.known: Known | None = None
        self.own: Address | None = None
        self.ways: Mapping[Address, Way] = {}

    def own_address(self) -> Address | None:
        """What the others reach this host by; the last one while there is none."""
        return self._cluster.address or self.own

    def ways_to(self, addresses: Iterable[Address]) -> dict[Address, Way]:
        """The ways to `addresses`, at once."""
        finding = self.finding(addresses)
        while True:
            try:
                next(finding)
            except StopIteration as end:
                found: dict[Address, Way] = end.value
                return found

    def finding(self, addresses: Iterable[Address]) -> Generator[None, None, dict[Address, Way]]:
        """The ways to `addresses`, in steps.

        While there is no route to a host behind a router, packets in VXLAN wait for one.
        """
        found: dict[Address, Way] = {}
        for some in batched(set(addresses), _WAYS_AT_ONCE):
            found |= ways(self._netlink, some)
            yield None
        for address, way in found.items():
            before = self.ways.get(address, NOWHERE)
            if way == NOWHERE and not before.common:
                found[address] = before
        return found

    def still_fits(self, known: Known, found: Iterable[Way]) -> bool:
        """Whether the devices are those that are wanted, and the links of `found` are heard of."""
        now = self._wanted(known.own, known.underlay, known.plan)
        return now == known.devices and known.expected.knows(found)

    def _wanted(self, own: Address | None, underlay: int, plan: Plan) -> tuple[Device, ...]:
        drivers = (local.driver for local in plan.locals.values())
        return wanted(drivers, self._cluster, own, underlay, plan.peers.values(), plan.ways)

    def differences(
        self, drivers: Sequence[ClusteredDriver], kept: Plan | None = None
    ) -> Iterator[Step]:
        """What differs from what the lease store says, or from the plan that is `kept`."""
        own = self.own = self.own_address()
        underlay = underlay_mtu(own) if drivers else 0
        peers = self._cluster.peers() if kept is None else kept.peers
        blocks = self._cluster.blocks()
        found = self.ways = yield from self.finding(peer.address for peer in peers.values())
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
        if kept is not None and kept.locals == locals_:
            plan = kept
            plan.change(plan.reached_otherwise(found), (), (), (), found)
            plan.take_own(blocks)
        else:
            theirs = self._cluster.peer_blocks()
            plan = Plan(locals_, blocks, self._cluster.peers(), theirs, found)
        links = {way.link for way in found.values()} - {0}
        expected = self._expected(plan, needed, links)
        self.known = Known(plan, needed, own, underlay, sources, expected)
        yield from comparing.differences(self._netlink, plan, indices(plan))
        yield from self._not_forwarding(links)
        for driver in (*drivers, *self._no_longer()):
            own_ones = sources.get(driver.network.name, {})
            yield from own_addresses.surplus(self._netlink, driver, own_ones)
        yield from devices.surplus(self._netlink, needed)

    def _no_longer(self) -> Iterator[ClusteredDriver]:
        """The drivers that networks would have which may have been clustered."""
        for driver in self._drivers.values():
            if isinstance(driver, RoutedDriver) and not isinstance(driver, ClusteredDriver):
                yield ClusteredDriver(driver.network)

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


def indices(plan: Plan) -> set[int]:
    """The VXLAN devices that are there."""
    return {local.device for local in plan.locals.values() if local.device}
