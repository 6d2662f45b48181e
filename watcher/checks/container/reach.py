"""Who reaches the container, and what drops it on the way: filters of the host's other programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from watcher.checks.check import Finding, ok, warn
from watcher.checks.container import packets
from watcher.checks.filters import host, remedies
from watcher.checks.filters.fate import Drop, drops

if TYPE_CHECKING:
    from watcher.checks.container.gathered import Gathered
    from watcher.checks.container.legs import Leg
    from watcher.checks.container.packets import Tried
    from watcher.checks.filters.chains import Packet
    from watcher.model.request import PortMap

_ITS_PORTS: Final = "its published ports"

_SHOWN: Final = 5
"""The most port maps that a line names."""


def from_outside(gathered: Gathered) -> Iterator[Finding]:
    """Whether something drops what other machines send to its published ports."""
    ports = gathered.sandbox.ports
    if not ports:
        yield ok("it publishes no port, so nobody outside of this host reaches it", _PUBLISH)
        return
    tried = list(packets.from_outside(gathered))
    if not tried:
        if any(leg.leads_out for leg in gathered.legs):
            yield ok("its ports are published for this host alone", _PUBLISH)
        return
    yield from _found(gathered, tried, "other machines send to", _ITS_PORTS)


def from_host(gathered: Gathered) -> Iterator[Finding]:
    """Whether something drops what the host itself sends to its published ports."""
    tried = list(packets.from_host(gathered))
    if tried:
        yield from _found(gathered, tried, "this host sends to", _ITS_PORTS)


def from_neighbours(gathered: Gathered) -> Iterator[Finding]:
    """Whether its neighbours reach it, network by network."""
    for interface in gathered.sandbox.interfaces:
        legs = [leg for leg in gathered.legs if leg.interface is interface]
        network = gathered.drivers[interface.network].network
        if network.isolate:
            yield ok(
                f"network {network.name} keeps its sandboxes from each other (isolate = true)",
                f"publish a port for them, or set isolate = false in [network.{network.name}]",
            )
        tried = [one for leg in legs for one in packets.from_neighbour(gathered, leg)]
        if tried:
            what = f"neighbours on network {network.name} send to"
            yield from _found(gathered, tried, what, "it")


def unreadable(_: Gathered) -> Iterator[Finding]:
    """Filters that no program here can print."""
    for command, table in host.unreadable():
        yield warn(
            f"the table {table} of {command} cannot be read here",
            f"see whether `{command} -t {table} -S` drops what the container sends or gets",
        )


def dropped(
    gathered: Gathered, tried: Iterable[Tried]
) -> Iterator[tuple[Drop, list[PortMap], str]]:
    """Each chain that drops some of `tried`, with the port maps of these, and the remedy."""
    found: dict[tuple[str, str, str, str], tuple[Drop, list[PortMap], str]] = {}
    for port, leg, packet in tried:
        for table in gathered.tables:
            for drop in drops(table, [packet]):
                key = table.family, table.name, table.command, drop.chain.name
                known = found.get(key)
                if known is None or (drop.certain and not known[0].certain):
                    remedy = _remedy(gathered, drop, leg, packet)
                    found[key] = drop, known[1] if known else [], remedy
                if port is not None and port not in found[key][1]:
                    found[key][1].append(port)
    yield from found.values()


def _found(gathered: Gathered, tried: list[Tried], what: str, to: str) -> Iterator[Finding]:
    """The findings about the packets `tried`, that is `what` is sent `to` the container."""
    wrong = False
    for drop, ports, remedy in dropped(gathered, tried):
        wrong = True
        some = "it" if not ports else _ITS_PORTS if len(ports) > _SHOWN else _list(ports)
        yield remedies.told(drop, f"what {what} {some}", remedy)
    if not wrong:
        yield ok(f"no other program's filter drops what {what} {to}")


def _list(ports: Iterable[PortMap]) -> str:
    return ", ".join(map(str, ports))


def _remedy(gathered: Gathered, drop: Drop, leg: Leg, packet: Packet) -> str:
    """How to let packets like `packet`, to or from `leg`, pass."""
    if packet.hook == "prerouting":
        return remedies.to_port(drop, packet.protocol, packet.dport)
    if packet.hook == "output":
        return remedies.to_send(drop, leg.address)
    if packet.hook == "input":
        return remedies.to_receive(drop, leg.network)
    return remedies.to_forward(
        drop, leg.network, integrate=gathered.known.config.firewall.integrate
    )


_PUBLISH: Final = "if they are to, publish a port (`watcher publish CONTAINER PORT`)"
