"""Changes of the registry. Each is one transaction, with what must hold for it.

What holds is compared by the revisions of keys as the picture has them. So a change is made only if
it is right, and a change that was decided on an old picture is not made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from watcher.cluster.etcd.requests import absent, delete, modified_at, none_newer, put
from watcher.cluster.registry.keys import VERSION, Keys, Part, part_of
from watcher.cluster.registry.records import (
    AliveRecord,
    BlockRecord,
    ClaimRecord,
    HostRecord,
    NetworkRecord,
    encode,
)
from watcher.model.address import Subnet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from watcher.cluster.etcd.client import Etcd
    from watcher.cluster.etcd.requests import Compare, Operation
    from watcher.cluster.etcd.words import Txn

    type Written = tuple[Sequence[Compare], Sequence[Operation]]

TOGETHER = 100
"""The most operations of a transaction; etcd's `--max-txn-ops` is 128."""


class Change(Protocol):
    """A change of the registry."""

    def written(self, keys: Keys) -> Written:
        """What must hold, and what is done."""


class Self(Struct, frozen=True):
    """This host, as its key in etcd has it.

    Attributes:
        name, incarnation: its own.
        modified: the revision of its key.
    """

    name: str
    incarnation: str
    modified: int

    def holds(self, keys: Keys) -> Compare:
        """This host has not been removed, nor has another taken its name."""
        return modified_at(keys.host(self.name), self.modified)


class Join(Struct, frozen=True):
    """Puts this host's key, and those of its address and of its being alive.

    Attributes:
        name, record: this host.
        modified: of its key; 0: there is none.
        address_modified: of the key of its address.
        alive_modified: of the key that it is alive.
        layout_modified: of the layout's key, which is put if it is missing.
        live: that it is alive, for as long as the lease is; `lease` is known when it is made.
        before: its address until now, whose key goes.
    """

    name: str
    record: HostRecord
    modified: int
    address_modified: int
    alive_modified: int
    layout_modified: int
    live: AliveRecord
    before: str = ""
    lease: int = 0

    def written(self, keys: Keys) -> Written:
        """See :class:`Change`."""
        host, address = keys.host(self.name), keys.address(self.record.address)
        alive = keys.alive(self.name)
        compares = [
            modified_at(host, self.modified),
            modified_at(address, self.address_modified),
            modified_at(alive, self.alive_modified),
            modified_at(keys.layout, self.layout_modified),
        ]
        then = [
            put(host, encode(self.record)),
            put(address, self.name.encode()),
            put(alive, encode(self.live), self.lease),
        ]
        if self.before:
            then.append(delete(keys.address(self.before)))
        if not self.layout_modified:
            then.append(put(keys.layout, str(VERSION).encode()))
        return compares, then


class Live(Struct, frozen=True):
    """Tells that this host is alive, for as long as the lease is."""

    me: Self
    record: AliveRecord
    modified: int
    lease: int

    def written(self, keys: Keys) -> Written:
        """See :class:`Change`."""
        key = keys.alive(self.me.name)
        compares = [self.me.holds(keys), modified_at(key, self.modified)]
        return compares, [put(key, encode(self.record), self.lease)]


class AddNetwork(Struct, frozen=True):
    """Adds a network, if none was added since `revision`: so no two get one number."""

    me: Self
    network: str
    record: NetworkRecord
    revision: int

    def written(self, keys: Keys) -> Written:
        """See :class:`Change`."""
        key = keys.network(self.network)
        newer = none_newer(*keys.networks(), self.revision)
        return [self.me.holds(keys), absent(key), newer], [put(key, encode(self.record))]


class Take(Struct, frozen=True):
    """Takes a block, if no claim in it has changed since `revision`.

    Attributes:
        modified: of the block's key: one that an earlier incarnation of this host has; 0: none.
        network_modified: of the network's key.
        new: whether it was in no lease store of this host before: then not if etcd was restored
            a moment ago, because the block may be another host's.
    """

    me: Self
    network: str
    prefix: Subnet
    revision: int
    modified: int
    network_modified: int
    new: bool

    def written(self, keys: Keys) -> Written:
        """See :class:`Change`."""
        key = keys.block(part_of(self.network, self.prefix))
        compares = [
            self.me.holds(keys),
            modified_at(key, self.modified),
            modified_at(keys.network(self.network), self.network_modified),
            none_newer(*keys.claims_in(self.network, self.prefix), self.revision),
        ]
        if self.new:
            compares.append(absent(keys.restored))
        return compares, [put(key, encode(BlockRecord(self.me.name, self.me.incarnation)))]


