"""Finds orphans: what a namespace has of a sandbox that the lease store does not know.

The proof is the host ends that lead there, not anything inside (:mod:`handlers.link.ours`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from handlers.guard import link as guard
from handlers.kernel import rtnl
from handlers.kernel.namespace import HostNamespace
from handlers.kernel.netlink import MOST, Netlink
from handlers.link import ours
from watcher.model.address import Address
from watcher.model.alias import ALIAS
from watcher.model.orphan import Orphan


def orphans(
    netlink: Netlink, home: HostNamespace, descriptor: int, names: Iterable[str] | None
) -> list[Orphan]:
    """The orphans in the namespace of `descriptor`; several only if a link was moved there.

    `netlink` is a socket of the host. Only the host ends `names` are looked at, or all if `None`.
    """
    number = ours.number_of(netlink, descriptor)
    if number < 0:
        return []
    links = ours.host_ends(netlink) if names is None else ours.named(netlink, names)
    of_each: dict[tuple[int, str], list[rtnl.Link]] = {}
    for link in links:
        if link.peer_netns == number and link.alias.startswith(ALIAS):
            of_each.setdefault((ours.pid_in(link), link.alias), []).append(link)
    if not of_each:
        return []
    with home.left_for(descriptor):
        inside = Netlink(most=MOST)
    with inside:
        return [_orphan(netlink, inside, sorted(e, key=ours.ordinal_in)) for e in of_each.values()]


def _orphan(netlink: Netlink, inside: Netlink, ends: Sequence[rtnl.Link]) -> Orphan:
    """The orphan whose host ends are `ends`; `inside` is a socket in its namespace."""
    return Orphan(
        ours.sandbox_id(ends[0]),
        ours.pid_in(ends[0]),
        tuple(end.name for end in ends),
        tuple(_addresses(netlink, inside, end) for end in ends),
    )


def _addresses(netlink: Netlink, inside: Netlink, end: rtnl.Link) -> tuple[Address, ...]:
    """The addresses that the guard allows, whatever is inside; without a guard, those inside."""
    allowed = guard.addresses(netlink, end.index)
    if allowed is not None:
        return allowed
    there = rtnl.read_addresses(inside.dump(rtnl.addresses(end.peer)))
    return tuple(address.ip for address in there)
