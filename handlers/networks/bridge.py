"""`mode = "bridge"`: one bridge for all sandboxes, with the gateway's addresses.

A bridge has at most 1,023 ports (`BR_MAX_PORTS`, `net/bridge/br_private.h`), and floods each
broadcast to all of them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import ip_network
from typing import Final

from msgspec.structs import replace

from handlers.handler import Difference
from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink, NetlinkError
from handlers.networks import gateway_bridge, veth
from handlers.networks.driver import Driver, Way
from handlers.settings import Sysctl
from watcher.model.address import Address, AddressWithPrefix, Subnet
from watcher.model.sandbox import Interface

MAX_PORTS: Final = 1023


class BridgeFull(OSError):
    """The bridge has no free port."""


class BridgeDriver(Driver):
    """A network whose host ends are ports of its bridge."""

    __slots__ = ()

    @property
    def master(self) -> str:
        """Its bridge."""
        return self.network.bridge

    def host_side(self, netlink: Netlink, settings: Sysctl) -> Iterator[Difference]:
        """The bridge, and forwarding unless the network is internal and has no list."""
        forwarded = not self.network.internal or self.network.policed
        return gateway_bridge.differences(self.network, netlink, settings, forwarded=forwarded)

    def reserve(self, netlink: Netlink, settings: Sysctl) -> Iterator[Difference]:
        """The bridge."""
        return gateway_bridge.differences(self.network, netlink, settings, forwarded=False)

    def make_pair(self, netlink: Netlink, interface: Interface, netns: int) -> None:
        """Make the pair with the host end on the bridge; :class:`BridgeFull` if it is full."""
        network = self.network
        try:
            if network.managed:
                pair = veth.pair(interface, network, netns, master=self.port_of(netlink))
            else:
                pair = veth.pair_on(self._bridge(netlink), interface, network, netns)
            netlink.send([pair])
        except NetlinkError as error:
            if error.errno != errno.EXFULL:
                raise
            raise BridgeFull(
                errno.EXFULL,
                f"bridge {network.bridge} of network {network.name} has {MAX_PORTS} ports and takes"
                f' no more; set mode = "routed" in [network.{network.name}], or use another'
                " network",
            ) from error

    def adopt(self, netlink: Netlink, interface: Interface, *, alias: str) -> None:
        """Repair an existing host end; before it joins another program's bridge, make it fit."""
        if not self.network.managed:
            bridge, index = self._bridge(netlink), netlink.index(interface.host_name)
            body = netlink.get(rtnl.link_at(index))
            if body is not None and rtnl.read_link(body).master != bridge.index:
                netlink.send([veth.fit(bridge, index)])
        super().adopt(netlink, interface, alias=alias)

    def host_end(self, interface: Interface, index: int, alias: str) -> list[bytes]:  # noqa: ARG002
        """Configure the host end as a port of the bridge, without IPv6 of its own."""
        veth.turn_off_ipv6(interface.host_name)
        flooded = not self.forced(interface)
        isolated = self.network.isolate
        return [rtnl.port(interface.host_name, isolated=isolated, flooded=flooded, alias=alias)]

    def port_of(self, netlink: Netlink) -> int:
        """The index of its bridge; `OSError` if it is missing."""
        return netlink.index(self.network.bridge) or self._bridge(netlink).index

    def _bridge(self, netlink: Netlink) -> rtnl.Link:
        """Its bridge; `OSError` if it is missing."""
        link = gateway_bridge.find(self.network, netlink)
        if link is None:
            missing = f"bridge {self.network.bridge} of network {self.network.name} is missing"
            raise OSError(errno.ENODEV, missing)
        return link

    def wrong(self, netlink: Netlink, link: rtnl.Link, interface: Interface) -> str:  # noqa: ARG002
        """Check that the host end is on the bridge."""
        index = netlink.index(self.network.bridge)
        on_it = index and link.master == index
        return "" if on_it else f"the link was not on bridge {self.network.bridge}"

    def settings_inside(self, interface: Interface) -> Mapping[str, str]:
        """Ignore neighbours that claim to be routers; have a router forward at once.

        The next hop of a static route forwards nothing to a neighbour until its link-local address
        is there, which duplicate address detection delays (`ndisc_solicit` in `net/ipv6/ndisc.c`).
        """
        if 6 not in self.gateways:
            return {}
        settings = {f"ipv6/conf/{interface.name}/accept_ra": "0"}
        if self.routed(interface):
            settings[f"ipv6/conf/{interface.name}/accept_dad"] = "0"
        return settings

    def way(self, address: AddressWithPrefix, ordinal: int) -> Way:  # noqa: ARG002
        """The subnet is on the link; the gateway is a neighbour."""
        return Way(address, address.network, self.gateways.get(address.version))

    def ways(self, interface: Interface) -> list[Way]:
        """If `interface` is forced, only the gateway is on the link, as in a routed network."""
        found = super().ways(interface)
        return list(map(self._by_gateway, found)) if self.forced(interface) else found

    def former_ways(self, interface: Interface) -> list[Way]:
        """Those that it has if it is forced, or otherwise if it is not."""
        found = super().ways(interface)
        return found if self.forced(interface) else list(map(self._by_gateway, found))

    def _by_gateway(self, way: Way) -> Way:
        """The way to all by the gateway, as that of an address on the link is `way`."""
        address = way.address
        own = type(address)((address.packed, address.max_prefixlen))
        if way.hop is None:
            return replace(way, address=own, on_link=None)
        return Way(own, _alone(way.hop), way.hop, beyond=self.network.subnet_of(own.version))

    @property
    def router_mac(self) -> str:
        """That of the bridge, which this program chose."""
        return gateway_bridge.mac(self.network)


@lru_cache(256)
def _alone(address: Address) -> Subnet:
    """The subnet with that `address` alone."""
    return ip_network((address.packed, address.max_prefixlen))


DRIVER: Final = BridgeDriver
