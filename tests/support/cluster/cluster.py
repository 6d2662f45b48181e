"""Hosts on one underlay, and who of them hears whom."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.support.cluster.hosts import ClusterHost
from tests.support.cluster.underlay import LAN, Link, Station, Underlay
from tests.support.host import Host

_FIRST_HOST = 11
"""The number of the first host on its link; :class:`Cluster` counts all hosts, of either link."""


class Cluster:
    """Hosts on one underlay.

    Args:
        rootfs: the root file system of all containers.
        made: where each host is added that is made; whoever has that list closes them.
        mtus: as :class:`Underlay` has it.

    Attributes:
        underlay: the underlay.
        hosts: the hosts by name.
    """

    def __init__(
        self, rootfs: Path, made: list[Host], mtus: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        self._rootfs = rootfs
        self._made = made
        self.hosts: dict[str, ClusterHost] = {}
        self.underlay = Underlay(mtus)

    def add(self, name: str, link: Link = LAN, config: str = "") -> ClusterHost:
        """Makes a host on a link, with `config` in its `watcher.toml`; the watcher does not run."""
        number = _FIRST_HOST + len(self.hosts)
        host = ClusterHost(self.underlay, self._rootfs, link, number, config)
        self._made.append(host)
        self.hosts[name] = host
        return host

    def station(self, name: str) -> Station:
        """The host of that name on its link."""
        return self.hosts[name].station

    def cut(self, name: str, *others: str) -> None:
        """Has nothing pass between a host and others, or all others, until :meth:`heal`."""
        for other in others or self.hosts:
            if other != name:
                self.underlay.cut(self.station(name), self.station(other))

    def heal(self) -> None:
        """Takes back all that was cut."""
        self.underlay.heal()

    def close(self) -> None:
        """Ends all of it but the hosts."""
        self.underlay.close()
