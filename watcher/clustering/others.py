"""What the lease store has of other hosts, and what `watcher cluster` tells of them."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from watcher.cluster.protocol import AskedRow, PeerBlockRow, PeerRow, key_of
from watcher.facts.kinds import HostRemoved, HostReturned, HostSeen, HostSilent
from watcher.model.cluster import ClusterChange, Peer, PeerBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from watcher.clustering.tables import Heard, Key
    from watcher.facts.kinds import Fact
    from watcher.model.address import Subnet
    from watcher.store.cluster import ClusterStore


class Others:
    """The other hosts, and what they have.

    Args:
        publish: publishes facts.
    """

    def __init__(self, publish: Callable[[Fact], object]) -> None:
        self._publish = publish
        self._peers: dict[str, Peer] | None = None
        """What the lease store has of them; `None` before it was read."""
        self._blocks: dict[Key, str] = {}
        """Who has what, as it is written: to parse what has not changed would take most of a look
        at all of it."""

    def read_anew(self) -> None:
        """Read the lease store again: another process may have changed it, or it was lost."""
        self._peers = None

    def have_lent(self, asked: AskedRow) -> bool:
        """Whether the address that another host asks for is noted as that host's."""
        return self._blocks.get(key_of(asked)) == asked.host

    def meet(self, store: ClusterStore, heard: Heard) -> ClusterChange:
        """Note what is new of them; returns that."""
        all_of_it = self._peers is None
        if self._peers is None:
            self._peers = store.peers()
            self._blocks = dict(store.peer_blocks_as_written())
        hosts = {key[0] for key in heard.changed(PeerRow)}
        keys = heard.changed(AskedRow) | heard.changed(PeerBlockRow)
        keys |= {
            key for key, asked in heard.of(AskedRow).items() if not self.have_lent(asked)
        }  # a container had it, and may have ended
        if all_of_it:
            told = {key: row.host for key, row in heard.of(PeerBlockRow).items()}
            keys |= {key for key, _ in told.items() ^ self._blocks.items()}
            hosts |= self._peers.keys() | {row.host for row in heard.of(PeerRow).values()}
        peers, gone = self._peers_among(heard, hosts)
        blocks, gone_blocks = self._blocks_among(store, heard, keys)
        change = ClusterChange(tuple(peers), tuple(gone), tuple(blocks), tuple(gone_blocks))
        if change:
            store.meet(peers, blocks, gone, gone_blocks)
            self._tell(peers, gone)
            self._peers.update((peer.host, peer) for peer in peers)
            for name in gone:
                del self._peers[name]
            for network, prefix in gone_blocks:
                self._blocks.pop((network, str(prefix)), None)
            self._blocks.update(((one.network, str(one.prefix)), one.host) for one in blocks)
        return change

    def _peers_among(self, heard: Heard, hosts: Iterable[str]) -> tuple[list[Peer], list[str]]:
        assert self._peers is not None
        peers, gone = [], []
        for name in sorted(hosts):
            row = heard.row(PeerRow, (name,))
            if row is None:
                gone += [name] if name in self._peers else []
            elif (peer := Peer(row.host, row.address, row.alive)) != self._peers.get(name):
                peers.append(peer)
        return peers, gone

    def _blocks_among(
        self, store: ClusterStore, heard: Heard, keys: Iterable[Key]
    ) -> tuple[list[PeerBlock], list[tuple[str, Subnet]]]:
        blocks, gone = [], []
        for key in keys:
            row = heard.row(PeerBlockRow, key) or heard.row(AskedRow, key)
            was = self._blocks.get(key)
            if row is None:
                gone += [(key[0], ip_network(key[1]))] if was is not None else []
            elif row.host != was and (row.host or was is None):
                if isinstance(row, AskedRow) and not store.lend(row.network, row.prefix, row.host):
                    continue  # a container of this host has it
                blocks.append(PeerBlock(row.network, row.prefix, row.host))
        return blocks, gone

    def _tell(self, peers: Iterable[Peer], gone: Iterable[str]) -> None:
        """Publish what has become of other hosts."""
        assert self._peers is not None
        for peer in peers:
            was = self._peers.get(peer.host)
            if was is None or was.address != peer.address:
                self._publish(HostSeen(peer.host, peer.address))
            if not peer.alive and (was is None or was.alive):
                self._publish(HostSilent(peer.host))
            elif peer.alive and was is not None and not was.alive:
                self._publish(HostReturned(peer.host))
        for name in gone:
            self._publish(HostRemoved(name))
