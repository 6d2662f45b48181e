"""Which VXLAN devices this host needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from handlers.cluster.devices import Device
from handlers.cluster.ways import NOWHERE, Way
from handlers.context import ClusterView
from handlers.kernel.rtnl.vxlan import Vxlan
from handlers.networks.clustered import ClusteredDriver
from watcher.model.address import Address
from watcher.model.cluster import HEADERS, Peer, device, vni, vtep_mac


def wanted(
    drivers: Iterable[ClusteredDriver],
    cluster: ClusterView,
    own: Address | None,
    underlay: int,
    peers: Iterable[Peer],
    ways: Mapping[Address, Way],
) -> tuple[Device, ...]:
    """The device of each network that has hosts which no plain route leads to.

    It does not matter what these hosts have: they may send before that is known.

    Args:
        drivers: the drivers of all clustered networks.
        cluster: has the numbers and the port.
        own: what the others reach this host by.
        underlay: the MTU of packets to them.
        peers: the other hosts.
        ways: how their addresses are reached.
    """
    if own is None:
        return ()
    reached = {
        (peer.address, ways.get(peer.address, NOWHERE).common)
        for peer in peers
        if ways.get(peer.address, NOWHERE).link and peer.address.version == own.version
    }
    found = []
    for driver in drivers:
        number = cluster.number(driver.network.name)
        if number and any(driver.tunnels(address, common=c) for address, c in reached):
            found.append(
                Device(
                    device(number),
                    Vxlan(vni(number), cluster.port, own),
                    vtep_mac(own, number),
                    underlay - HEADERS[own.version],
                    own.version == 6 or driver.network.subnet_of(6) is not None,
                    f"network {driver.network.name}",
                )
            )
    return tuple(found)
