"""The packets to and from a container that the host's filters are tried with."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from handlers.kernel import sysctl
from handlers.kernel.netlink import Netlink
from handlers.kernel.uplink import uplink_index
from watcher.checks.filters.chains import Packet
from watcher.model.names import PORT
from watcher.model.network import gateway

if TYPE_CHECKING:
    from watcher.model.address import Address, Subnet
    from watcher.model.network import Network

HOST_END: Final = "netnsv"
"""How the name of each host end begins."""

END: Final = f"{HOST_END}0-1"
OTHER_END: Final = f"{HOST_END}0-2"
"""Two of them."""

FAR: Final = {4: ip_address("198.51.100.1"), 6: ip_address("2001:db8::1")}
"""Addresses reserved for documentation, outside of every network (RFC 5737, RFC 3849)."""

BRIDGED: Final = {4: "bridge/bridge-nf-call-iptables", 6: "bridge/bridge-nf-call-ip6tables"}
"""The sysctls that send bridged packets through the IP filters as well; Docker sets them
(`Documentation/networking/ip-sysctl.rst`, `bridge-nf-call-*`)."""


def forwarded(network: Network, container: Address, uplink: str) -> Iterator[Packet]:
    """The packets between `container`, an address of `network`, and other machines."""
    link, far = _link(network), FAR[container.version]
    if not network.internal:  # out, the answer, and a connection to a published port
        yield Packet(link, uplink, container, far)
        yield Packet(uplink, link, far, container, state="established")
        yield Packet(uplink, link, far, container, dnat=True)
    if network.isolate:
        return
    if not network.facts.on_link:
        yield Packet(END, OTHER_END, container, container)
        return
    yield Packet(END, OTHER_END, container, container, bridged=True)
    if sysctl.get(BRIDGED[container.version]) == "1":
        yield Packet(link, link, container, container)


def received(network: Network, subnet: Subnet, container: Address) -> Packet:
    """A packet from `container`, an address of `subnet` of `network`, to the host itself."""
    return Packet(_link(network), "", container, gateway(subnet))


def questions(network: Network, subnet: Subnet, container: Address) -> Iterator[Packet]:
    """From `container`, an address of `subnet` of `network`, to the name service, if it has one."""
    if network.named:
        yield from asked_of(_link(network), container, gateway(subnet))


def _link(network: Network) -> str:
    """The interface by which the host gets packets of a container: the bridge, or a host end."""
    return network.bridge if network.facts.on_link else END


def asked_of(link: str, source: Address, own: Address) -> Iterator[Packet]:
    """Questions that come by `link` to the gateway's address `own`; they are rewritten already."""
    for protocol in ("udp", "tcp"):
        yield Packet(link, "", source, own, dnat=True, protocol=protocol, dport=PORT)


def uplink(version: int) -> str:
    """The interface with the default route; if there is none, a name that no rule has."""
    with Netlink() as netlink:
        index = uplink_index(netlink, version)
    return socket.if_indextoname(index) if index else "uplink"
