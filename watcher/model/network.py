"""A network: its subnets and its policy."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface
from typing import Annotated, Literal

from msgspec import Meta, Struct

from watcher.model.address import AddressWithPrefix, Subnet
from watcher.model.setting import about


class Route(Struct, frozen=True, forbid_unknown_fields=True):
    """A static route inside every sandbox of a network: to `to` by the neighbour `via`."""

    to: Annotated[IPv4Network | IPv6Network, about("A subnet.", file={"type": "string"})]
    via: Annotated[IPv4Address | IPv6Address, about("A neighbour.", file={"type": "string"})]


class Network(Struct, frozen=True, forbid_unknown_fields=True):
    """A named bridge with its subnets and its policy (`[network.NAME]`); `name` is that NAME."""

    name: str = "default"
    mode: Annotated[
        Literal["bridge", "routed"],
        about(
            '"bridge": all containers are ports of one bridge, 1,023 at the most. "routed": each is'
            " a host route on its own link, without that limit; the interface `bridge` then only"
            " has the gateway's address."
        ),
    ] = "bridge"
    bridge: Annotated[str, about("The bridge; it is made when the first container needs it.")] = (
        "netns0"
    )
    subnets: Annotated[
        tuple[IPv4Network | IPv6Network, ...],
        about(
            "One IPv4 and one IPv6 subnet at the most; the gateway is the first address of each."
            ' "ula" is an IPv6 subnet of this host\'s own (RFC 4193).',
            examples=[["172.19.0.0/16", "fd00:19::/64"]],
            file={"type": "array", "items": {"type": "string"}, "minItems": 1},
        ),
    ] = (IPv4Network("172.19.0.0/16"),)
    interface: Annotated[
        str, about("What the interface of a container's first network is called inside.")
    ] = "eth0"
    mtu: Annotated[
        Annotated[int, Meta(ge=576, le=65535)] | Literal["auto"],
        about('The MTU, or "auto" for that of the host\'s uplink.', unit="bytes"),
    ] = 1500
    masquerade: Annotated[
        bool, about("Whether traffic that leaves the host takes the host's address.", live=True)
    ] = True
    internal: Annotated[bool, about("true: no way out of the host and no published ports.")] = False
    isolate: Annotated[bool, about("true: its sandboxes cannot reach each other.")] = False
    managed: Annotated[
        bool,
        about(
            "false: the bridge is somebody else's; containers are attached to it, it is never"
            " changed."
        ),
    ] = True
    guard: Annotated[
        bool,
        about("Whether a sandbox can send from the addresses and the MAC that it was given only."),
    ] = True
    reach: Annotated[
        tuple[str, ...],
        about("Other networks to which its sandboxes may open connections.", live=True),
    ] = ()
    routes: Annotated[
        tuple[Route, ...],
        about(
            "Static routes inside, by a neighbour.",
            examples=[[{"to": "10.8.0.0/16", "via": "172.19.0.2"}]],
        ),
    ] = ()
    metric: Annotated[
        int,
        about("The metric of the default route inside; 0 is the kernel's own.", ge=0, le=2**32 - 1),
    ] = 0

    def subnet_of(self, version: int) -> Subnet | None:
        """Its subnet of IP `version` 4 or 6, if it has one."""
        return next((subnet for subnet in self.subnets if subnet.version == version), None)


def valid_network_name(name: str) -> bool:
    """Whether a network may be called `name`: 1 to 32 of ASCII letters, digits and `_.-`.

    The first is a letter or a digit, and `none` means something else.
    """
    return name != "none" and re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,31}", name) is not None


def gateway(subnet: Subnet) -> IPv4Address | IPv6Address:
    """The first address of `subnet`, which is the bridge's own."""
    return subnet.network_address + 1


def gateways(network: Network) -> list[AddressWithPrefix]:
    """The addresses of the bridge of `network`, one a subnet.

    That of a routed network has no ports, and its addresses no subnet: all it does is to have them.
    """
    routed = network.mode == "routed"
    return [
        ip_interface((gateway(s), s.max_prefixlen if routed else s.prefixlen))
        for s in network.subnets
    ]
