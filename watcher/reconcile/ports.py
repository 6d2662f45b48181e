"""Checks whether a container's port maps are possible and allowed.

The lease store checks them against those of other sandboxes, in its transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from handlers.kernel import sysctl
from watcher.model import keys
from watcher.model.errors import InvalidRequest
from watcher.model.network import Network, versions_of
from watcher.model.request import PortMap, Request
from watcher.store.port_choice import DYNAMIC, Choice

if TYPE_CHECKING:
    from handlers.kernel.sockdiag import SockDiag
    from watcher.config.settings import Limits, Root
    from watcher.model.address import Address

REMEDY: Final = "stop that process, or publish another port"

_WILDCARDS: Final[Set[Address]] = frozenset((IPv4Address("0.0.0.0"), IPv6Address("::")))  # noqa: S104
"""The host addresses of a port map that names none."""

_EVERY: Final = (1, 65535)


def check_carried(request: Request, networks: Iterable[Network]) -> None:
    """Raise InvalidRequest for a port map that none of `networks` can carry."""
    if not request.ports:
        return
    networks = list(networks)
    published = [network for network in networks if not network.internal]
    for port in request.ports:
        if not networks:
            raise InvalidRequest(
                keys.PORTS, port, "it is connected to no network", "connect it: `watcher connect`"
            )
        if not published:
            raise InvalidRequest(
                keys.PORTS, port, "its network is internal",
                "publish nothing, or name a network that is not internal",
            )  # fmt: skip
        if port.host_ip is not None and port.host_ip.version not in versions_of(published):
            family = f"IPv{port.host_ip.version}"
            raise InvalidRequest(
                keys.PORTS, port, f"its networks have no {family} subnet",
                f"publish it on another address, or give the network an {family} subnet",
            )  # fmt: skip


def out_of_limits(root: Root) -> str:
    """Why a container of `root` may not have what it asks for."""
    return f"the limits of root {root.path} do not allow it"


def choice(root: Root | None, sock_diag: SockDiag) -> Choice:
    """Where the host ports of a container of `root` are chosen.

    Limits that allow every port have no opinion on it.
    """
    ranges = () if root is None else root.limits.host_ports
    return Choice(DYNAMIC if not ranges or _EVERY in ranges else ranges, sock_diag.taken)


def check_allowed(request: Request, root: Root) -> None:
    """Raise InvalidRequest for a port map beyond the limits of `root`."""
    limits = root.limits
    if _EVERY in limits.host_ports and not limits.host_addresses:  # as where nobody limits them
        return
    why = out_of_limits(root)
    for port in request.ports:
        if (outside := _first_outside(port, limits)) is not None:
            ranges = ", ".join(f"{low}-{high}" for low, high in limits.host_ports)
            use = f"use a host port of {ranges or 'none'}"
            raise InvalidRequest(keys.PORTS, port if port.to_choose else port.at(outside), why, use)
        if limits.host_addresses and not _addresses(port) <= set(limits.host_addresses):
            addresses = ", ".join(map(str, limits.host_addresses))
            raise InvalidRequest(keys.PORTS, port, why, f"use a host address of {addresses}")


def check_possible(request: Request, networks: Iterable[Network], sock_diag: SockDiag) -> None:
    """Raise InvalidRequest for a port map that cannot be forwarded into `networks`."""
    carriers = list(networks)
    check_carried(request, carriers)
    check_free(request, sock_diag)
    check_local(request, carriers)


def check_free(request: Request, sock_diag: SockDiag) -> None:
    """Raise InvalidRequest for a port map of a port that a process of the host listens on."""
    taken = sock_diag.first_taken(request.named_ports)
    if taken is not None:
        port, listener = taken
        raise InvalidRequest(
            keys.PORTS, port,
            f"a process of the host listens on {listener.address} port {listener.port}",
            REMEDY,
        )  # fmt: skip


def check_local(request: Request, networks: Iterable[Network]) -> None:
    """Raise InvalidRequest for a port map of localhost that leads to another program's bridge.

    The kernel sends nothing from 127.0.0.0/8 to a bridge without its `route_localnet`, and nothing
    from ::1 without a route that only this program makes. Such a bridge is never changed.
    """
    for port in request.ports:
        if port.host_ip is None or not port.host_ip.is_loopback:
            continue
        version = port.host_ip.version
        network = next((n for n in networks if not n.internal and n.subnet_of(version)), None)
        if network is None or network.managed or (version == 4 and _routes_localnet(network)):
            continue
        name = f"net.ipv4.conf.{network.bridge}.route_localnet"
        raise InvalidRequest(
            keys.PORTS, port,
            f"bridge {network.bridge} of network {network.name} is not ours to change, and takes"
            " nothing from localhost",
            f"run `sysctl -w {name}=1`, or publish it on another address" if version == 4
            else "publish it on another address",
        )  # fmt: skip


def _addresses(port: PortMap) -> Set[Address]:
    """The host addresses of `port`."""
    return _WILDCARDS if port.host_ip is None else {port.host_ip}


def _routes_localnet(network: Network) -> bool:
    """Whether the kernel routes 127.0.0.0/8 to the bridge of `network` (`IN_DEV_ORCONF`)."""
    return any(
        sysctl.get(f"ipv4/conf/{name}/route_localnet") == "1" for name in ("all", network.bridge)
    )


def _first_outside(port: PortMap, limits: Limits) -> int | None:
    """The first host port of `port` that is in no range of `limits`.

    One that is to be chosen will be in one of them, if there are any.
    """
    if port.to_choose:
        return None if limits.host_ports else 0
    at = port.host_port
    for low, high in sorted(limits.host_ports):
        if low <= at <= high:
            at = high + 1
    return at if at <= port.last else None
