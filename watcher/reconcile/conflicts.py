"""Finds networks that this host cannot have: addresses or bridge are in use, or IPv6 is off.

The service and sync look when they start, and `watcher check` does as well. The service looks again
when a bridge is made, or a route near a network's subnets appears. A look costs a dump of the
host's routes, one of its addresses, and a request for each bridge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from handlers.host import renamed_bridge
from handlers.kernel import rtnl, sysctl
from handlers.kernel.netlink import Netlink
from watcher.events.near_routes import DEFAULT_PREFIX, is_near
from watcher.model.cluster import PROTOCOL
from watcher.model.errors import UsageError
from watcher.model.naming import HOST_NAME
from watcher.model.network import gateways

if TYPE_CHECKING:
    from watcher.model.address import AddressWithPrefix, Subnet
    from watcher.model.network import Network

_PROTOCOL: Final = 5
"""The offset of the protocol in `struct rtmsg`."""


class Problem(Struct, frozen=True):
    """Why a network cannot be on this host.

    Attributes:
        network: its name.
        what, remedy: as in :class:`watcher.model.errors.WatcherError`.
        in_operation: whether its bridge has the gateway's address already, so that its sandboxes
            may work nevertheless.
        link: the index of the link by which the host uses its addresses, if that is the problem;
            it may pass.
        harmless: whether packets for the network find its bridge nevertheless, because that use
            is of a larger subnet.
    """

    network: str
    what: str
    remedy: str
    in_operation: bool = False
    link: int | None = None
    harmless: bool = False

    @property
    def refuses(self) -> bool:
        """Whether the network can take no container meanwhile."""
        return self.link is None or not (self.in_operation and self.harmless)


class _Taken(Struct, frozen=True):
    """Addresses that the host uses on the interface `index`."""

    subnet: Subnet
    index: int
    what: str


def refuse_impossible(networks: Mapping[str, Network], *, starting: bool = False) -> list[Problem]:
    """Refuse networks that this host cannot have; returns the problems that are no reason for that.

    No problem is a reason if the network is in operation. Nor is an overlap, if the service or sync
    is `starting`: only the network's own containers are refused, until the overlap has gone.

    Raises:
        UsageError: for the first such network.
    """
    found = list(problems(networks.values()))
    for problem in found:
        if not (problem.in_operation or (starting and problem.link is not None)):
            raise UsageError(problem.what, problem.remedy)
    return found


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
                        network.name,
                        f"network.{network.name}.bridge = {network.bridge}: an interface of that"
                        f" name is there, and the network's bridge is called {former.name} now",
                        "rename or remove that interface",
                    )
                    continue
                bridge = bridge or former
            if bridge is not None and bridge.kind != "bridge":
                yield Problem(
                    network.name,
                    f"network.{network.name}.bridge = {network.bridge}: an interface of that name"
                    f" is there and is no bridge but {_kind(bridge)}",
                    "name another bridge, or remove that interface",
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
        uses = [
            (use.subnet.prefixlen < subnet.prefixlen, use, device)
            for use in taken
            if use.index != index and _overlap(use.subnet, subnet)
            for device in (netlink.name(use.index),)
            if network.facts.on_link or not HOST_NAME.fullmatch(device)  # of its sandboxes
        ]
        if uses:  # one is enough to see why
            harmless, use, device = min(uses, key=itemgetter(0))
            yield Problem(
                network.name,
                f"network.{network.name}.subnets = {subnet}: overlaps the host's own"
                f" {use.what}{f' dev {device}' if device else ''}",
                "give the network another subnet, or remove that from the host",
                in_operation=index > 0 and _carries(network, index, netlink),
                link=use.index,
                harmless=harmless,
            )


def _without_ipv6(network: Network, interface: str) -> Iterator[Problem]:
    subnet = network.subnet_of(6)
    name = f"ipv6/conf/{interface}/disable_ipv6"
    disabled = sysctl.get(name)
    if disabled is None:
        yield Problem(
            network.name,
            f"network.{network.name}.subnets = {subnet}: IPv6 is turned off in the kernel",
            "boot without ipv6.disable=1, or remove the IPv6 subnet",
        )
    elif disabled == "1":
        dotted = f"net.{name.replace('/', '.')}"
        yield Problem(
            network.name,
            f"network.{network.name}.subnets = {subnet}: IPv6 is turned off by {dotted} = 1",
            f"run `sysctl -w {dotted}=0`, or remove the IPv6 subnet",
        )


def _taken(netlink: Netlink, networks: Iterable[Network]) -> list[_Taken]:
    """The host's routes, except default routes, and addresses that overlap subnets of `networks`.

    Routes to sandboxes are left out, but for those that overlap a network whose sandboxes are
    reached without one. So are routes to other hosts of a cluster.
    """
    subnets = [(subnet, network) for network in networks for subnet in network.subnets]
    every = [subnet for subnet, _ in subnets]
    on_links = [subnet for subnet, network in subnets if network.facts.on_link]
    found: list[_Taken] = []
    for version in (4, 6):  # a router has a million routes, of which almost none is near
        near = [
            body for body in netlink.listed(rtnl.routes(version))
            if body[_PROTOCOL] != PROTOCOL and is_near(body, every)
        ]  # fmt: skip
        others = [
            body for body in near if is_near(body, on_links) or not _is_to_sandbox(netlink, body)
        ]
        for route in rtnl.read_routes(others):
            if route.to is not None and route.to.prefixlen > DEFAULT_PREFIX:
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
