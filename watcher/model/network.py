"""A network: its subnets and its policy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from watcher.model.address import AddressWithPrefix, Subnet


@dataclass(frozen=True, slots=True)
class Mode:
    """The facts about a `mode` that `watcher` needs; its driver has the rest (`handlers.networks`).

    Attributes:
        on_link: whether the subnet is on the sandboxes' links, with the gateway as a neighbour;
            otherwise the host has a route to each sandbox.
        unmanaged: whether the bridge may be somebody else's (`managed = false`).
    """

    on_link: bool
    unmanaged: bool


MODES: Final = {
    "bridge": Mode(on_link=True, unmanaged=True),
    "routed": Mode(on_link=False, unmanaged=False),
}
"""All modes; the one list of their names. The driver of a mode is the module of that name."""

if TYPE_CHECKING:
    type ModeName = str
else:
    ModeName = Literal[tuple(MODES)]  # the configuration is read by this type


class Route(Struct, frozen=True, forbid_unknown_fields=True):
    """A static route inside every sandbox of a network: to `to` by the neighbour `via`."""

    to: IPv4Network | IPv6Network
    via: IPv4Address | IPv6Address


class Network(Struct, frozen=True, forbid_unknown_fields=True):
    """A named bridge with its subnets and its policy (`[network.NAME]`).

    Attributes:
        name: the NAME of its table.
        mode: how its sandboxes are connected: a bridge for all, or a host route for each.
        bridge: the name of the interface that has the gateway's addresses.
        subnets: one IPv4 and one IPv6 subnet at the most; the gateway is the first address of each.
        interface: its name inside a sandbox when it is the sandbox's first network.
        mtu: in bytes, or `auto` for that of the uplink.
        masquerade: whether traffic that leaves the host takes the host's address.
        internal: no way out and no published ports.
        isolate: its sandboxes cannot reach each other.
        managed: false for a bridge that somebody else owns: attached to, never changed.
        guard: whether a sandbox is held to its leases' addresses and MACs.
        reach: other networks that its sandboxes may open connections to.
        routes: static routes inside its sandboxes.
        metric: of the default route; 0 is the kernel's default.
    """

    name: str = "default"
    mode: ModeName = "bridge"
    bridge: str = "netns0"
    subnets: tuple[IPv4Network | IPv6Network, ...] = (IPv4Network("172.19.0.0/16"),)
    interface: str = "eth0"
    mtu: int | Literal["auto"] = 1500
    masquerade: bool = True
    internal: bool = False
    isolate: bool = False
    managed: bool = True
    guard: bool = True
    reach: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    metric: int = 0

    @property
    def facts(self) -> Mode:
        """The facts about its mode."""
        return MODES[self.mode]

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
    """The addresses of the network's bridge, one per subnet.

    If the subnets are not on the links, the prefix is the whole address: the bridge has no ports.
    """
    on_link = network.facts.on_link
    return [
        ip_interface((gateway(s), s.prefixlen if on_link else s.max_prefixlen))
        for s in network.subnets
    ]
