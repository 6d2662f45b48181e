"""Compares the routes and entries that are there with those that are wanted."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from heapq import nsmallest
from ipaddress import ip_address, ip_network
from itertools import batched, chain, product
from typing import Final

from handlers.cluster.plan import Delta, Plan
from handlers.cluster.sending import carry_out
from handlers.cluster.suspects import Suspects
from handlers.handler import Difference
from handlers.kernel.netlink import Netlink, NetlinkError
from handlers.kernel.rtnl.block_routes import BlockRoute, block_routes, read_block_route
from handlers.kernel.rtnl.entries import (
    ENTRY_FAMILIES,
    Entry,
    entries,
    read_entry,
)
from watcher.model.repair import Repair

_NAMED: Final = 3
"""The most things that a repair names."""

_GONE: Final = (errno.ENOENT, errno.ENODEV)

_TOGETHER: Final = 512
"""The most routes or entries that are read, or sent for one repair, before other work may have its
turn: some milliseconds."""

type Step = Difference | None
"""A difference, or `None` where a look may pause."""


def differences(netlink: Netlink, plan: Plan, devices: Iterable[int]) -> Iterator[Step]:
    """What differs; new entries come before the routes that need them, and old ones go behind."""
    there: list[BlockRoute] = []
    here: list[Entry] = []
    for version in (4, 6):
        yield from _reading(netlink, block_routes(version), read_block_route, there)
    for index, family in product(devices, ENTRY_FAMILIES):
        yield from _reading(netlink, entries(index, family), read_entry, here)
    now = {route.key for route in there if plan.routes.get(route.key) == route}
    known = {entry.key for entry in here if plan.entries.get(entry.key) == entry}
    yield None
    more = [entry for key, entry in plan.entries.items() if key not in known]
    yield from _made_entries(netlink, more)
    lacking = [route for key, route in plan.routes.items() if key not in now]
    yield from _made_routes(netlink, lacking)
    replaced = {(route.key, route.metric) for route in lacking}
    surplus = [
        route for route in there
        if plan.routes.get(route.key) != route and (route.key, route.metric) not in replaced
    ]  # fmt: skip
    yield from _removed_routes(netlink, surplus)
    changed = {entry.key for entry in more}
    indices = set(devices)
    old = [
        entry
        for entry in here
        if entry.index in indices and entry.to and entry.key not in changed
        and plan.entries.get(entry.key) != entry
    ]  # fmt: skip
    yield from _removed_entries(netlink, old)


def suspected(netlink: Netlink, plan: Plan, suspects: Suspects) -> Iterator[Step] | None:
    """What events have told, without a look; `None` if only a look can tell what is there."""
    more, lacking = [], []
    surplus: list[BlockRoute] = []
    old: list[Entry] = []
    for key, there in suspects.routes.others.items():
        route = plan.routes.get(key)
        others = [other for other in there if other != route]
        # To remove one of the same metric might hit ours: `fib_nh_match` in
        # `net/ipv4/fib_semantics.c` takes a route without a next hop for any on that interface.
        if route is not None and any(other.metric == route.metric for other in others):
            return None
        lacking += [] if route is None else [route]
        surplus += others
    for at, there_instead in suspects.entries.others.items():
        entry = plan.entries.get(at)
        if entry is not None:  # it takes the place of what is there
            more.append(entry)
        else:
            old += [other for other in there_instead if other.to]
    return chain(
        _made_entries(netlink, more), _made_routes(netlink, lacking),
        _removed_routes(netlink, surplus), _removed_entries(netlink, old),
    )  # fmt: skip


def changed(netlink: Netlink, delta: Delta) -> Iterator[Step]:
    """What is different because other hosts are reached another way."""
    why = "other hosts are reached another way"
    yield from _made_entries(netlink, delta.entries, why)
    yield from _made_routes(netlink, delta.routes, why)
    yield from _removed_routes(netlink, delta.no_routes, why)
    yield from _removed_entries(netlink, delta.no_entries, why)


def _made_entries(
    netlink: Netlink, some: Sequence[Entry], why: str = "they were missing"
) -> Iterator[Step]:
    for part in batched(some, _TOGETHER):
        what = f"made entries of VXLAN for {_some(map(_of, part), _address)}"
        yield from _difference(netlink, what, why, Delta(list(part), [], [], []))


def _made_routes(
    netlink: Netlink, some: Sequence[BlockRoute], why: str = "they were missing"
) -> Iterator[Step]:
    for part in batched(some, _TOGETHER):
        what = f"made routes to {_some(map(_to, part), _prefix)}"
        yield from _difference(netlink, what, why, Delta([], list(part), [], []))


def _removed_routes(
    netlink: Netlink, some: Sequence[BlockRoute], why: str = "no host has that"
) -> Iterator[Step]:
    for part in batched(some, _TOGETHER):
        what = f"removed routes to {_some(map(_to, part), _prefix)}"
        yield from _difference(netlink, what, why, Delta([], [], list(part), []))


def _removed_entries(
    netlink: Netlink, some: Sequence[Entry], why: str = "no route needs them"
) -> Iterator[Step]:
    for part in batched(some, _TOGETHER):
        what = f"removed entries of VXLAN for {_some(map(_of, part), _address)}"
        yield from _difference(netlink, what, why, Delta([], [], [], list(part)))


def routes(netlink: Netlink) -> list[BlockRoute]:
    """The routes with our protocol."""
    found: list[BlockRoute] = []
    for version in (4, 6):
        for _ in _reading(netlink, block_routes(version), read_block_route, found):
            pass
    return found


def without_any(netlink: Netlink) -> Iterator[Difference]:
    """The difference to a host that has no route with our protocol."""
    steps = _removed_routes(netlink, routes(netlink), "")
    yield from (step for step in steps if step is not None)


def _reading[T](
    netlink: Netlink,
    request: bytes,
    read: Callable[[memoryview], T | None],
    into: list[T],
) -> Iterator[None]:
    """Read a list of the kernel; the kernel tells it at once, and reading may pause."""
    try:
        bodies = netlink.dump(request)
    except NetlinkError as error:
        if error.errno not in _GONE:  # the table has no route, or the device has gone
            raise
        return
    for some in batched(bodies, _TOGETHER):
        into += [one for body in some if (one := read(body)) is not None]
        yield None


def _difference(netlink: Netlink, what: str, why: str, delta: Delta) -> Iterator[Step]:
    yield Difference(Repair(what, "", why), partial(carry_out, netlink, delta), alone=True)
    yield None


def _some[T: (bytes, tuple[int, bytes, int])](
    things: Iterable[T], shown: Callable[[T], str]
) -> str:
    """The first of `things`, and how many more there are."""
    every = set(things)
    named = ", ".join(map(shown, nsmallest(_NAMED, every)))
    return named + (f" and {len(every) - _NAMED} more" if len(every) > _NAMED else "")


def _to(route: BlockRoute) -> tuple[int, bytes, int]:
    return len(route.to), route.to, route.length


def _prefix(to: tuple[int, bytes, int]) -> str:
    return str(ip_network(to[1:]))


def _of(entry: Entry) -> bytes:
    """The host that `entry` is for: its address, or that of its next hop."""
    return entry.at if len(entry.at) in (4, 16) else entry.to


def _address(packed: bytes) -> str:
    return str(ip_address(packed)) if len(packed) in (4, 16) else packed.hex(":")
