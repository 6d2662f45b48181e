"""What a namespace has of a sandbox that the lease store does not know (any more).

It is told by the host ends that lead there, and not by anything inside (:mod:`handlers.hostend`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from handlers import hostend, rtnl
from handlers.namespace import Home
from handlers.netlink import MOST, Netlink
from watcher.config import Network
from watcher.model import Address


@dataclass(frozen=True, slots=True)
class Remnant:
    """See the module's docstring.

    Attributes:
        id: the sandbox's id, as the alias of its host ends has it.
        pid: the pid in the names of its links.
        links: the names of its host ends, in order.
        addresses: of each of these, those inside.
    """

    id: str
    pid: int
    links: tuple[str, ...]
    addresses: tuple[tuple[Address, ...], ...]

    def is_of(self, sandbox_id: str) -> bool:
        """Whether it is what the sandbox of that id had."""
        return hostend.alias_of(sandbox_id) == hostend.ALIAS + self.id

    def held_to(self, guarded: Mapping[str, tuple[Address, ...]]) -> Remnant:
        """It with the addresses that the host's guard holds its links to, whatever is inside."""
        both = zip(self.links, self.addresses, strict=True)
        return replace(self, addresses=tuple(guarded.get(name, a) for name, a in both))

    def by_network(self, networks: Sequence[Network]) -> dict[str, tuple[Address, ...]]:
        """The addresses by the name of the network that the interface of that number is in."""
        return {n.name: a for n, a in zip(networks, self.addresses, strict=False)}


def remnants(
    netlink: Netlink, home: Home, descriptor: int, names: Iterable[str] | None
) -> list[Remnant]:
    """What the namespace of `descriptor` has: of one sandbox, unless a link was moved there.

    Args:
        netlink: a socket of the host.
        home: the host's namespace.
        descriptor: leads to the namespace.
        names: of the host ends that may be meant, which are asked for one by one; `None`: any.
    """
    number = hostend.number_of(netlink, descriptor)
    if number < 0:
        return []
    links = hostend.host_ends(netlink) if names is None else hostend.named(netlink, names)
    of_each: dict[tuple[int, str], list[rtnl.Link]] = {}
    for link in links:
        if link.peer_netns == number and link.alias.startswith(hostend.ALIAS):
            of_each.setdefault((hostend.pid_in(link), link.alias), []).append(link)
    if not of_each:
        return []
    with home.left_for(descriptor):
        inside = Netlink(most=MOST)
    with inside:
        return [_remnant(inside, sorted(e, key=hostend.ordinal_in)) for e in of_each.values()]


def _remnant(inside: Netlink, ends: Sequence[rtnl.Link]) -> Remnant:
    """What the namespace of `inside` has of the sandbox whose host ends are `ends`."""
    addresses = (rtnl.read_addresses(inside.dump(rtnl.addresses(end.peer))) for end in ends)
    return Remnant(
        hostend.sandbox_id(ends[0]),
        hostend.pid_in(ends[0]),
        tuple(end.name for end in ends),
        tuple(tuple(a.ip for a in of_one) for of_one in addresses),
    )
