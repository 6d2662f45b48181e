"""Finds what is to be changed in the registry, so that it agrees with this host's lease store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.cluster.agent.rows import why_not
from watcher.cluster.registry.changes import AddNetwork, Claim, GiveBack, Lend, PutBack, Take
from watcher.cluster.registry.choice import choose
from watcher.cluster.registry.keys import part_of
from watcher.cluster.registry.records import NetworkRecord
from watcher.model.cluster import MOST_NETWORKS, claim_of, is_claim

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping

    from watcher.cluster.agent.rows import Map
    from watcher.cluster.agent.tables import Place, Service
    from watcher.cluster.protocol import BlockRow, NetworkRow
    from watcher.cluster.registry.changes import Change, Self
    from watcher.cluster.registry.records import BlockRecord, ClaimRecord
    from watcher.model.address import Subnet

AT_ONCE: Final = 16
"""The most changes that one look leads to."""


class Finder:
    """See the module's docstring.

    Args:
        map_: the picture of the registry, as this host sees it.
        service: what the service has told.
        me: this host.
        numbers: of networks, as they were seen last.
        rng: draws the blocks.

    Attributes:
        full: networks of which this host wants a block, and none is free, as far as was looked.
        due: places that this host tries to get, as far as was looked.
    """

    def __init__(
        self,
        map_: Map,
        service: Service,
        me: Self,
        numbers: Mapping[str, int],
        rng: random.Random,
    ) -> None:
        self._numbers = numbers
        self._map = map_
        self._picture = map_.picture
        self._service = service
        self._blocks = service.blocks
        self._me = me
        self._rng = rng
        self.full: list[str] = []
        self.due: set[Place] = set()

    def changes(self) -> Iterator[Change]:
        """What has been left behind first, then what is had, then what is new."""
        yield from self._repairs()
        yield from self._unclaimed()
        for place, row in self._blocks.items():
            if row.state == "leaving":
                yield from self._give_back(place, row)
            elif place not in self._map.own:
                self.due.add(place)
                yield from self._get(place, row)
        yield from self._inherited()
        yield from self._lend()
        yield from self._networks()
        yield from self._more()

    def back(self) -> Iterator[Change]:
        """What this host had before etcd was restored; and back goes what it had no more.

        Only the lease stores know who has what. So nothing is believed of etcd meanwhile, and
        nothing new is taken.
        """
        yield from self._unclaimed()
        for place, row in self._blocks.items():
            if row.state == "leaving":
                yield from self._give_back(place, row)
            elif row.state == "held" and place not in self._map.own:
                yield from self._get(place, row)
        for part, entry in self._picture.blocks.items():
            prefix = self._map.prefix(part)
            if self._is_unknown(part.network, prefix, entry.record):
                assert prefix is not None
                yield GiveBack(self._me, part.network, prefix, False, entry.modified)
        for part, claim in self._picture.claims.items():
            prefix = claim_of(part.address)
            if self._is_unknown(part.network, prefix, claim.record):
                yield GiveBack(self._me, part.network, prefix, True, claim.modified)
        yield from self._lend()
        yield from self._networks()

    def _is_unknown(
        self, network: str, prefix: Subnet | None, record: BlockRecord | ClaimRecord | None
    ) -> bool:
        """Whether the registry has for this host what its lease store does not have."""
        mine = record is not None and record.host == self._me.name
        return mine and prefix is not None and (network, prefix) not in self._blocks

    def _mine(self, host: str, incarnation: str) -> bool:
        return (host, incarnation) == (self._me.name, self._me.incarnation)

    def _repairs(self) -> Iterator[Change]:
        """Keys of this host, and networks, that were overwritten by what cannot be read."""
        keys = self._picture.keys
        for part, block in self._picture.blocks.items():
            own = block.record
            if block.damaged and own and self._mine(own.host, own.incarnation):
                yield PutBack(self._me, keys.block(part), own, block.modified)
        for part, claim in self._picture.claims.items():
            wanted = claim.record
            if claim.damaged and wanted and self._mine(wanted.host, wanted.incarnation):
                yield PutBack(self._me, keys.claim(part), wanted, claim.modified)
        for name, network in self._picture.networks.items():
            if network.damaged and network.record:
                yield PutBack(self._me, keys.network(name), network.record, network.modified)

    def _unclaimed(self) -> Iterator[Change]:
        """Claims that do not count, and that nobody wants any more."""
        for part, entry in self._picture.claims.items():
            record = entry.record
            if record is None or record.counts or record.host != self._me.name:
                continue
            prefix = claim_of(part.address)
            if (part.network, prefix) not in self._blocks:
                yield GiveBack(self._me, part.network, prefix, True, entry.modified)

    def _give_back(self, place: Place, row: BlockRow) -> Iterator[Change]:
        part, claim = part_of(*place), is_claim(row.prefix)
        entry = self._picture.claims.get(part) if claim else self._picture.blocks.get(part)
        if entry is not None and entry.record and entry.record.host == self._me.name:
            yield GiveBack(self._me, row.network, row.prefix, claim, entry.modified)

    def _get(self, place: Place, row: BlockRow) -> Iterator[Change]:
        """A block that this host had before, or a claim."""
        if why_not(self._map, row, 0.0):
            return
        if is_claim(row.prefix):
            yield from self._claim(place, row)
        else:
            yield from self._take(row.network, row.prefix)

    def _take(self, network: str, prefix: Subnet, *, new: bool = False) -> Iterator[Change]:
        entry = self._picture.networks.get(network)
        if entry is not None:
            block = self._picture.blocks.get(part_of(network, prefix))
            yield Take(
                self._me, network, prefix, self._picture.revision,
                0 if block is None else block.modified, entry.modified, new,
            )  # fmt: skip

    def _claim(self, place: Place, row: BlockRow) -> Iterator[Change]:
        part = part_of(*place)
        block, network = self._map.block_with(part), self._picture.networks.get(row.network)
        new = row.state == "wanted"
        if block is None or network is None or (new and self._picture.restored is not None):
            return
        claim, entry = self._picture.claims.get(part), self._picture.blocks.get(block)
        record = None if claim is None else claim.record
        if record is not None and record.host != self._me.name:
            return
        if claim is not None and record is None and new:
            return
        holder = None if entry is None else entry.record
        if entry is not None and holder is None:
            return
        counts = holder is None or holder.host == self._me.name
        # It was lent before etcd was restored: who has the block has noted that.
        counts = counts or (row.state == "held" and self._picture.restored is not None)
        again = record is not None and self._mine(record.host, record.incarnation)
        if again and not counts:
            return  # it waits for the host that has the block
        if (record is not None and record.counts) or (claim is not None and record is None):
            counts = True  # an earlier incarnation had it, or it was overwritten
        if not counts and not (holder and holder.host in self._picture.alive):
            return
        yield Claim(
            self._me, row.network, row.prefix, block, 0 if entry is None else entry.modified,
            0 if claim is None else claim.modified, network.modified, counts, new,
        )  # fmt: skip

    def _inherited(self) -> Iterator[Change]:
        """Blocks and claims of an earlier incarnation that the lease store does not know."""
        for part, entry in self._picture.blocks.items():
            record, prefix = entry.record, self._map.prefix(part)
            if record is None or record.host != self._me.name or prefix is None:
                continue
            known = (part.network, prefix) in self._blocks
            if record.incarnation != self._me.incarnation and not known:
                yield from self._take(part.network, prefix)
        for part, claim in self._picture.claims.items():
            wanted = claim.record
            if wanted is None or wanted.host != self._me.name or not wanted.counts:
                continue
            block = self._map.block_with(part)
            prefix = claim_of(part.address)
            if wanted.incarnation == self._me.incarnation or block is None:
                continue
            if (part.network, prefix) not in self._blocks:
                holder = self._picture.blocks.get(block)
                yield Claim(
                    self._me, part.network, prefix, block,
                    0 if holder is None else holder.modified, claim.modified,
                    self._picture.networks[part.network].modified, True, False,
                )  # fmt: skip

    def _lend(self) -> Iterator[Change]:
        """Addresses that the service has set aside for others."""
        for place, row in self._service.lent.items():
            part = part_of(*place)
            entry = self._picture.claims.get(part)
            record = None if entry is None else entry.record
            if entry is None or record is None or record.counts or record.host != row.host:
                continue
            block = self._map.block_with(part)
            held = None if block is None else self._picture.blocks.get(block)
            if block is None or held is None or place not in self._map.asked:
                continue
            yield Lend(self._me, part, record, entry.modified, block, held.modified)

    def _networks(self) -> Iterator[Change]:
        """A network that no host has had before: one at a time, each has another number."""
        for name, row in self._map.networks.items():
            if name not in self._picture.networks:
                taken = {e.record.number for e in self._picture.networks.values() if e.record}
                numbers = (self._numbers.get(name, 0), *range(1, MOST_NETWORKS + 1))
                free = next((n for n in numbers if n and n not in taken), None)
                if free is not None:
                    record = NetworkRecord(tuple(map(str, row.subnets)), row.block, free)
                    yield AddNetwork(self._me, name, record, self._picture.revision)
                return

    def _more(self) -> Iterator[Change]:
        """The blocks that the service would like to have."""
        for name, row in self._map.networks.items():
            if name in self._map.problems or name not in self._picture.networks:
                continue
            for version, wanted in ((4, row.want4), (6, row.want6)):
                yield from self._more_of(row, version, wanted)

    def _more_of(self, row: NetworkRow, version: int, wanted: int) -> Iterator[Change]:
        subnet = self._map.subnets.get((row.name, version))
        if subnet is None or wanted <= 0:
            return
        wanted = min(wanted - self._coming(row.name, version), AT_ONCE)
        if wanted <= 0:
            return
        mine = self._blocks
        taken = {
            part.first for part in self._picture.blocks
            if (part.network, part.version) == (row.name, version)
        }  # fmt: skip
        taken |= {
            int(prefix.network_address) for network, prefix in mine
            if network == row.name and prefix.version == version and not is_claim(prefix)
        }  # fmt: skip
        claimed = {
            block.first for part in self._picture.claims
            if (part.network, part.version) == (row.name, version)
            and (block := self._map.block_with(part))
        }  # fmt: skip
        chosen = choose(
            self._me.name, subnet, row.block, wanted, taken, claimed, self._rng
        )  # fmt: skip
        if len(chosen) < wanted:
            self.full.append(row.name)
        for prefix in chosen:
            yield from self._take(row.name, prefix, new=True)

    def _coming(self, network: str, version: int) -> int:
        """How many blocks this host has or gets again that its service does not lease from yet."""
        unknown = sum(
            1
            for part, entry in self._picture.blocks.items()
            if (part.network, part.version) == (network, version)
            and entry.record is not None
            and entry.record.host == self._me.name
            and (prefix := self._map.prefix(part)) is not None
            and (network, prefix) not in self._blocks
        )
        return unknown + sum(
            1
            for (name, prefix), row in self._blocks.items()
            if (name, prefix.version, row.state) == (network, version, "lost")
            and not is_claim(prefix)
            and not why_not(self._map, row, 0.0)
        )
