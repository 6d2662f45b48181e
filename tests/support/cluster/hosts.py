"""A host of a cluster, whose uplink is a link of the underlay."""

from __future__ import annotations

import tomllib
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import ClassVar, Final, Self

from tests.support.cluster.underlay import Link, Underlay
from tests.support.host import Host, Json, Service
from tests.support.waiting import eventually
from watcher.store.leases import LeaseStore

SUBNETS: Final = ("172.19.0.0/16", "fd00:19::/64")
NETWORK: Final = """
[network.default]
mode = "routed"
cluster = true
subnets = ["172.19.0.0/16", "fd00:19::/64"]
"""
"""A clustered network of both families."""

PROTOCOL: Final = "119"
"""The number of the protocol of the routes that the program makes to blocks (rtnetlink(7))."""


class ClusterHost(Host):
    """A host on a link of the underlay; what is beyond it is beyond the underlay's router.

    Args:
        underlay: the underlay.
        rootfs: as :class:`Host` has it.
        link, number: the link, and the host's number on it.
        config: as :class:`Host` has it.
        base: its directory, if it is to have that of a host that was there before.

    Attributes:
        station: it on its link.
        serving: its `watcher run`, once it has been started.
        speaking: its `watcher cluster`, likewise.
    """

    serving: Service
    speaking: Service

    links: ClassVar[str] = """
echo 0 > /proc/sys/net/ipv4/ip_forward
echo 0 > /proc/sys/net/ipv6/conf/all/forwarding
ip link set lo up
"""

    def __init__(
        self,
        underlay: Underlay,
        rootfs: Path,
        link: Link,
        number: int,
        config: str = "",
        base: Path | None = None,
    ) -> None:
        self._underlay = underlay
        self._wanted_base = base
        super().__init__(rootfs, config)
        try:
            self.station = underlay.station(self.here, link, number)
        except BaseException:
            self.close()
            raise

    def _make_base(self) -> Path:
        if self._wanted_base is None:
            return super()._make_base()
        self._wanted_base.mkdir(mode=0o755)
        return self._wanted_base

    def _beyond_file(self) -> Path:
        return self._underlay.beyond.file

    def join(self) -> Self:
        """Starts `watcher run` and `watcher cluster`, and waits until both are ready."""
        self.serving = self.service()
        self.speaking = self.agent()
        return self

    def agent(self, *, ready: bool = True) -> Service:
        """Starts `watcher cluster`, which ends with the host; waits until it is ready."""
        agent = Service(self, command="cluster")
        self._services.append(agent)
        self.on_close(agent.end)
        agent.start(ready=ready)
        return agent

    def provided(self) -> Self:
        """Waits until its service can lease addresses of each subnet of its clustered networks.

        Until then a container is refused. Other hosts may know of a block earlier.
        """
        networks = tomllib.loads(self.config.read_text()).get("network", {})
        subnets = {
            (name, ip_network(subnet).version)
            for name, network in networks.items()
            if network.get("cluster")
            for subnet in network["subnets"]
        }
        eventually(lambda: subnets <= self._leased_from(), what="it has blocks")
        return self

    def _leased_from(self) -> set[tuple[str, int]]:
        """The networks and IP versions of which it holds blocks."""
        with self.store() as store:
            blocks = store.cluster.blocks()
        return {(block.network, block.prefix.version) for block in blocks if block.state == "held"}

    def store(self) -> LeaseStore:
        """Its lease store, to read."""
        return LeaseStore.open(self.state_dir / "leases.db", read_only=True)

    def routes(self) -> dict[IPv4Network | IPv6Network, Json]:
        """The routes to blocks that the program has made here, as `ip -json route` prints them."""
        found = {}
        for family in ("-4", "-6"):
            for route in self.ip(family, "route", "show", "proto", PROTOCOL):
                found[ip_network(route["dst"])] = route
        return found

    def leads(self, address: str) -> Json:
        """The route of the host's own packets to `address`, as `ip -json route get` prints it."""
        route: Json = self.ip("route", "get", address)[0]
        return route
