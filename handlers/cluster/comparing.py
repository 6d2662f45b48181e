"""Compares the routes and entries that are there with those that are wanted."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Final

from handlers.cluster.plan import Delta, Plan
from handlers.cluster.sending import carry_out
from handlers.handler import Difference
from handlers.kernel.netlink import Netlink, NetlinkError
from handlers.kernel.rtnl.block_routes import BlockRoute, block_routes, read_block_route
from handlers.kernel.rtnl.entries import ENTRY_FAMILIES, Entry, entries, read_entry
from watcher.model.repair import Repair

_NAMED: Final = 3
"""The most things that a repair names."""

_GONE: Final = (errno.ENOENT, errno.ENODEV)


def differences(netlink: Netlink, plan: Plan, devices: Iterable[int]) -> Iterator[Difference]:
    """What differs; new entries come before the routes that need them, and old ones go behind."""
    there = routes(netlink)
    here = [entry for index in devices for entry in entries_of(netlink, index)]
    now = {route.key: route for route in there if plan.routes.get(route.key) == route}
    known = {entry.key: entry for entry in here if plan.entries.get(entry.key) == entry}
    more = [entry for key, entry in plan.entries.items() if key not in known]
    if more:
        what = f"made entries of VXLAN for {_some(map(_of, more))}"
        yield _difference(netlink, what, "they were missing", Delta(more, [], [], []))
    lacking = [route for key, route in plan.routes.items() if key not in now]
    if lacking:
        what = f"made routes to {_some(map(_prefix, lacking))}"
        yield _difference(netlink, what, "they were missing", Delta([], lacking, [], []))
    replaced = {(route.key, route.metric) for route in lacking}
    surplus = [
        route for route in there
        if plan.routes.get(route.key) != route and (route.key, route.metric) not in replaced
    ]  # fmt: skip
    if surplus:
        what = f"removed routes to {_some(map(_prefix, surplus))}"
        yield _difference(netlink, what, "no host has that", Delta([], [], surplus, []))
    changed = {entry.key for entry in more}
    old = [
        entry
        for entry in here
        if entry.to and entry.key not in changed and plan.entries.get(entry.key) != entry
    ]
    if old:
        what = f"removed entries of VXLAN for {_some(_of(entry) for entry in old)}"
        yield _difference(netlink, what, "no route needs them", Delta([], [], [], old))


def routes(netlink: Netlink) -> list[BlockRoute]:
    """The routes with our protocol."""
    found = (_read(netlink, block_routes(version), read_block_route) for version in (4, 6))
    return [route for some in found for route in some]


def entries_of(netlink: Netlink, index: int) -> list[Entry]:
    """The permanent entries of a device."""
    found = (_read(netlink, entries(index, family), read_entry) for family in ENTRY_FAMILIES)
    return [entry for some in found for entry in some if entry.index == index and entry.to]


def without_any(netlink: Netlink) -> Iterator[Difference]:
    """The difference to a host that has no route with our protocol."""
    there = routes(netlink)
    if there:
        what = f"removed routes to {_some(map(_prefix, there))}"
        yield _difference(netlink, what, "", Delta([], [], there, []))


def _read[T](
    netlink: Netlink, request: bytearray, read: Callable[[memoryview], T | None]
) -> list[T]:
    try:
        return [one for body in netlink.listed(request) if (one := read(body)) is not None]
    except NetlinkError as error:
        if error.errno not in _GONE:  # the table has no route, or the device has gone
            raise
        return []


def _difference(netlink: Netlink, what: str, why: str, delta: Delta) -> Difference:
    return Difference(Repair(what, "", why), partial(carry_out, netlink, delta), alone=True)


def _some(things: Iterable[str]) -> str:
    """The first of `things`, and how many more there are."""
    every = sorted(set(things))
    named, more = every[:_NAMED], len(every) - _NAMED
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def _prefix(route: BlockRoute) -> str:
    return str(ip_network((route.to, route.length)))


def _of(entry: Entry) -> str:
    """The host that `entry` is for: its address, or that of its next hop."""
    return _address(entry.at if len(entry.at) in (4, 16) else entry.to)


def _address(packed: bytes) -> str:
    return str(ip_address(packed)) if len(packed) in (4, 16) else packed.hex(":")