class Claim(Struct, frozen=True):
    """Claims a single address.

    Attributes:
        prefix: the address.
        block: the block with it.
        block_modified: of that block's key; 0: nobody has the block.
        modified: of the claim's key; 0: there is none.
        network_modified: of the network's key.
        counts: whether it counts at once: no other host has the block.
        new: as in :class:`Take`.
    """

    me: Self
    network: str
    prefix: Subnet
    block: Part
    block_modified: int
    modified: int
    network_modified: int
    counts: bool
    new: bool

    def written(self, keys: Keys) -> Written:
        """See :class:`Change`."""
        key = keys.claim(part_of(self.network, self.prefix))
        compares = [
            self.me.holds(keys),
            modified_at(key, self.modified),
            modified_at(keys.block(self.block), self.block_modified),
            modified_at(keys.network(self.network), self.network_modified),
        ]
        if self.new:
            compares.append(absent(keys.restored))
        lent = self.me.name if self.counts else ""
        record = ClaimRecord(self.me.name, self.me.incarnation, lent)
        return compares, [put(key, encode(record))]


class Lend(Struct, frozen=True):
    """Lets another host have an address of a block of this one.

    Attributes:
        record: the claim as it is.
        modified: of the claim's key.
        block, block_modified: the block with the address.
    """

    me: Self
    part: Part
    record: ClaimRecord
    modified: int
    block: Part
    block_modified: int

    def written(self, keys: Keys) -> Written:
        """See :class:`Change`."""
        key = keys.claim(self.part)
        compares = [
            self.me.holds(keys),
            modified_at(key, self.modified),
            modified_at(keys.block(self.block), self.block_modified),
        ]
        lent = ClaimRecord(self.record.host, self.record.incarnation, self.me.name)
        return compares, [put(key, encode(lent))]


class GiveBack(Struct, frozen=True):
    """Gives a block or a claim of this host back."""

    me: Self
    network: str
    prefix: Subnet
    claim: bool
    modified: int

    def written(self, keys: Keys) -> Written:
        """See :class:`Change`."""
        part = part_of(self.network, self.prefix)
        key = keys.claim(part) if self.claim else keys.block(part)
        return [modified_at(key, self.modified)], [delete(key)]


class PutBack(Struct, frozen=True):
    """Puts a key back that was overwritten by what cannot be read.

    Attributes:
        key, record: the key, and what it has said before.
        modified: of the key.
    """

    me: Self
    key: str
    record: BlockRecord | ClaimRecord | NetworkRecord
    modified: int

    def written(self, keys: Keys) -> Written:
        """See :class:`Change`."""
        compares = [self.me.holds(keys), modified_at(self.key, self.modified)]
        return compares, [put(self.key, encode(self.record))]


class Mark(Struct, frozen=True):
    """Keeps all hosts from taking what is new, until the lease lapses: etcd was restored."""

    lease: int

    def written(self, keys: Keys) -> Written:
        """See :class:`Change`."""
        return [absent(keys.restored)], [put(keys.restored, b"", self.lease)]


class Unmark(Struct, frozen=True):
    """Deletes a mark that would stay for ever, as it has no lease."""

    modified: int

    def written(self, keys: Keys) -> Written:
        """See :class:`Change`."""
        return [modified_at(keys.restored, self.modified)], [delete(keys.restored)]


class PutEndpoints(Struct, frozen=True):
    """Tells of sandboxes of this host, and takes back what was told of others (`None`)."""

    me: Self
    changes: Mapping[str, bytes | None]

    def written(self, keys: Keys) -> Written:
        """See :class:`Change`."""
        then = []
        for id_, value in self.changes.items():
            key = keys.endpoint(self.me.name, id_)
            then.append(delete(key) if value is None else put(key, value))
        return [self.me.holds(keys)], then


async def make(etcd: Etcd, keys: Keys, change: Change) -> Txn:
    """Make a change; whether it was made is in what this returns.

    Raises:
        EtcdError: as :class:`watcher.cluster.etcd.client.Etcd` raises it.
    """
    compares, then = change.written(keys)
    return await etcd.txn(compares, then)
