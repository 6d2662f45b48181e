"""Three hosts of a cluster that have agreed on their blocks already: no registry is needed.

What a registry would have told is written into each host's lease store.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final

from msgspec import Struct

from tests.support.cluster.cluster import Cluster
from tests.support.cluster.hosts import ClusterHost
from tests.support.cluster.underlay import FAR, LAN, Link
from watcher.model.address import Address, Subnet
from watcher.model.cluster import (
    ClusterChange,
    Peer,
    PeerBlock,
    block_at,
    host_address,
)
from watcher.store.leases import LeaseStore

BLOCK: Final = 256
_LINKS: Final[dict[str, Link]] = {"a": LAN, "b": LAN, "c": FAR}
_ORDER: Final = "abc"
_OVER: Final = '[cluster]\netcd = ["http://127.0.0.1:1"]\naddress = "{address}"\n'


class Net(Struct, frozen=True):
    """A clustered network of a test: its name, its number, its bridge and its subnets."""

    name: str = "default"
    number: int = 1
    bridge: str = "netns0"
    subnets: tuple[str, ...] = ("172.19.0.0/16", "fd00:19::/64")

    def config(self, *lines: str) -> str:
        """What the configuration says of it."""
        subnets = ", ".join(f'"{subnet}"' for subnet in self.subnets)
        more = "".join(f"{line}\n" for line in lines)
        return (
            f'[network.{self.name}]\nbridge = "{self.bridge}"\nmode = "routed"\ncluster = true\n'
            f"subnets = [{subnets}]\nmtu = 1400\nblock = {BLOCK}\n{more}"
        )

    def blocks(self, host: str) -> list[Subnet]:
        """The block of each family that a host has."""
        number = _ORDER.index(host) + 1
        return [block_at(ip_network(subnet), BLOCK, number) for subnet in self.subnets]

    def own(self, host: str) -> list[Address]:
        """A host's own address in each of these."""
        return [
            host_address(ip_network(subnet), block)
            for subnet, block in zip(self.subnets, self.blocks(host), strict=True)
        ]


class Agreed:
    """Hosts a and b on one link, and c behind the router.

    Attributes:
        cluster: they, on their underlay.
        nets: the clustered networks.
    """

    def __init__(self, cluster: Cluster, config: str, *nets: Net, version: int = 4) -> None:
        self.cluster = cluster
        self.nets = nets or (Net(),)
        self.version = version
        for name, link in _LINKS.items():
            cluster.add(name, link, _OVER.format(address=self.address(name)) + config)
        for name in _LINKS:
            self.tell(name)

    def __getitem__(self, name: str) -> ClusterHost:
        return self.cluster.hosts[name]

    def address(self, name: str) -> IPv4Address | IPv6Address:
        """What the others reach a host by."""
        link, number = _LINKS[name], 11 + _ORDER.index(name)
        return link.ipv4[number] if self.version == 4 else link.ipv6[number]

    def tell(self, name: str) -> None:
        """Writes what the registry would have told a host into its lease store."""
        host = self[name]
        host.state_dir.mkdir(mode=0o700, exist_ok=True)
        with LeaseStore.open(host.state_dir / "leases.db") as store:
            for net in self.nets:
                store.cluster.set_number(net.name, net.number)
                for block in net.blocks(name):
                    store.cluster.take(net.name, block)
            others = self.of_others(name)
            store.cluster.meet(others.peers, others.blocks)

    def of_others(self, name: str) -> ClusterChange:
        """What a host hears of the others."""
        others = [other for other in _LINKS if other != name]
        return ClusterChange(
            peers=tuple(Peer(other, self.address(other)) for other in others),
            blocks=tuple(
                PeerBlock(net.name, block, other)
                for other in others
                for net in self.nets
                for block in net.blocks(other)
            ),
        )

    def join(self) -> None:
        """Makes the ways between the hosts."""
        for name in _LINKS:
            self[name].watcher("sync")
