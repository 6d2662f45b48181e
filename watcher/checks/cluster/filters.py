"""Checks whether other firewalls of the host drop what hosts of the cluster send each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from handlers.kernel.netlink import Netlink
from handlers.kernel.uplink import link_with
from watcher.checks.check import Finding, Subject, ok
from watcher.checks.filters import host, remedies
from watcher.checks.filters.chains import Packet
from watcher.checks.filters.fate import drops
from watcher.checks.filters.packets import END, FAR
from watcher.clustering.identity import own_address
from watcher.model.cluster import device

if TYPE_CHECKING:
    from watcher.checks.filters.chains import Table
    from watcher.model.address import Address
    from watcher.model.network import Network

_ANY: Final = device(1)


def findings(subject: Subject) -> Iterator[Finding]:
    """Each chain that drops such packets; nothing without a clustered network."""
    settings = subject.config.cluster
    networks = [network for network in subject.networks.values() if network.cluster]
    address = own_address(settings)
    if not settings.etcd or not networks or address is None:
        return
    with Netlink() as netlink:
        link = link_with(netlink, address)
    if link is None:  # the check of the hosts tells
        return
    tables, integrate = host.tables(), subject.config.firewall.integrate
    found: list[Finding] = []
    for network in networks:
        for links in _links(network, link.name):
            found += _forwarded(network, tables, links, integrate=integrate)
    if any(network.tunnelled for network in networks):
        found += _carried(tables, link.name, address, settings.port, integrate=integrate)
    yield from found or [ok("no other firewall drops what hosts send each other")]


def _links(network: Network, uplink: str) -> list[str]:
    """The interfaces by which packets to and from other hosts may leave and come."""
    plain = [uplink] if network.backend != "vxlan" else []
    return plain + ([_ANY] if network.tunnelled else [])


def _forwarded(
    network: Network, tables: list[Table], link: str, *, integrate: bool
) -> Iterator[Finding]:
    """Packets between containers of this host and of others."""
    packets = []
    for subnet in network.subnets:
        here, there = subnet[3], subnet[-3]
        packets += [Packet(END, link, here, there), Packet(link, END, there, here)]
    shown = link if link != _ANY else f"{_ANY} and the like"
    for table in tables:
        for drop in drops(table, packets):
            yield remedies.told(
                drop,
                f"what containers of network {network.name} send to"
                f" other hosts, or get from them, by {shown}",
                remedies.to_pass(drop, *network.subnets, integrate=integrate),
            )


def _carried(
    tables: list[Table], link: str, own: Address, port: int, *, integrate: bool
) -> Iterator[Finding]:
    """Packets of VXLAN between this host and others."""
    far = FAR[own.version]
    sent = Packet("", link, own, far, protocol="udp", dport=port)
    received = Packet(link, "", far, own, protocol="udp", dport=port)
    for table in tables:
        for packet, what in ((sent, "to"), (received, "from")):
            for drop in drops(table, [packet]):
                yield remedies.told(
                    drop,
                    f"packets of VXLAN {what} other hosts (UDP port {port})",
                    remedies.to_carry(drop, port, integrate=integrate),
                )
