"""Hosts and an etcd on one underlay, and who of them hears whom."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tests.support.cluster.hosts import NETWORK, ClusterHost
from tests.support.cluster.underlay import FAR, LAN, Link, Station, Underlay
from tests.support.etcd import Etcd
from tests.support.host import Host, toml

_FIRST_HOST: Final = 11
"""The number of the first host on its link; :class:`Cluster` counts all hosts, of either link."""

_FIRST_MEMBER: Final = 101
"""The number of the first member of etcd on its link."""

TTL: Final = 5
"""Seconds until the others take a silent host for gone, the fewest that there can be."""


class Cluster:
    """Hosts and an etcd on one underlay.

    Args:
        rootfs: the root file system of all containers.
        made: where each host is added that is made; whoever has that list closes them.
        mtus: as :class:`Underlay` has it.

    Attributes:
        underlay: the underlay.
        hosts: the hosts by name.
        etcd: etcd, once it has been started.
        members: its members on their link.
    """

    etcd: Etcd

    def __init__(
        self, rootfs: Path, made: list[Host], mtus: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        self._rootfs = rootfs
        self._made = made
        self.hosts: dict[str, ClusterHost] = {}
        self.members: list[Station] = []
        self.underlay = Underlay(mtus)

    def start_etcd(self, members: int = 1, *, tls: bool = True, auth: bool = True) -> Etcd:
        """Starts etcd, each member of it on a machine of its own on the link of most hosts."""
        for number in range(_FIRST_MEMBER, _FIRST_MEMBER + members):
            self.members.append(self.underlay.new_station(f"etcd{number}", LAN, number))
        spots = [(station.place, str(station.ipv4)) for station in self.members]
        self.etcd = Etcd(*spots, tls=tls, auth=auth)
        return self.etcd

    def add(
        self,
        name: str,
        link: Link = LAN,
        config: str = NETWORK,
        *,
        called: str = "",
        address: str = "",
        more: str = "",
        whole: bool = False,
        number: int = 0,
        base: Path | None = None,
    ) -> ClusterHost:
        """Makes a host on a link; nothing of the watcher runs there.

        Args:
            name: its key in :attr:`hosts`, and its name in the cluster unless it is `called` so.
            link: the link.
            config: what its `watcher.toml` has besides `[cluster]`, which is there with an etcd.
            called, address: its name and address in `[cluster]`; the address is not there if empty.
            more: more keys of `[cluster]`.
            whole: `config` has `[cluster]` itself.
            number, base: those of a host that was there before; else it has its own.
        """
        number = number or _FIRST_HOST + len(self.hosts)
        if self.members and not whole:
            words = {"host": called or name, "address": address}
            keys = "\n".join(f"{key} = {toml(value)}" for key, value in words.items() if value)
            config = f"{config}\n[cluster]\nttl = {TTL}\n{keys}\n{self.etcd.config()}\n{more}\n"
        host = ClusterHost(self.underlay, self._rootfs, link, number, config, base)
        self._made.append(host)
        self.hosts[name] = host
        return host

    def add_three(self, config: str = NETWORK) -> None:
        """Makes the hosts `a` and `b` on one link, and `c` behind the router."""
        for name, link in (("a", LAN), ("b", LAN), ("c", FAR)):
            self.add(name, link, config)

    def station(self, name: str) -> Station:
        """The host of that name on its link."""
        return self.hosts[name].station

    def cut(self, name: str, *others: str) -> None:
        """Has nothing pass between a host and others, or all others, until :meth:`heal`."""
        for other in others or self.hosts:
            if other != name:
                self.underlay.cut(self.station(name), self.station(other))

    def cut_from_etcd(self, name: str) -> None:
        """Has nothing pass between a host and etcd, until :meth:`heal`."""
        for member in self.members:
            self.underlay.cut(self.station(name), member)

    def cut_member(self, index: int) -> None:
        """Has nothing pass between a member of etcd and the others, until :meth:`heal`."""
        for member in self.members:
            if member is not self.members[index]:
                self.underlay.cut(self.members[index], member)

    def heal(self) -> None:
        """Takes back all that was cut."""
        self.underlay.heal()

    def close(self) -> None:
        """Ends all of it but the hosts."""
        self.underlay.close()
