"""`mode = "routed"`: no bridge; the host has a route to each address through the sandbox's veth.

The MACs are permanent neighbour entries, which do not count against `gc_thresh3`
(`net/core/neighbour.c`). A sandbox's next hop exists only as such an entry: all host ends have the
same MAC, so no ARP or ND is needed. A bridge without ports has the gateway's addresses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_interface, ip_network
from typing import ClassVar, Final

from handlers.handler import Difference
from handlers.kernel import rtnl, sysctl
from handlers.kernel.missing_routes import missing
from handlers.kernel.netlink import Netlink
from handlers.networks import gateway_bridge, veth
from handlers.networks.driver import Driver, Rules, Way
from handlers.settings import Sysctl
from watcher.model.address import Address, AddressWithPrefix
from watcher.model.sandbox import Interface

HOST_MAC: Final = "02:42:a9:fe:01:01"
"""The MAC of every host end."""

_NEXT_HOP: Final[Mapping[int, Address]] = {
    4: IPv4Address("169.254.1.1"),
    6: IPv6Address("fe80::1"),
}
"""The next hop of the first interface; each further interface has the next address after it."""


class RoutedDriver(Driver):
    """A network in which each sandbox has host routes through its own link."""

    __slots__ = ()

    rules: ClassVar = Rules(
        localhost=(
            'oifname "netnsv*" ct status dnat ip saddr 127.0.0.0/8 masquerade',
            'oifname "netnsv*" ct status dnat ip6 saddr ::1 masquerade',
        ),
        forward=(
            'oifname "netnsv*" jump to_sandboxes',
            'iifname "netnsv*" jump from_sandboxes',
        ),
    )

    @property
    def router_mac(self) -> str:
        """That of all host ends."""
        return HOST_MAC

    def host_side(self, netlink: Netlink, settings: Sysctl) -> Iterator[Difference]:
        """The bridge, and always forwarding: even neighbours reach each other through the host."""
        return gateway_bridge.differences(self.network, netlink, settings, forwarded=True)

    def reserve(self, netlink: Netlink, settings: Sysctl) -> Iterator[Difference]:
        """The bridge."""
        return gateway_bridge.differences(self.network, netlink, settings, forwarded=False)

    def make_pair(self, netlink: Netlink, interface: Interface, netns: int) -> None:
        """Make the pair."""
        netlink.send([veth.pair(interface, self.network, netns, host_mac=HOST_MAC)])

    def wrong(self, netlink: Netlink, link: rtnl.Link, interface: Interface) -> str:
        """Check the host's routes through the link, and that it forwards what comes from there."""
        name = f"ipv4/conf/{interface.host_name}/forwarding"
        if 4 in self.gateways and sysctl.get(name) == "0":
            return f"{name} was turned off"
        for route in missing(netlink, self._routes(interface, link.index)):
            return f"the host's route to {route.to} was missing"
        return ""

    def adopt(self, netlink: Netlink, interface: Interface, *, alias: str) -> None:
        """Repair an existing host end, and have the host forward what comes from it."""
        name = f"ipv4/conf/{interface.host_name}/forwarding"  # for IPv6, only that of all counts
        if 4 in self.gateways and sysctl.get(name) == "0":
            sysctl.put(name, "1")
        super().adopt(netlink, interface, alias=alias)

    def way(self, address: AddressWithPrefix, ordinal: int) -> Way:
        """Nothing is on the link; everything is behind a virtual next hop."""
        own = ip_interface((address.packed, address.max_prefixlen))
        subnet = self.network.subnet_of(address.version)
        if subnet is None:
            return Way(own, None, None)
        hop, on_link = _next_hop(address.version, ordinal)
        return Way(own, on_link, hop, HOST_MAC, subnet)

    def host_end(self, interface: Interface, index: int, alias: str) -> list[bytes]:
        """Configure the host end, and make the host's routes through it."""
        name, network = interface.host_name, self.network
        with_ipv6 = 6 in self.gateways
        if not with_ipv6:
            veth.turn_off_ipv6(name)
        if not network.internal and 4 in self.gateways:
            sysctl.put(f"ipv4/conf/{name}/route_localnet", "1")
        requests = [rtnl.quiet(name, alias=alias, up=not with_ipv6)]
        if with_ipv6:
            requests.append(rtnl.up(name))
        requests += map(rtnl.route, self._routes(interface, index))
        for address in interface.addresses:
            requests.append(rtnl.neighbour(index, address.ip, interface.mac))
            if address.version == 6 and not network.internal:
                requests.append(rtnl.loopback(index))
        return requests

    def _routes(self, interface: Interface, index: int) -> list[rtnl.Route]:
        """The host's routes to the addresses of `interface`, through the link `index`."""
        found = []
        for address in interface.addresses:
            source = self.gateways.get(address.version)
            to = ip_network((address.packed, address.max_prefixlen))
            found.append(rtnl.Route(to, None, index, 0, source))
        return found


@cache
def _next_hop(version: int, ordinal: int) -> tuple[Address, IPv4Network | None]:
    """The next hop of an interface, and its route if it needs one.

    The IPv6 hop is a link-local address, which is on the link anyway.
    """
    hop = _NEXT_HOP[version] + ordinal
    return hop, IPv4Network(hop) if isinstance(hop, IPv4Address) else None


DRIVER: Final = RoutedDriver
