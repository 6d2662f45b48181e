"""Gives a running sandbox other ways: after a reload, all it sends goes by the host, or no longer.

What differs is the prefix length of its addresses, and what is on the link
(:meth:`handlers.networks.driver.Driver.former_ways`). Connections go on: an IPv4 address may be
there twice with different lengths, and an IPv6 address is missing for a few microseconds.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence

from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink
from handlers.kernel.rtnl.numbers import RT_TABLE_MAIN
from handlers.link import policy_routes
from handlers.networks.driver import Driver, Way
from watcher.model.sandbox import Interface


def outdated(
    there: Iterable[tuple[bytes, int]], interface: Interface, driver: Driver
) -> list[tuple[Way, Way]]:
    """Former ways of `interface` of which it still has the address, each with that of today.

    `there` are its addresses as :func:`handlers.kernel.rtnl.read_packed` returns them.
    """
    own = {address.packed for address in interface.addresses}
    both = [one for one in there if one[0] in own]
    ways = driver.ways(interface)
    now = {_key(way) for way in ways}
    if now.issuperset(both):  # as nearly always
        return []
    pairs = zip(driver.former_ways(interface), ways, strict=False)
    return [(old, new) for old, new in pairs if _key(old) in both and _key(old) not in now]


def described(name: str, old: Sequence[tuple[Way, Way]]) -> str:
    """What is wrong with the interface `name`; empty if nothing is `old`."""
    if not old:
        return ""
    shown = ", ".join(str(way.address) for way, _ in old)
    return f"{name} had {shown} as before its network was changed"


def reshape(
    inside: Netlink, index: int, interface: Interface, old: Iterable[tuple[Way, Way]]
) -> None:
    """Replace the addresses of `old` ways and remove their routes; the new routes are up to others.

    The addresses come last, as they show after a kill that this is to be done.

    Raises:
        NetlinkError: the kernel refused.
    """
    for before, after in old:
        for table in (RT_TABLE_MAIN, policy_routes.FIRST_TABLE + interface.ordinal):
            for to, via in ((before.on_link, None), (before.beyond, before.hop)):
                if to is not None:
                    gone = rtnl.no_route(rtnl.Route(to, via, index, 0), table)
                    inside.send_unless_done(gone, errno.ESRCH, errno.ENOENT)
        requests = [
            rtnl.address(index, after.address), rtnl.no_address(index, before.address),
        ]  # fmt: skip
        if after.address.version == 6:  # which is there only once, whatever its prefix length
            requests.reverse()
        for request in requests:
            inside.send_unless_done(request, errno.EADDRNOTAVAIL)


def _key(way: Way) -> tuple[bytes, int]:
    return way.address.packed, way.address.network.prefixlen
