"""What the container is limited to, and what its limits keep away that somebody may want."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from handlers.firewall import rejecting
from handlers.kernel import flows, rtnl
from handlers.kernel.netlink import NETLINK_NETFILTER, Netlink
from handlers.kernel.nft import Nft
from watcher.checks.check import Finding, ok, warn
from watcher.checks.container.resolvers import PATH
from watcher.model.names import DNS_PORT
from watcher.model.policy.access import access
from watcher.model.policy.boxes import ICMP, NUMBERS
from watcher.model.policy.limits import SandboxLimits, bound
from watcher.model.policy.origins import origins

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from watcher.checks.container.gathered import Gathered
    from watcher.model.address import Address
    from watcher.model.network import Network
    from watcher.model.policy.access import AccessList
    from watcher.model.policy.entries import Direction
    from watcher.model.request import PortMap
    from watcher.model.sandbox import Interface

_SHOWN: Final = 8
"""The most entries, or port maps, that a line shows."""

_NEAR: Final = 0.9
"""From this part of the bound of connections on, the check warns."""

_LOOK: Final = "see which: `watcher events --since 1d --filter kind=rejected`"
_SEE: Final = "see what it does with them (`conntrack -L`), or raise `connections`"


class _Held(Struct, frozen=True):
    """What counts for one interface; `forced` is the network whose policy its root forces."""

    interface: Interface
    limits: SandboxLimits
    network: Network
    forced: Network | None

    def list_of(self, direction: Direction) -> AccessList | None:
        return access(direction, self.limits, self.network, self.forced)

    def told(self, direction: Direction) -> str:
        """The lists, with where they are from."""
        texts = []
        for source in origins(direction, self.limits, self.network, self.forced):
            shown = ", ".join(source.entries[:_SHOWN]) or "none"
            more = len(source.entries) - _SHOWN
            texts.append(f"{shown}{f' and {more} more' if more > 0 else ''} ({source.where})")
        return " and ".join(texts)


def findings(gathered: Gathered) -> Iterator[Finding]:
    """A line for each limit, and for what it has rejected; none where nothing is limited."""
    counts = rejecting.counts(Nft())
    for interface in gathered.sandbox.interfaces:
        held = _held(gathered, interface)
        yield from _of_egress(gathered, held)
        yield from _of_ingress(gathered, held)
        yield from _rejected(interface, counts)
    with Netlink(NETLINK_NETFILTER) as netfilter:
        yield from _of_connections(gathered, netfilter)


def rejects_echo(gathered: Gathered, interface: Interface, to: Address) -> bool:
    """Whether the host rejects an echo request that the container sends there by `interface`."""
    allowed = _held(gathered, interface).list_of("egress")
    return allowed is not None and not _passes(allowed, to, ICMP[to.version], 0)


def _held(gathered: Gathered, interface: Interface) -> _Held:
    limits = gathered.sandbox.limits
    forced = gathered.drivers.get(limits.policy)
    network = gathered.drivers[interface.network].network
    return _Held(interface, limits, network, None if forced is None else forced.network)


def _of_egress(gathered: Gathered, held: _Held) -> Iterator[Finding]:
    allowed = held.list_of("egress")
    if allowed is None:
        return
    name = held.interface.name
    yield ok(f"by {name} it may open connections to {held.told('egress')}")
    servers = gathered.inside.conf.servers
    asks_us = gathered.asking is not None and gathered.asking.server in servers
    if asks_us or held.interface is not gathered.sandbox.interfaces[0]:
        return
    for server in servers:
        if not server.is_loopback and not _passes(allowed, server, NUMBERS["udp"], DNS_PORT):
            remedy = f'add "{_text(server)}:{DNS_PORT}" to the list'
            if allowed.named:
                remedy = f"mount nothing over {PATH}, so that it asks the name service"
            yield warn(f"its egress list does not have {server}, which its {PATH} names", remedy)


def _of_ingress(gathered: Gathered, held: _Held) -> Iterator[Finding]:
    allowed = held.list_of("ingress")
    if allowed is None:
        return
    yield ok(f"connections to it may be opened by {held.told('ingress')}")
    ports = chain.from_iterable(port.singles() for port in gathered.sandbox.ports)
    closed = islice((port for port in ports if not _lets_in(allowed, port)), _SHOWN)
    if shown := ", ".join(map(str, closed)):
        yield warn(
            f"its ingress list lets nobody outside of this host open connections to {shown}",
            "add who may to the list, or publish these ports no longer",
        )


def _of_connections(gathered: Gathered, netfilter: Netlink) -> Iterator[Finding]:
    sandbox = gathered.sandbox
    networks = (gathered.drivers[name].network for name in sandbox.networks)
    most = bound(sandbox.limits, networks)
    if most is None:
        return
    own = rtnl.read_packed(gathered.netlink.dump(rtnl.addresses(0)))
    host = {packed for packed, _ in own}
    used = sum(_counted(netfilter, address, host) for address in sandbox.leased)
    what = f"it has {used} of the {most} connections that it may have"
    yield warn(what, _SEE) if used >= most * _NEAR else ok(what)


def _counted(netfilter: Netlink, address: Address, host: Collection[bytes]) -> int:
    """How many connections of `address` the rules count: from it, or by a published port to it.

    They count none that has ended, and none of the host's own; `host` has its addresses.
    """
    own = address.packed
    if address.version == 6:  # the kernel's filter by such an address is inverted
        asked = [flows.every_flow(socket.AF_INET6)]
    else:
        asked = [flows.flows_with(kind, address) for kind in flows.TUPLES]
    counted = set()
    for flow in chain.from_iterable(map(netfilter.listed, asked)):
        source, destination, answering, _ = flows.ends(flow)
        published = answering == own != destination and source not in host
        if (source == own or published) and not flows.has_ended(flow):
            counted.add(flows.deletion(flow))  # one that it has with itself is listed twice
    return len(counted)


def _rejected(interface: Interface, counts: Mapping[str, Mapping[str, int]]) -> Iterator[Finding]:
    addresses = [str(address.ip) for address in interface.addresses]
    for direction, by_address in counts.items():
        count = sum(by_address.get(address, 0) for address in addresses)
        if count and direction == "connections":
            yield warn(
                f"{count} packets by {interface.name} were rejected, since it had as many"
                " connections as it may have",
                _SEE,
            )
        elif count:
            many = f"{count} packets by {interface.name}"
            yield ok(f"its {direction} list has rejected {many}", _LOOK)


def _passes(allowed: AccessList, address: Address, protocol: int, port: int) -> bool:
    """Whether the list has a port of an address, but for what names open."""
    number = int(address)
    return any(
        box.addresses[0] <= number <= box.addresses[1]
        and box.protocols[0] <= protocol <= box.protocols[1]
        and box.ports[0] <= port <= box.ports[1]
        for box in allowed.boxes(address.version)
    )


def _lets_in(allowed: AccessList, port: PortMap) -> bool:
    """Whether anybody outside may open connections to a single published port."""
    kind = NUMBERS[port.protocol]
    return any(
        box.protocols[0] <= kind <= box.protocols[1]
        and box.ports[0] <= port.host_port <= box.ports[1]
        for version in (4, 6)
        for box in allowed.boxes(version)
    )


def _text(address: Address) -> str:
    """The address as an entry has it in front of a port."""
    return f"[{address}]" if address.version == 6 else str(address)
