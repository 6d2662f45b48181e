"""Tells whether an event of the kernel is about something that is not as it is wanted.

Events about what this program does itself arrive as well. They agree with what is wanted, so
nobody has to know who caused an event; those of forwarding databases do not say it.
"""

from __future__ import annotations

import socket
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from handlers.cluster.devices import Device
from handlers.cluster.plan import Plan
from handlers.cluster.suspects import Found, Suspects
from handlers.cluster.ways import Way
from handlers.kernel import rtnl
from handlers.kernel.messages import chosen
from handlers.kernel.rtnl.block_routes import read_block_route
from handlers.kernel.rtnl.entries import Entry, EntryKey, read_entry
from handlers.kernel.rtnl.numbers import (
    NETCONFA_FORWARDING,
    NETCONFA_IFINDEX,
    RTA_DST,
    RTM_DELNEIGH,
    RTM_NEWADDR,
    RTM_NEWNEIGH,
    RTM_NEWNETCONF,
    RTM_NEWROUTE,
)
from watcher.model.address import Address

_RTMSG_SIZE: Final = 12
_NETCONFMSG_SIZE: Final = 4


class Expected:
    """What events should agree with.

    Args:
        plan: the routes and entries that are wanted.
        devices: the devices that are wanted, by their indices.
        mtus: the MTUs of the links by which other hosts are reached, by index.
        own: the packed addresses of this host on these links, with the links' indices.
    """

    def __init__(
        self,
        plan: Plan,
        devices: Mapping[int, Device],
        mtus: Mapping[int, int],
        own: Collection[tuple[int, bytes]],
    ) -> None:
        self._plan = plan
        self._devices = devices
        self._mtus = mtus
        self._own = own
        self._addresses: dict[int, list[int]] = {}

    def addresses_changed(self) -> None:
        """Look again where other hosts are."""
        self._addresses.clear()

    def knows(self, ways: Iterable[Way]) -> bool:
        """Whether it hears of the links of all `ways`."""
        return all(way.link in self._mtus for way in ways if way.link)

    def hear(self, kind: int, body: memoryview, suspects: Suspects) -> bool:
        """Note what the event in `body`, of that type, contradicts; whether it does."""
        if kind in (RTM_NEWROUTE, rtnl.RTM_DELROUTE):
            return self._of_route(kind, body, suspects)
        if kind in (RTM_NEWNEIGH, RTM_DELNEIGH):
            return self._of_entry(kind, body, suspects.entries)
        if kind in (rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK):
            wrong = self.is_wrong_link(kind, body)
        elif kind in (RTM_NEWADDR, rtnl.RTM_DELADDR):
            wrong = self._of_address(kind, body)
        else:
            wrong = kind == RTM_NEWNETCONF and self._of_setting(body)
        suspects.everything = suspects.everything or wrong
        return wrong

    @property
    def links(self) -> frozenset[int]:
        """The indices of the devices, and of the links by which other hosts are reached."""
        return frozenset((*self._devices, *self._mtus))

    def _of_setting(self, body: memoryview) -> bool:
        values = chosen(body, _NETCONFMSG_SIZE, (NETCONFA_IFINDEX, NETCONFA_FORWARDING))
        index = int.from_bytes(values.get(NETCONFA_IFINDEX, b""), "little", signed=True)
        forwarding = values.get(NETCONFA_FORWARDING)
        return index in self.links and forwarding is not None and not any(forwarding)

    def _of_address(self, kind: int, body: memoryview) -> bool:
        """Routers have the kernel renew addresses all the time; then nothing has changed."""
        index = int.from_bytes(body[4:8], "little")  # ifa_index of struct ifaddrmsg
        known = any((index, packed) in self._own for packed, _ in rtnl.read_packed([body]))
        return index in self._mtus and known == (kind == rtnl.RTM_DELADDR)

    def _of_route(self, kind: int, body: memoryview, suspects: Suspects) -> bool:
        route = read_block_route(body)
        if route is None:
            leads = self._leads_to_hosts(body)
            suspects.ways = suspects.ways or leads
            return leads
        wanted, found = self._plan.routes.get(route.key), suspects.routes
        if kind == rtnl.RTM_DELROUTE:
            if wanted == route:
                return found.missing(route.key)
            return found.went(route.key, route, wanted=wanted is not None)
        if wanted == route:
            return found.came_back(route.key, lambda other: other.metric != route.metric)
        return found.there(route.key, route)

    def _of_entry(self, kind: int, body: memoryview, found: Found[EntryKey, Entry]) -> bool:
        entry = read_entry(body)
        if entry is None or entry.index not in self._devices:
            return False
        wanted = self._plan.entries.get(entry.key)
        if kind == RTM_DELNEIGH:
            if wanted is not None and (not entry.to or entry.to == wanted.to):
                return found.missing(entry.key)
            return found.went(entry.key, entry, wanted=wanted is not None)
        if wanted == entry:
            return found.came_back(entry.key, lambda _: False)
        return bool(wanted or entry.to) and found.there(entry.key, entry)

    def is_wrong_link(self, kind: int, body: memoryview) -> bool:
        """Whether an event about a link, of that type, contradicts what is wanted."""
        link = rtnl.read_link(body)
        device, mtu = self._devices.get(link.index), self._mtus.get(link.index)
        gone = kind == rtnl.RTM_DELLINK or not link.up
        if device is not None:
            its = link.name, link.mac, link.mtu
            return gone or its != (device.name, device.mac, device.mtu)
        return mtu is not None and (gone or mtu != link.mtu)

    def _leads_to_hosts(self, body: memoryview) -> bool:
        """Whether a route of somebody else's leads to another host; there may be a million.

        A default route counts as one: this host's own address may be that by which it leaves.
        """
        if not body[1]:
            return True
        to = chosen(body, _RTMSG_SIZE, (RTA_DST,)).get(RTA_DST, b"")
        version = 4 if body[0] == socket.AF_INET else 6
        bits = 32 if version == 4 else 128
        first = int.from_bytes(to)
        sorted_ = self._addresses.get(version)
        if sorted_ is None:
            sorted_ = self._addresses[version] = _sorted(
                (peer.address for peer in self._plan.peers.values()), version
            )
        at = bisect_left(sorted_, first)
        return at < len(sorted_) and sorted_[at] < first + (1 << bits - body[1])


def _sorted(addresses: Iterable[Address], version: int) -> list[int]:
    return sorted(int(address) for address in addresses if address.version == version)
