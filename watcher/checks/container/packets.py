"""The packets of one container that the host's filters are tried with."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from handlers.kernel import rtnl, sysctl
from handlers.kernel.uplink import uplink_index
from watcher.checks.filters.chains import Packet
from watcher.checks.filters.packets import BRIDGED, END, FAR, OTHER_END, asked_of

if TYPE_CHECKING:
    from handlers.kernel.netlink import Netlink
    from watcher.checks.container.gathered import Gathered
    from watcher.checks.container.legs import Leg
    from watcher.model.address import Address
    from watcher.model.request import PortMap

_LOCALHOST: Final = {4: ip_address("127.0.0.1"), 6: ip_address("::1")}

type Tried = tuple[PortMap | None, Leg, Packet]
"""A packet, what it is about, and the address of the container that it goes to or comes from."""

_MOST: Final = 32
"""The most port maps whose packets are tried."""

_NO_UPLINK: Final = "uplink"
"""In place of the uplink's name if there is none."""

_UNKNOWN: Final = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::2")}
"""In place of the host's own address if it has none on the uplink."""


def from_outside(gathered: Gathered) -> Iterator[Tried]:
    """To each published port from another machine, and the answer."""
    for version in (4, 6):
        uplink, own = uplink_of(gathered.netlink, version)
        far = FAR[version]
        for port, leg in _published(gathered, version):
            if port.host_ip is not None and port.host_ip.is_loopback:
                continue
            to = own if port.host_ip is None or port.host_ip.is_unspecified else port.host_ip
            yield (
                port,
                leg,
                Packet(
                    uplink, "", far, to, protocol=port.protocol, dport=port.host_port, arriving=True
                ),
            )
            yield port, leg, _to(port, leg, uplink, far)
            yield port, leg, Packet(
                leg.link, uplink, leg.address, far, "established", dnat=True,
                protocol=port.protocol, sport=port.port,
            )  # fmt: skip


def from_host(gathered: Gathered) -> Iterator[Tried]:
    """To each published port from the host itself, and the answer."""
    for version in (4, 6):
        _, own = uplink_of(gathered.netlink, version)
        for port, leg in _published(gathered, version):
            for to in _asked(port, own):
                # Filters are asked once it is rewritten, and before it is routed anew.
                yield port, leg, Packet(
                    "", "lo", to, leg.address, dnat=True,
                    protocol=port.protocol, dport=port.port,
                )  # fmt: skip
                yield port, leg, Packet(
                    leg.link, "", leg.address, to, "established", dnat=True,
                    protocol=port.protocol, sport=port.port,
                )  # fmt: skip


def from_neighbour(gathered: Gathered, leg: Leg) -> Iterator[Tried]:
    """From another sandbox of the network of `leg`: to it, and to its published ports."""
    version, link, own = leg.version, leg.link, leg.address
    if not leg.network.isolate:
        if leg.driver.master:
            yield None, leg, Packet(END, OTHER_END, own, own, bridged=True)
        if not leg.driver.master or sysctl.get(BRIDGED[version]) == "1":
            other = link if leg.driver.master else END
            yield None, leg, Packet(other, link, own, own)
            yield None, leg, Packet(link, other, own, own, "established")
    for port, its in _published(gathered, version):
        if its is leg and (port.host_ip is None or not port.host_ip.is_loopback):
            yield port, leg, _to(port, leg, link if leg.driver.master else END, own)


def outwards(gathered: Gathered, leg: Leg) -> Iterator[Tried]:
    """From the container to another machine, and the answer."""
    uplink, _ = uplink_of(gathered.netlink, leg.version)
    far = FAR[leg.version]
    yield None, leg, Packet(leg.link, uplink, leg.address, far)
    yield None, leg, Packet(uplink, leg.link, far, leg.address, "established")


def to_host(leg: Leg) -> Iterator[Tried]:
    """From the container to a service of the host itself."""
    if leg.gateway is not None:
        for protocol in ("tcp", "udp"):
            yield None, leg, Packet(leg.link, "", leg.address, leg.gateway, protocol=protocol)


def questions(leg: Leg) -> Iterator[Tried]:
    """From the container to the name service."""
    if leg.network.named and leg.gateway is not None:
        for packet in asked_of(leg.link, leg.address, leg.gateway):
            yield None, leg, packet


def uplink_of(netlink: Netlink, version: int) -> tuple[str, Address]:
    """The uplink's name and the host's address on it, or names that no rule has."""
    index = uplink_index(netlink, version)
    if not index:
        return _NO_UPLINK, _UNKNOWN[version]
    bodies = netlink.dump(rtnl.addresses(index))
    own = [a.ip for a in rtnl.read_addresses(bodies) if a.version == version]
    own = [address for address in own if not address.is_link_local] or own
    return netlink.name(index), own[0] if own else _UNKNOWN[version]


def _published(gathered: Gathered, version: int) -> Iterator[tuple[PortMap, Leg]]:
    """The port maps of IP `version`, and the address that they lead to."""
    leg = gathered.outwards(version)
    if leg is not None:
        for port in gathered.sandbox.ports[:_MOST]:
            if port.host_ip is None or port.host_ip.version == version:
                yield port, leg


def _asked(port: PortMap, own: Address) -> Iterator[Address]:
    """The addresses at which the host may ask for `port`; it asks from the same."""
    ip = port.host_ip
    if ip is not None and not ip.is_unspecified:
        yield ip
    else:
        yield own
        yield _LOCALHOST[own.version]


def _to(port: PortMap, leg: Leg, iif: str, source: Address) -> Packet:
    """A packet to `port` that is rewritten already."""
    return Packet(
        iif, leg.link, source, leg.address, dnat=True, protocol=port.protocol, dport=port.port
    )
