"""The registry of several hosts, played by a test: it tells each host's service what all have.

What takes place between `watcher cluster` and etcd has tests of its own. Here a test says who has
which block, and looks at what the kernels make of the packets.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from types import MappingProxyType
from typing import Final

from tests.support.cluster.cluster import Cluster
from tests.support.cluster.hosts import ClusterHost
from tests.support.cluster.underlay import LAN, Link
from tests.support.clustering import Registry, own, peer, theirs
from tests.support.host import Container, Service
from tests.support.waiting import eventually
from watcher.cluster.protocol import NumberRow, PeerBlockRow, Row

NETWORK: Final = "default"

DEVICE: Final = "netnsx1"
"""The VXLAN device of the network."""

PORT: Final = 80
"""Where containers serve."""


class Played:
    """Hosts whose services are told what all of them have.

    Args:
        cluster: has the hosts.
        subnets: those of the network.
        version: the version of IP by which the hosts reach each other.
        more: more keys of the network.
        told: whether each host's address is in its configuration.
    """

    def __init__(
        self,
        cluster: Cluster,
        subnets: tuple[str, ...] = ("10.9.0.0/16", "fd09::/64"),
        *,
        version: int = 4,
        more: str = "",
        told: bool = True,
    ) -> None:
        self.cluster = cluster
        self.subnets = subnets
        self._version = version
        self._more = more
        self._told = told
        self._addresses: dict[str, str] = {}
        self._registries: dict[str, Registry] = {}
        self._services: dict[str, Service] = {}
        self._count = 0
        self._blocks: dict[str, str] = {}
        """Who has which block or claim."""

    def add(
        self, name: str, link: Link = LAN, *, config: str = "", started: bool = True
    ) -> ClusterHost:
        """Makes a host, that has the first of its own blocks; its service runs if `started`."""
        self._count += 1
        host = self.cluster.add(name, link)
        host.configure(self.config(name) + config)
        for block in self.first_blocks(self._count):
            self._blocks[block] = name
        if started:
            self.start(name)
        return host

    def start(self, name: str) -> None:
        """Starts the service of a host, which hears of nothing yet."""
        host = self.cluster.hosts[name]
        self._services[name] = host.service()
        self._registries[name] = Registry(host.run_dir)
        self._registries[name].whole(NumberRow(NETWORK, 1))

    def config(self, name: str) -> str:
        """What is in the configuration of a host."""
        subnets = ", ".join(f'"{subnet}"' for subnet in self.subnets)
        address = f'address = "{self.address(name)}"\n' if self._told else ""
        return (
            f'[network.{NETWORK}]\nmode = "routed"\ncluster = true\nblock = 16\nmtu = "auto"\n'
            f"subnets = [{subnets}]\n{self._more}\n"
            f'[cluster]\netcd = ["http://192.0.2.9:2379"]\nhost = "{name}"\n{address}'
        )

    def address(self, name: str) -> str:
        """What the others reach a host by."""
        if name in self._addresses:
            return self._addresses[name]
        station = self.cluster.station(name)
        return str(station.ipv4 if self._version == 4 else station.ipv6)

    def readdress(self, name: str, address: str) -> None:
        """Has the others reach a host by another address, once they are told."""
        self._addresses[name] = address

    def first_blocks(self, number: int) -> list[str]:
        """The first block of each family of the host with that number."""
        four = {f"10.9.{number}.0/28"} if self._has(4) else set()
        return [*four, *({f"fd09::{number}00/124"} if self._has(6) else ())]

    def _has(self, version: int) -> bool:
        return any(ip_network(subnet).version == version for subnet in self.subnets)

    def rows(
        self,
        name: str,
        *,
        peers: Mapping[str, str] = MappingProxyType({}),
        blocks: Mapping[str, str] = MappingProxyType({}),
    ) -> list[Row]:
        """What a host is told, also of `peers` without a host, by address, and of more `blocks`."""
        found: list[Row] = [NumberRow(NETWORK, 1)]
        found += [peer(other, self.address(other)) for other in self._registries if other != name]
        found += [peer(other, address) for other, address in peers.items()]
        for block, owner in (self._blocks | dict(blocks)).items():
            found.append(own(block) if owner == name else theirs(block, owner))
        return found

    def tell(self, *names: str) -> None:
        """Tells all hosts, or those of `names`, what all have."""
        for name in names or self._registries:
            self._registries[name].whole(*self.rows(name))

    def known(self, name: str) -> None:
        """Waits until a host has a route to each block of the others."""
        host = self.cluster.hosts[name]
        rows = self.rows(name)
        blocks = {ip_network(row.prefix) for row in rows if isinstance(row, PeerBlockRow)}
        eventually(lambda: blocks <= host.routes().keys(), what=f"the routes of {name}")

    def give(self, block: str, name: str) -> None:
        """Has a host have a block or a claim, which another may have had."""
        before = self._blocks.get(block)
        self._blocks[block] = name
        for other, registry in self._registries.items():
            if other == before:
                registry.take_back(own(block))
            registry.tell(own(block) if other == name else theirs(block, name))

    def take(self, block: str) -> None:
        """Has nobody have a block or claim any more."""
        name = self._blocks.pop(block)
        for other, registry in self._registries.items():
            registry.take_back(own(block) if other == name else theirs(block, name))

    def registry(self, name: str) -> Registry:
        """What tells a host."""
        return self._registries[name]

    def service(self, name: str) -> Service:
        """The service of a host."""
        return self._services[name]

    def again(self, name: str) -> None:
        """Starts the service of a host again, after it was killed."""
        host = self.cluster.hosts[name]
        self._registries[name].close()
        self._services[name] = host.service()
        self._registries[name] = Registry(host.run_dir)
        self.tell(name)

    def reconnect(self, name: str) -> None:
        """Tells the service of a host all by another connection."""
        self._registries[name].close()
        self._registries[name] = Registry(self.cluster.hosts[name].run_dir)
        self.tell(name)

    def close(self) -> None:
        """Ends what the hosts do not end."""
        for registry in self._registries.values():
            registry.close()


def serving(host: ClusterHost, name: str) -> Container:
    """A container that serves, on a host that has been told its blocks."""
    container = host.provided().attach(name)
    container.serve(tcp=(PORT,), udp=(PORT,))
    return container


def addresses(container: Container) -> list[str]:
    """The addresses of a container, one of each family."""
    return [address.partition("/")[0] for address in container.place.addresses()]
