"""What the feed tells of the cluster: a line, and what this host can lease of its networks."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from watcher.feed.lines import ClusterLine, SubnetPart
from watcher.model.errors import WatcherError
from watcher.model.network import gateway
from watcher.store.ipam import FIRST, pool_end
from watcher.store.room import Room, room

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from watcher.model.address import Subnet
    from watcher.model.cluster import Block
    from watcher.model.network import Network
    from watcher.store.leases import LeaseStore


class Contact(Struct, frozen=True):
    """How the service stands with the cluster. Times are in seconds since 1970.

    Attributes:
        host, address: this host's name, and what the others reach it by; empty if unknown.
        since: since when `connected` is as it is.
        connected: whether `watcher cluster` is connected, and etcd answers it.
        reason: why not, or why this host takes no part in the cluster.
        changed: when the service has last heard of a change; 0: not since it started.
        problems: why this host takes no part in a network, by the network's name.
    """

    host: str
    address: str
    since: float
    connected: bool = False
    reason: str = ""
    changed: float = 0.0
    problems: Mapping[str, str] = {}


class Holdings:
    """What this host holds of clustered networks, read once for all lines.

    Args:
        store: the lease store. It is not read if no network is clustered.
    """

    def __init__(self, store: LeaseStore) -> None:
        self._store = store
        self._used: Sequence[tuple[Block, int]] | None = None
        self._lent: Mapping[str, Sequence[str]] = {}

    def parts(self, network: Network) -> tuple[SubnetPart, ...]:
        """The subnets of `network`.

        If the store cannot be read, a clustered network has nothing to lease.
        """
        return tuple(self._part(network, subnet) for subnet in network.subnets)

    def _part(self, network: Network, subnet: Subnet) -> SubnetPart:
        own = str(gateway(subnet))
        if not network.cluster:
            return SubnetPart(str(subnet), own, pool_end(subnet) - FIRST)
        if self._used is None:
            self._used = ()
            with suppress(WatcherError):
                self._used, self._lent = self._store.cluster.used(), self._store.cluster.lent()
        found: Room = room(network, subnet, self._used, self._lent.get(network.name, ()))
        return SubnetPart(str(subnet), own, found.leased + found.free, found.blocks)


def cluster_line(contact: Contact, store: LeaseStore) -> ClusterLine:
    """The line of the cluster.

    Raises:
        WatcherError: the store cannot be read.
    """
    alive, silent = store.cluster.hosts()
    return ClusterLine(
        contact.host, contact.address, _time(contact.since), contact.connected, contact.reason,
        alive, silent, _time(contact.changed) if contact.changed else None,
    )  # fmt: skip


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
