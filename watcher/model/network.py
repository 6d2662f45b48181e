"""A network: its subnets and its policy."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface
from typing import TYPE_CHECKING, Annotated, Final, Literal

from msgspec import Meta, Struct

from watcher.model.address import AddressWithPrefix, Subnet
from watcher.model.setting import about


class Mode(Struct, frozen=True):
    """The facts about a `mode` that `watcher` needs; its driver has the rest (`handlers.networks`).

    Attributes:
        on_link: whether the subnet is on the sandboxes' links, with the gateway as a neighbour;
            otherwise the host has a route to each sandbox.
        unmanaged: whether the bridge may belong to somebody else (`managed = false`).
    """

    on_link: bool
    unmanaged: bool


MODES: Final = {
    "bridge": Mode(on_link=True, unmanaged=True),
    "routed": Mode(on_link=False, unmanaged=False),
}
"""All modes. The driver of a mode is the module of that name."""

if TYPE_CHECKING:
    type ModeName = str
else:
    ModeName = Literal[tuple(MODES)]  # the configuration is read by this type


_STRINGS: Final = {"type": "array", "items": {"type": "string"}}


class Route(Struct, frozen=True, forbid_unknown_fields=True):
    """A static route in every sandbox of a network: to `to` by the neighbour `via`."""

    to: Annotated[IPv4Network | IPv6Network, about("A subnet.", file={"type": "string"})]
    via: Annotated[IPv4Address | IPv6Address, about("A neighbour.", file={"type": "string"})]


class Network(Struct, frozen=True, forbid_unknown_fields=True):
    """A named bridge with its subnets and its policy (`[network.NAME]`)."""

    name: str = "default"
    mode: Annotated[
        ModeName,
        about(
            '"bridge": all containers are ports of one bridge, 1,023 at the most. "routed": each is'
            " a host route on its own link, without that limit; the interface `bridge` then only"
            " has the gateway's address."
        ),
    ] = "bridge"
    bridge: Annotated[
        str, about("The bridge. The service makes it when it starts, else the first container.")
    ] = "netns0"
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
        about(
            'The MTU, or "auto" for that of the host\'s uplink. With `managed = false`, "auto" is'
            " the bridge's MTU, and no more than that is allowed. With `cluster`, it is at most"
            " what gets to other hosts in one packet.",
            unit="bytes",
        ),
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
            " changed. Forwarding, `route_localnet` and the bridge's own MAC are then up to the"
            " bridge's owner; `watcher check` says what is missing."
        ),
    ] = True
    names: Annotated[
        bool,
        about(
            "Whether its sandboxes find each other, and the rest of the world, by name; needs the"
            " service `watcher names`. false: none of it. A bridge with `managed = false` has"
            " none.",
            live=True,
        ),
    ] = True
    guard: Annotated[
        bool,
        about("Whether a sandbox can send from the addresses and the MAC that it was given only."),
    ] = True
    reach: Annotated[
        tuple[str, ...],
        about(
            "Other networks to which its sandboxes may open connections: all, or some ports there;"
            " a range and a protocol are possible as well.",
            live=True,
            examples=[["back", "db:5432/tcp"]],
        ),
    ] = ()
    routes: Annotated[
        tuple[Route, ...],
        about(
            "Static routes inside, through a neighbour: the container that asks for the address"
            " `via` with io.watcher.ip. No other container gets that address, and only this one may"
            " forward what the route leads to. The host itself gets no route.",
            examples=[[{"to": "10.8.0.0/16", "via": "172.19.0.2"}]],
        ),
    ] = ()
    metric: Annotated[
        int,
        about("The metric of the default route inside; 0 is the kernel's own.", ge=0, le=2**32 - 1),
    ] = 0
    egress: Annotated[
        tuple[str, ...] | None,
        about(
            "Where its sandboxes may open connections to: prefixes and names, each with ports and"
            " a protocol if wanted; ! takes out. All else is rejected. An annotation can only"
            " narrow it. Absent: anywhere.",
            live=True,
            examples=[["10.0.0.0/8", "any:443/tcp", "!169.254.0.0/16"]],
            file=_STRINGS,
        ),
    ] = None
    ingress: Annotated[
        tuple[str, ...] | None,
        about(
            "Who may open connections to its sandboxes: prefixes, with ports and a protocol if"
            " wanted; of a published port, the host's counts; ! takes out. The host and sandboxes"
            ' of the same network may as well, unless "!host" and "!network" keep them out. Absent:'
            " anybody.",
            live=True,
            examples=[["192.0.2.0/24", "any:443/tcp", "!host"]],
            file=_STRINGS,
        ),
    ] = None
    ingress_bandwidth: Annotated[
        int | None,
        about(
            "What each interface may receive, in bits a second, if its container asks for nothing"
            " else. Absent: as much as comes.",
            live=True,
            examples=["1G"],
            file={"type": "string"},
        ),
    ] = None
    egress_bandwidth: Annotated[
        int | None,
        about(
            "What each interface may send, in bits a second, if its container asks for nothing"
            " else. Absent: as much as it likes.",
            live=True,
            examples=["100M"],
            file={"type": "string"},
        ),
    ] = None
    connections: Annotated[
        int | None,
        about(
            "The most connections (entries of conntrack) that each of its sandboxes may have at"
            " once, if its container asks for nothing else. Absent: as many as the host has room"
            " for.",
            live=True,
            examples=[20000],
            file={"type": "integer", "minimum": 1, "maximum": 2**31},
        ),
    ] = None
    cluster: Annotated[
        bool,
        about(
            "true: the network is the same on all hosts of the cluster ([cluster]), and its"
            ' sandboxes reach each other across hosts; needs mode = "routed".'
        ),
    ] = False
    block: Annotated[
        int,
        about(
            "With `cluster`: how many addresses of each family a host takes at a time; a power of"
            " two, the same on all hosts.",
            ge=4,
            le=65536,
        ),
    ] = 256
    backend: Annotated[
        Literal["auto", "routes", "vxlan"],
        about(
            'With `cluster`: how packets get to other hosts. "routes": by plain routes, which needs'
            ' a common link; "vxlan": in VXLAN; "auto": by routes where there is a common link,'
            " and by VXLAN elsewhere."
        ),
    ] = "auto"

    @property
    def facts(self) -> Mode:
        """The facts about its mode."""
        return MODES[self.mode]

    @property
    def named(self) -> bool:
        """Whether the name service serves it: at its gateway, which has to be ours."""
        return self.names and self.managed

    @property
    def policed(self) -> bool:
        """Whether it holds all its sandboxes to a list.

        Then each of their frames has to pass the host, even on a bridge (MAC-forced forwarding).
        """
        return self.egress is not None or self.ingress is not None

    @property
    def tunnelled(self) -> bool:
        """Whether its packets may travel in VXLAN."""
        return self.cluster and self.backend != "routes"

    def subnet_of(self, version: int) -> Subnet | None:
        """Its subnet of IP `version` 4 or 6, if any."""
        for subnet in self.subnets:
            if subnet.version == version:
                return subnet
        return None


def valid_network_name(name: str) -> bool:
    """Whether `name` is 1 to 32 of `a-zA-Z0-9_.-`, begins with none of `_.-`, and is not `none`."""
    return name != "none" and re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,31}", name) is not None


def versions_of(networks: Iterable[Network]) -> list[int]:
    """The IP versions that any of `networks` has a subnet of, sorted."""
    return sorted({subnet.version for network in networks for subnet in network.subnets})


def gateway(subnet: Subnet) -> IPv4Address | IPv6Address:
    """The first address of `subnet`, which the bridge has."""
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
