"""The routes between two hosts as somebody makes them by hand with ip(8), plain and by VXLAN.

They are the proof that the underlay works.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Final, NamedTuple

from tests.support.cluster.hosts import ClusterHost

DEVICE: Final = "vxlan0"
_VNI: Final = 42
_HEADERS: Final = {4: 50, 6: 70}
"""What VXLAN takes of the underlay's MTU."""


class Joined(NamedTuple):
    """A host, and the blocks whose sandboxes it has, one of each family."""

    host: ClusterHost
    blocks: tuple[IPv4Network, IPv6Network]


def by_routes(one: Joined, other: Joined) -> None:
    """Has two hosts on one link reach each other's blocks by plain routes."""
    for here, there in ((one, other), (other, one)):
        hops = (there.host.station.ipv4, there.host.station.ipv6)
        _run(
            here.host,
            *(
                f"route replace {block} via {hop} dev uplink"
                for block, hop in zip(there.blocks, hops, strict=True)
            ),
        )


def by_vxlan(one: Joined, other: Joined, version: int = 4) -> None:
    """Has two hosts reach each other's blocks by VXLAN over IPv4 or IPv6."""
    for here, there in ((one, other), (other, one)):
        _device(here.host, version)
        hop, hop6 = there.host.station.ipv4, f"fe80::{there.host.station.number}"
        mac = _mac(there.host)
        _run(
            here.host,
            f"neigh replace {hop} lladdr {mac} dev {DEVICE} nud permanent",
            f"neigh replace {hop6} lladdr {mac} dev {DEVICE} nud permanent",
            f"route replace {there.blocks[0]} via {hop} dev {DEVICE} onlink",
            f"route replace {there.blocks[1]} via {hop6} dev {DEVICE} onlink",
        )
        fdb = f"bridge fdb replace {mac} dev {DEVICE} dst {_address(there.host, version)}"
        here.host.command(*fdb.split())


def _device(host: ClusterHost, version: int) -> None:
    """Makes the host's VXLAN device, unless it is there."""
    if host.here.link(DEVICE) is not None:
        return
    uplink = host.here.link("uplink")
    assert uplink is not None
    mtu = uplink["mtu"] - _HEADERS[version]
    tunnel = f"id {_VNI} dstport 4789 local {_address(host, version)} nolearning"
    _run(
        host,
        f"link add {DEVICE} address {_mac(host)} mtu {mtu} type vxlan {tunnel}",
        f"link set {DEVICE} up",
    )


def _address(host: ClusterHost, version: int) -> str:
    return str(host.station.ipv4 if version == 4 else host.station.ipv6)


def _mac(host: ClusterHost) -> str:
    return f"02:00:99:00:00:{host.station.number:02x}"


def _run(host: ClusterHost, *lines: str) -> None:
    host.here.run("ip", "-batch", "-", stdin="\n".join((*lines, "")))


def let_in(host: ClusterHost, *subnets: str) -> None:
    """Has a host without the service forward packets from `subnets` to its sandboxes."""
    for subnet in subnets:
        match = ("ip6" if ":" in subnet else "ip", "saddr", subnet)
        host.nft("insert", "rule", "inet", "watcher", "to_sandboxes", *match, "accept")
