"""The outer end of a veth pair: on the bridge of its network, or a host route of its own.

A bridge takes 1,023 ports (`BR_MAX_PORTS` in `net/bridge/br_private.h`), and floods each broadcast
to all of them. A routed network has no bridge: each sandbox's address is a host route on its own
link, and its MAC a permanent entry of the neighbour table, which is not counted against
`gc_thresh3` (`net/core/neighbour.c`).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Container
from ipaddress import ip_network
from typing import Final

from handlers import rtnl, sysctl
from handlers.inner import HOST_MAC
from handlers.netlink import Netlink, NetlinkError
from watcher.config import Network, gateway
from watcher.model import Interface

MAX_PORTS: Final = 1023


class BridgeFull(OSError):
    """The bridge takes no more ports."""


def link_index(name: str) -> int:
    """The index of the interface `name` where this thread is; 0 if there is none."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def mtu_of(network: Network) -> int:
    """The MTU of the links of `network`, in bytes."""
    assert network.mtu != "auto", "it is settled as the host is opened"
    return network.mtu


def make(
    netlink: Netlink, interface: Interface, network: Network, netns: int, *, alias: str
) -> None:
    """Make the pair, its inner end in the namespace `netns`, and the settings of its outer end.

    Raises:
        NetlinkError: EEXIST, if either end's name is taken; nothing was made.
        BridgeFull: the bridge has no port left.
    """
    routed = network.mode == "routed"
    pair = rtnl.veth(
        interface.host_name,
        interface.name,
        netns,
        master=0 if routed else socket.if_nametoindex(network.bridge),
        host_mac=HOST_MAC if routed else "",
        mac=interface.mac,
        mtu=mtu_of(network),
    )
    try:
        netlink.send([pair])  # by itself: what follows must not hit another's link
    except NetlinkError as error:
        if error.errno != errno.EXFULL:
            raise
        raise BridgeFull(
            errno.EXFULL,
            f"bridge {network.bridge} of network {network.name} has {MAX_PORTS} ports and takes no"
            f' more; set mode = "routed" in [network.{network.name}], or use another network',
        ) from error
    netlink.send(settings(interface, network, alias=alias))


def settings(interface: Interface, network: Network, *, alias: str) -> list[bytearray]:
    """What the outer end has to be told; it is up then."""
    name = interface.host_name
    if network.mode == "bridge":
        return [rtnl.port(name, isolated=network.isolate, alias=alias), rtnl.up(name)]
    if not network.internal and network.subnet_of(4) is not None:
        sysctl.put(f"ipv4/conf/{name}/route_localnet", "1")
    index = socket.if_nametoindex(name)
    requests = [rtnl.quiet(name, alias=alias), rtnl.up(name)]
    requests += map(rtnl.route, routes(interface, network, index))
    for address in interface.addresses:
        requests.append(rtnl.neighbour(index, address.ip, interface.mac))
        if address.version == 6 and not network.internal:
            requests.append(rtnl.loopback(index))
    return requests


def adopted(interface: Interface, network: Network, *, alias: str) -> list[bytearray]:
    """What an outer end has to be told that was there already, whatever it was like."""
    routed = network.mode == "routed"
    master = 0 if routed else socket.if_nametoindex(network.bridge)
    enslaved = rtnl.enslaved(interface.host_name, master)
    return [enslaved, *settings(interface, network, alias=alias)]


def routes(interface: Interface, network: Network, index: int) -> list[rtnl.Route]:
    """The host's routes to the addresses of a routed `interface`, by the link `index`."""
    found = []
    for address in interface.addresses:
        subnet = network.subnet_of(address.version)
        source = None if subnet is None else gateway(subnet)
        found.append(rtnl.Route(ip_network(address.ip), None, index, 0, source))
    return found


def wrong(
    link: rtnl.Link | None, interface: Interface, network: Network, there: Container[rtnl.Route]
) -> str:
    """What is wrong with the outer end `link`; empty if nothing is.

    Args:
        link: what the kernel says of it; `None` if it is not there.
        interface: what it should be.
        network: its network.
        there: the host's routes, without source and metric.
    """
    if link is None:
        return "the link was missing"
    if not link.up:
        return "the link was down"
    if network.mode == "routed":
        for route in routes(interface, network, link.index):
            if rtnl.Route(route.to, None, link.index, 0) not in there:
                return f"the host's route to {route.to} was missing"
        return ""
    master = link_index(network.bridge)
    if link.master != master or not master:
        return f"the link was not on bridge {network.bridge}"
    return ""
