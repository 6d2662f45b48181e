"""Finds networks that this host cannot have: addresses or bridge are in use, or IPv6 is off.

The service and sync call it at their start, and so does `watcher check`. It costs a dump of the
host's routes, one of its addresses, and a request for each bridge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from handlers.host import renamed_bridge
from handlers.kernel import rtnl, sysctl
from handlers.kernel.messages import attributes
from handlers.kernel.netlink import Netlink
from watcher.model.errors import UsageError
from watcher.model.naming import HOST_NAME
from watcher.model.network import gateways

if TYPE_CHECKING:
    from watcher.model.address import AddressWithPrefix, Subnet
    from watcher.model.network import Network

_DEFAULT_PREFIX: Final = 1
"""VPNs split the default route in two; so a route to half of all addresses counts as one."""

_RTMSG_SIZE: Final = 12

_RTA_DST: Final = 1
"""`include/uapi/linux/rtnetlink.h`."""


class Problem(Struct, frozen=True):
    """Why a network cannot be on this host.

    Attributes:
        what, remedy: as in :class:`watcher.model.errors.WatcherError`.
        in_operation: whether its bridge has the gateway's address already, so that its sandboxes
            may work nevertheless.
    """

    what: str
    remedy: str
    in_operation: bool


class _Taken(Struct, frozen=True):
    """Addresses that the host uses on the interface `index`."""

    subnet: Subnet
    index: int
    what: str


def refuse_impossible(networks: Mapping[str, Network]) -> None:
    """Refuse to start with a network that this host cannot have.

    A network in operation passes if only its subnet is in use, so that a new route on the host
    does not keep a restarted service from its sandboxes.

    Raises:
        UsageError: for the first such network.
    """
    for problem in problems(networks.values()):
        if not problem.in_operation:
            raise UsageError(problem.what, problem.remedy)


def problems(networks: Iterable[Network]) -> Iterator[Problem]:
    """Everything that makes one of `networks` impossible on this host."""
    networks = list(networks)
    with Netlink() as netlink:
        taken = _taken(netlink, networks)
        for network in networks:
            body = netlink.get(rtnl.link(network.bridge))
            bridge = None if body is None else rtnl.read_link(body)
            if network.managed and (bridge is None or not bridge.ours):
                former = renamed_bridge(network, netlink)
                if former is not None and bridge is not None:
                    yield Problem(
                        f"network.{network.name}.bridge = {network.bridge}: an interface of that"
                        f" name is there, and the network's bridge is called {former.name} now",
                        "rename or remove that interface",
                        in_operation=False,
                    )
                    continue
                bridge = bridge or former
            if bridge is not None and bridge.kind != "bridge":
                yield Problem(
                    f"network.{network.name}.bridge = {network.bridge}: an interface of that name"
                    f" is there and is no bridge but {_kind(bridge)}",
                    "name another bridge, or remove that interface",
                    in_operation=False,
                )
                continue
            if network.subnet_of(6) is not None:
                yield from _without_ipv6(network, "default" if bridge is None else bridge.name)
            index = 0 if bridge is None else bridge.index
            yield from _overlapping(network, index, taken, netlink)


def _overlapping(
    network: Network, index: int, taken: list[_Taken], netlink: Netlink
) -> Iterator[Problem]:
    """The host's uses of addresses of `network`, other than on the network's own bridge."""
    for subnet in network.subnets:
        for use in taken:
            if use.index != index and _overlap(use.subnet, subnet):
                device = netlink.name(use.index)
                if not network.facts.on_link and HOST_NAME.fullmatch(device):
                    continue  # the link of one of its sandboxes
                yield Problem(
                    f"network.{network.name}.subnets = {subnet}: overlaps the host's own"
                    f" {use.what}{f' dev {device}' if device else ''}",
                    "give the network another subnet, or remove that from the host",
                    in_operation=index > 0 and _carries(network, index, netlink),
                )
                break  # one is enough to see why


def _without_ipv6(network: Network, interface: str) -> Iterator[Problem]:
    subnet = network.subnet_of(6)
    name = f"ipv6/conf/{interface}/disable_ipv6"
    disabled = sysctl.get(name)
    if disabled is None:
        yield Problem(
            f"network.{network.name}.subnets = {subnet}: IPv6 is turned off in the kernel",
            "boot without ipv6.disable=1, or remove the IPv6 subnet",
            in_operation=False,
        )
    elif disabled == "1":
        dotted = f"net.{name.replace('/', '.')}"
        yield Problem(
            f"network.{network.name}.subnets = {subnet}: IPv6 is turned off by {dotted} = 1",
            f"run `sysctl -w {dotted}=0`, or remove the IPv6 subnet",
            in_operation=False,
        )


def _taken(netlink: Netlink, networks: Iterable[Network]) -> list[_Taken]:
    """The host's routes, except default routes, and addresses that overlap subnets of `networks`.

    Routes to sandboxes are left out, but for those that overlap a network whose sandboxes are
    reached without one.
    """
    subnets = [(subnet, network) for network in networks for subnet in network.subnets]
    every = [subnet for subnet, _ in subnets]
    on_links = [subnet for subnet, network in subnets if network.facts.on_link]
    found: list[_Taken] = []
    for version in (4, 6):  # a router has a million routes, of which almost none is near
        near = [body for body in netlink.listed(rtnl.routes(version)) if _is_near(body, every)]
        others = [
            body for body in near if _is_near(body, on_links) or not _is_to_sandbox(netlink, body)
        ]
        for route in rtnl.read_routes(others):
            if route.to is not None and route.to.prefixlen > _DEFAULT_PREFIX:
                via = "" if route.via is None else f" via {route.via}"
                found.append(_Taken(route.to, route.index, f"route {route.to}{via}"))
    for body in netlink.dump(rtnl.addresses(0)):
        index = int.from_bytes(body[4:8], "little")  # ifa_index of struct ifaddrmsg
        found += [
            _Taken(_alone(address), index, f"address {address}")
            for address in rtnl.read_addresses([body])
        ]
    return found


def _is_to_sandbox(netlink: Netlink, body: memoryview) -> bool:
    """Whether the route in `body` is through the host end of a sandbox's link."""
    return HOST_NAME.fullmatch(netlink.name(rtnl.read_route_index(body))) is not None


def _is_near(body: memoryview, subnets: list[Subnet]) -> bool:
    """Whether the route in `body` overlaps one of `subnets`. Fast: hosts have thousands of routes.

    `body` begins with a `struct rtmsg`, whose second byte is the prefix length.
    """
    for kind, value in attributes(body, _RTMSG_SIZE):
        if kind == _RTA_DST:
            address, bits, length = int.from_bytes(value), len(value) * 8, body[1]
            for subnet in subnets:
                shift = bits - min(length, subnet.prefixlen)
                same_family = subnet.max_prefixlen == bits
                if same_family and address >> shift == int(subnet.network_address) >> shift:
                    return True
            return False
    return False


def _alone(address: AddressWithPrefix) -> Subnet:
    return ip_network(address.ip)


def _overlap(one: Subnet, other: Subnet) -> bool:
    if one.version != other.version:
        return False
    shorter = min(one.prefixlen, other.prefixlen)
    shift = one.max_prefixlen - shorter
    return int(one.network_address) >> shift == int(other.network_address) >> shift


def _carries(network: Network, index: int, netlink: Netlink) -> bool:
    there = rtnl.read_addresses(netlink.dump(rtnl.addresses(index)))
    return all(address in there for address in gateways(network))


def _kind(link: rtnl.Link) -> str:
    return f"of kind {link.kind}" if link.kind else "a device of the hardware"
