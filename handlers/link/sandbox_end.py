"""The inner end of a veth pair: a sandbox's addresses, its routes, and what is missing of them.

In a bridged network the subnet is on the link and the gateway a neighbour. In a routed one nothing
is on the link but a next hop that exists as an entry of the neighbour table alone: the host end's
MAC is known, so nobody has to be asked for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_interface, ip_network
from typing import Final

from handlers.kernel import rtnl, sysctl
from handlers.kernel.netlink import Netlink
from handlers.link import policy_routes, routes
from handlers.link.next_hop import next_hop
from watcher.model.address import Address, AddressWithPrefix
from watcher.model.network import Network
from watcher.model.sandbox import Interface, Sandbox

HOST_MAC: Final = "02:42:a9:fe:01:01"
"""The MAC of every host end in routed networks."""


def set_up(interface: Interface, network: Network) -> None:
    """Settings of `interface` in the namespace in which this thread is for the moment."""
    # Behind a routed link is the host alone; and the kernel compares each such file with all others
    # of its name (`proc_sys_compare` in `fs/proc/proc_sysctl.c`).
    if network.subnet_of(6) is not None and network.mode == "bridge":
        sysctl.put(f"ipv6/conf/{interface.name}/accept_ra", "0")


def requests(
    sandbox: Sandbox,
    interface: Interface,
    networks: Mapping[str, Network],
    index: int,
    *,
    mend: bool,
) -> list[bytearray]:
    """What makes the inner end of `interface` usable: addresses, up, routes.

    With `mend`, also the routes that the kernel makes itself where an address is new.
    """
    network = networks[interface.network]
    name = interface.name
    found = [] if network.subnet_of(6) is not None else [rtnl.quiet(name)]
    found += [rtnl.up("lo"), rtnl.up(name)]
    found += [rtnl.address(index, address) for address in _addresses(interface, network)]
    if mend:
        found += map(rtnl.route, _connected(interface, network, index))
    if network.mode == "routed":
        found += [rtnl.neighbour(index, hop, HOST_MAC) for hop in _next_hops(interface, network)]
    found += map(rtnl.route, _routes(sandbox, interface, networks, index))
    return found


def missing(
    inside: Netlink, sandbox: Sandbox, interface: Interface, networks: Mapping[str, Network]
) -> str:
    """What is wrong with the inner end, seen by a socket `inside`; empty if nothing is."""
    network = networks[interface.network]
    body = inside.get(rtnl.link(interface.name))
    if body is None:
        return f"{interface.name} was missing"
    link = rtnl.read_link(body)
    if not inside.is_up("lo"):
        return "lo was down"
    if not link.up:
        return f"{interface.name} was down"
    has = rtnl.read_addresses(inside.dump(rtnl.addresses(link.index)))
    for address in _addresses(interface, network):
        if address not in has:
            return f"{interface.name} did not have {address}"
    wanted = _connected(interface, network, link.index)
    wanted += _routes(sandbox, interface, networks, link.index)
    for route in routes.missing(inside, wanted):
        return f"the route to {route.to or 'default'} was missing"
    if len(sandbox.interfaces) > 1 and policy_routes.missing(
        inside, interface, network, link.index
    ):
        return f"a route or rule for what is sent from {interface.name} was missing"
    return ""


def _addresses(interface: Interface, network: Network) -> list[AddressWithPrefix]:
    if network.mode == "routed":
        return [ip_interface(address.ip) for address in interface.addresses]
    return list(interface.addresses)


def _connected(interface: Interface, network: Network, index: int) -> list[rtnl.Route]:
    """The routes to what is on the link."""
    if network.mode == "routed":
        return []
    return [rtnl.Route(address.network, None, index, 0) for address in interface.addresses]


def _routes(
    sandbox: Sandbox, interface: Interface, networks: Mapping[str, Network], index: int
) -> list[rtnl.Route]:
    """The routes by `interface`: the network's own, and the default routes that are by it."""
    network = networks[interface.network]
    found = []
    if network.mode == "routed":
        hops = [hop for hop in _next_hops(interface, network) if hop.version == 4]
        found += [rtnl.Route(ip_network(hop), None, index, 0) for hop in hops]
    found += [
        rtnl.Route(route.to if route.to.prefixlen else None, route.via, index, 0)
        for route in network.routes
        if all(route.via != address.ip for address in interface.addresses)  # it is that router
    ]
    own = {route.version for route in found if route.to is None}
    for address in interface.addresses:
        subnet = network.subnet_of(address.version)
        if subnet is None:
            continue
        hop = next_hop(network, address.version, interface.ordinal)
        if address.version in _defaults(sandbox, interface, networks) - own:
            found.append(rtnl.Route(None, hop, index, network.metric))
        elif network.mode == "routed":
            found.append(rtnl.Route(subnet, hop, index, 0))
    return found


def _next_hops(interface: Interface, network: Network) -> list[Address]:
    """The next hop of each family that `interface` has."""
    hops = (next_hop(network, a.version, interface.ordinal) for a in interface.addresses)
    return [hop for hop in hops if hop is not None]


def _defaults(
    sandbox: Sandbox, interface: Interface, networks: Mapping[str, Network]
) -> frozenset[int]:
    """The IP versions whose default route is by `interface`: the first that leads out."""
    first: dict[int, Interface] = {}
    for one in sandbox.interfaces:
        if not networks[one.network].internal:
            for address in one.addresses:
                first.setdefault(address.version, one)
    return frozenset(version for version, one in first.items() if one is interface)
