"""Closes the difference between the lease store and what `watcher cluster` tells of the registry.

Nothing here depends on which step came before: it looks at what the store has and at the rows, and
does what is missing. The caller has the writers' lock.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from watcher.cluster.protocol import (
    AskedRow,
    BlockRow,
    HostRow,
    LentRow,
    NetworkRow,
    NumberRow,
    OwnRow,
    RefusedRow,
    Row,
    StatusRow,
)
from watcher.clustering import wants
from watcher.clustering.claims import not_granted
from watcher.clustering.identity import boot, host_name, machine, own_address
from watcher.clustering.others import Others
from watcher.facts.kinds import (
    BlockLost,
    BlockReturned,
    BlockTaken,
)
from watcher.model.cluster import Block, ClusterChange, is_claim
from watcher.store.cluster import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from watcher.clustering.claims import Claims
    from watcher.clustering.tables import Heard
    from watcher.config.settings import Config
    from watcher.facts.kinds import Fact
    from watcher.model.address import Subnet
    from watcher.model.network import Network
    from watcher.store.cluster import ClusterStore

_REMOVED: Final = "this host was removed from the cluster"


class Agreement:
    """What this host has agreed upon with the others.

    Args:
        claims: the claims that are wanted.
        publish: publishes facts.
    """

    def __init__(self, claims: Claims, publish: Callable[[Fact], object]) -> None:
        self._claims = claims
        self._publish = publish
        self._others = Others(publish)

    def read_anew(self) -> None:
        """Read the lease store again: another process may have changed it, or it was lost."""
        self._others.read_anew()

    def close(
        self, store: ClusterStore, heard: Heard, networks: Sequence[Network]
    ) -> tuple[ClusterChange, bool]:
        """Enter into the lease store what was told; `networks` are the clustered ones.

        Returns what has become different, and whether containers that waited can go on.
        """
        status = heard.coming(StatusRow)
        own = self._identify(store, status or StatusRow(connected=False))
        if not heard.whole or status is None or not status.cluster_id:
            return ClusterChange(own=tuple(sorted(own))), False
        own |= self._number(store, heard)
        # What others have in a block is known before the block is held, whatever is cut off.
        change = self._others.meet(store, heard)
        taken, go_on = self._own(store, heard, networks)
        own |= taken
        return replace(change, own=tuple(sorted(own))), go_on

    def review(self, store: ClusterStore, networks: Sequence[Network]) -> set[str]:
        """Stop leasing from what is not needed any more; returns the networks of which."""
        used = store.used()
        leaving = [(block.network, block.prefix) for block in wants.misfits(networks, used)]
        for network in networks:
            leaving += [(network.name, prefix) for prefix in wants.to_give_back(network, used)]
        leaving += [
            (block.network, block.prefix)
            for block, leased in used
            if block.is_claim and block.state == "held" and not leased
            and not self._claims.wants(block.network, block.prefix)
        ]  # fmt: skip
        changed = {name for name, prefix in leaving if store.leave(name, prefix)}
        for block, leased in used:
            if block.state == "lost" and not leased and block.is_claim:
                store.forget(block.network, block.prefix)
        return changed

    def rows(
        self, store: ClusterStore, config: Config, heard: Heard, there: Mapping[str, Network]
    ) -> list[Row]:
        """What `watcher cluster` is to know.

        `there` are the networks that there are: a former one is told of while it has containers,
        as these have to reach other hosts, but it gets no further block.
        """
        rows: list[Row] = []
        address, identity = own_address(config.cluster), store.identity()
        if address is not None:
            rows.append(
                HostRow(
                    host_name(config.cluster), address, identity.incarnation, machine(), boot(),
                    identity.cluster_id, identity.revision,
                )
            )  # fmt: skip
        used = store.used()
        lent = [asked for asked in heard.of(AskedRow).values() if self._others.have_lent(asked)]
        occupied = wants.with_lent(used, [(asked.network, asked.prefix) for asked in lent])
        in_use = {block.network for block, leased in used if leased}
        former = {name: there[name] for name in in_use & there.keys() - config.networks.keys()}
        for name, network in {**former, **config.networks}.items():
            if network.cluster:
                four, six = (
                    0 if name in former else wants.wanted(network, version, occupied)
                    for version in (4, 6)
                )
                rows.append(NetworkRow(name, network.subnets, network.block, four, six))
        known = set()
        for block, _ in used:
            rows.append(BlockRow(block.network, block.prefix, block.state))
            known.add((block.network, block.prefix))
        for name, prefix in self._claims.lapse():
            if (name, prefix) not in known:
                rows.append(BlockRow(name, prefix, "wanted"))
        rows += [LentRow(asked.network, asked.prefix, asked.host) for asked in lent]
        return rows

    def _identify(self, store: ClusterStore, status: StatusRow) -> set[str]:
        """Have an incarnation, and note how much of the registry was seen."""
        identity, changed = store.identity(), set[str]()
        now = replace(identity, incarnation=identity.incarnation or secrets.token_hex(8))
        if status.cluster_id and not status.removed:
            now = replace(now, cluster_id=status.cluster_id, revision=status.revision)
        if status.removed and status.removed == identity.incarnation:
            now = Identity(secrets.token_hex(8))  # one that was in no cluster yet
            for block in store.blocks():
                if block.state != "lost":
                    changed.add(block.network)
                    self._lose(store, block, _REMOVED)
        if now != identity:  # before what is of that revision: by it a restore is noticed
            store.identify(now)
        return changed

    def _number(self, store: ClusterStore, heard: Heard) -> set[str]:
        """Note the numbers of networks; returns those whose number is new."""
        known, changed = store.numbers(), set[str]()
        for row in heard.of(NumberRow).values():
            if row.number and known.get(row.network) != row.number:
                store.set_number(row.network, row.number)
                changed.add(row.network)
        return changed

    def _own(
        self, store: ClusterStore, heard: Heard, networks: Iterable[Network]
    ) -> tuple[set[str], bool]:
        """Take what the registry has for this host, and let go of what it has not.

        Returns the networks of which something changed, and whether containers can go on.
        """
        have = {(block.network, block.prefix): block for block in store.blocks()}
        # In the order in which they were told: the first block taken is that of the host's address.
        own = dict.fromkeys((row.network, row.prefix) for row in heard.of(OwnRow).values())
        refused = {(row.network, row.prefix): row.reason for row in heard.of(RefusedRow).values()}
        clustered = {network.name for network in networks}
        changed, go_on = set[str](), False
        for key in own:
            block = have.get(key)
            if block is None or block.state == "lost":
                changed.add(key[0])
                store.take(*key)
                if block is None and self._is_not_needed(*key, clustered):
                    store.leave(*key)  # it is told, and given back
                    continue
                self._publish(BlockTaken(*key))
                go_on = True
        for key, block in have.items():
            if block.state == "leaving" and key not in own:
                if store.forget(*key):
                    changed.add(key[0])
                    self._publish(BlockReturned(*key))
            elif block.state == "held" and key in refused and key not in own:
                changed.add(key[0])
                self._lose(store, block, refused[key])
            elif block.state == "lost" and key not in own:
                store.forget(*key)  # once nothing is leased from it
        for key, reason in refused.items():
            go_on = self._claims.refuse(*key, not_granted(reason)) or go_on
        return changed, go_on

    def _is_not_needed(self, network: str, prefix: Subnet, clustered: set[str]) -> bool:
        if network not in clustered:
            return True
        return is_claim(prefix) and not self._claims.wants(network, prefix)

    def _lose(self, store: ClusterStore, block: Block, reason: str) -> None:
        store.turn(block.network, block.prefix, "lost")
        self._publish(BlockLost(block.network, block.prefix, reason))
