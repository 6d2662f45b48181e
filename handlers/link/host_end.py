"""The outer end of a veth pair: on the bridge of its network, or a host route of its own.

A bridge takes 1,023 ports (`BR_MAX_PORTS` in `net/bridge/br_private.h`), and floods each broadcast
to all of them. A routed network has no bridge: each sandbox's address is a host route on its own
link, and its MAC a permanent entry of the neighbour table, which is not counted against
`gc_thresh3` (`net/core/neighbour.c`).
"""

from __future__ import annotations

import errno
from contextlib import suppress
from ipaddress import ip_network
from typing import Final

from handlers.kernel import rtnl, sysctl
from handlers.kernel.netlink import Netlink, NetlinkError
from handlers.link.routes import missing
from handlers.link.sandbox_end import HOST_MAC
from watcher.model.network import Network, gateway
from watcher.model.sandbox import Interface

MAX_PORTS: Final = 1023


class BridgeFull(OSError):
    """The bridge takes no more ports."""


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
        master=_master(netlink, network),
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
    netlink.send(settings(netlink, interface, network, alias=alias))


def settings(
    netlink: Netlink, interface: Interface, network: Network, *, alias: str
) -> list[bytearray]:
    """What the outer end has to be told; it is up then."""
    name = interface.host_name
    with_ipv6 = network.mode == "routed" and network.subnet_of(6) is not None
    if not with_ipv6:
        _turn_off_ipv6(name)
    if network.mode == "bridge":
        return [rtnl.port(name, isolated=network.isolate, alias=alias)]
    if not network.internal and network.subnet_of(4) is not None:
        sysctl.put(f"ipv4/conf/{name}/route_localnet", "1")
    index = netlink.index(name)
    requests = [rtnl.quiet(name, alias=alias, up=not with_ipv6)]
    if with_ipv6:
        requests.append(rtnl.up(name))
    requests += map(rtnl.route, routes(interface, network, index))
    for address in interface.addresses:
        requests.append(rtnl.neighbour(index, address.ip, interface.mac))
        if address.version == 6 and not network.internal:
            requests.append(rtnl.loopback(index))
    return requests


def _turn_off_ipv6(name: str) -> None:
    """Have the host itself speak no IPv6 by `name`: on a bridge, that is the bridge's to do.

    Each interface with IPv6 has a route to ff00::/8, all in one list, which the kernel walks as one
    comes up and as one goes down (`fib6_add_rt2node`, `fib6_ifdown` in `net/ipv6`): with thousands
    of them this takes longer than all the rest.
    """
    with suppress(FileNotFoundError):  # a kernel without IPv6
        sysctl.put(f"ipv6/conf/{name}/disable_ipv6", "1")


def adopted(
    netlink: Netlink, interface: Interface, network: Network, *, alias: str
) -> list[bytearray]:
    """What an outer end has to be told that was there already, whatever it was like."""
    enslaved = rtnl.enslaved(interface.host_name, _master(netlink, network))
    return [enslaved, *settings(netlink, interface, network, alias=alias)]


def routes(interface: Interface, network: Network, index: int) -> list[rtnl.Route]:
    """The host's routes to the addresses of a routed `interface`, by the link `index`."""
    found = []
    for address in interface.addresses:
        subnet = network.subnet_of(address.version)
        source = None if subnet is None else gateway(subnet)
        found.append(rtnl.Route(ip_network(address.ip), None, index, 0, source))
    return found


def wrong(
    netlink: Netlink,
    link: rtnl.Link | None,
    interface: Interface,
    network: Network,
) -> str:
    """What is wrong with the outer end `link`; empty if nothing is.

    Args:
        netlink: a socket on the host.
        link: what the kernel says of it; `None` if it is not there.
        interface: what it should be.
        network: its network.
    """
    if link is None:
        return "the link was missing"
    if not link.up:
        return "the link was down"
    if network.mode == "routed":
        for route in missing(netlink, routes(interface, network, link.index)):
            return f"the host's route to {route.to} was missing"
        return ""
    master = netlink.index(network.bridge)
    if link.master != master or not master:
        return f"the link was not on bridge {network.bridge}"
    return ""


def _master(netlink: Netlink, network: Network) -> int:
    """The index of the bridge of `network`; 0 if it is a routed one, whose links are on none.

    Raises:
        OSError: the bridge is missing.
    """
    if network.mode == "routed":
        return 0
    index = netlink.index(network.bridge)
    if not index:
        missing = f"bridge {network.bridge} of network {network.name} is missing"
        raise OSError(errno.ENODEV, missing)
    return index
