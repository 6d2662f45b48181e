"""A sandbox's elements in the sets and maps of this program's nftables table.

Each port map is one element, found by one hash lookup. A long range with the same ports on both
sides is one element of an interval map, which is looked up last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from handlers.closing.judged import judged
from handlers.firewall import connections, egress, ingress
from handlers.firewall.egress import Group
from handlers.handler import Numbers
from handlers.kernel.nft import Element
from handlers.networks import networks_of
from handlers.networks.driver import Driver
from handlers.networks.held import HeldBy, held_interfaces
from watcher.model.sandbox import Sandbox, published_at

RANGES: Final = ("range4", "range6", "range4_on", "range6_on")
"""The interval maps. Elements of one map must not overlap."""

LONG: Final = 32
"""A range of at least so many ports is an interval.

Removing an interval takes longer the more there are (`pipapo_drop` in `net/netfilter/
nft_set_pipapo.c`: 14 ms at 500), so short ranges, which may be many, use the hashes.
"""


class Held(NamedTuple):
    """Where a sandbox is held to lists.

    Attributes:
        judged: the drivers of the networks in which it is; usually none.
        egress, ingress: its interfaces that are held to a list of that direction.
    """

    judged: Sequence[Driver]
    egress: Sequence[HeldBy] = ()
    ingress: Sequence[HeldBy] = ()


def held(sandbox: Sandbox, drivers: Mapping[str, Driver]) -> Held:
    """Where `sandbox` is held to lists."""
    in_some = judged(sandbox, drivers)
    if not in_some:
        return _FREE
    egress_of = held_interfaces("egress", sandbox, drivers)
    return Held(in_some, egress_of, ingress.held(sandbox, drivers))


_FREE: Final = Held(())


def of_sandbox(
    sandbox: Sandbox, held: Held, drivers: Mapping[str, Driver], numbers: Numbers
) -> dict[Element, None]:
    """The elements that come and go with `sandbox`, ordered and without duplicates."""
    found: list[Element] = []
    for interface in sandbox.interfaces:
        driver = drivers[interface.network]
        if not driver.network.managed:
            found += [
                Element("inet", f"guests{address.version}", (str(address.ip),))
                for address in interface.addresses
            ]
    found += port_maps(sandbox, drivers)
    if held.judged:
        found += egress.own(held.egress, drivers, numbers)
        found += ingress.own(held.ingress, drivers, numbers)
    found += connections.own(sandbox, drivers)
    return dict.fromkeys(found)


def shared(
    held: Held, drivers: Mapping[str, Driver], numbers: Numbers, there: Container[Group]
) -> dict[Element, None]:
    """The elements that a sandbox has in common with others, without the groups in `there`.

    They stay when it goes.
    """
    if not held.judged:
        return {}
    found = [*egress.shared(held.judged, held.egress, numbers, there)]
    found += ingress.shared(held.ingress, drivers, numbers, there)
    return dict.fromkeys(found)


def blocks(some: Iterable[Element]) -> frozenset[str]:
    """The rules that are there only if they are needed, and are by any of these elements."""
    return frozenset(BLOCKS[e.name] for e in some if e.name in BLOCKS)


BLOCKS: Final = {
    **dict.fromkeys(("judged", "egress4", "egress6"), egress.BLOCK),
    **ingress.BLOCKS,
    **connections.BLOCKS,
}
"""By the sets that they look up, the rules that are there only if they are needed."""

SHARED: Final = egress.SHARED | ingress.SHARED
"""The sets whose elements stay when a sandbox goes."""


def overlapping(one: Element, other: Element) -> bool:
    """Whether two elements of :data:`RANGES` exclude each other."""
    if (one.name, one.key[:-1]) != (other.name, other.key[:-1]):
        return False
    (first, last), (start, end) = (map(int, e.key[-1].split("-")) for e in (one, other))
    return first <= end and start <= last


def port_maps(sandbox: Sandbox, drivers: Mapping[str, Driver]) -> list[Element]:
    """The elements of the port maps of `sandbox`."""
    ports = sandbox.ports
    if not ports:
        return []
    networks = networks_of(sandbox, drivers)
    targets = {
        version: str(address)
        for version in (4, 6)
        if (address := published_at(sandbox, networks, version)) is not None
    }
    found: list[Element] = []
    ranges: defaultdict[tuple[str, tuple[str, ...], str], list[tuple[int, int]]] = defaultdict(list)
    for port in ports:
        host = port.host_ip
        for version in targets if host is None else (host.version,):
            if version not in targets:
                continue
            key: tuple[str, ...] = (port.protocol,)
            to, name = targets[version], str(version)
            if host is not None and not host.is_unspecified:
                name, key = name + "_on", (str(host), *key)
            if port.length >= LONG and port.port == port.host_port:
                ranges[f"range{name}", key, to].append((port.host_port, port.last))
                continue
            for n in range(port.length):
                value = to, str(port.port + n)
                found.append(Element("inet", f"port{name}", (*key, str(port.host_port + n)), value))
    for (name, key, to), spans in ranges.items():
        for first, last in _united(spans):
            found.append(Element("inet", name, (*key, f"{first}-{last}"), (to,)))
    return found


def _united(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """`spans` sorted, overlapping ones merged: containers of one sandbox may share ports."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found
