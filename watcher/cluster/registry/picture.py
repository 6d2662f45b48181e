"""All that etcd has of the cluster at one revision, but for the endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from watcher.cluster.registry import records
from watcher.cluster.registry.keys import Part, parse_part
from watcher.config.clusters import HOST
from watcher.model.network import valid_network_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from watcher.cluster.etcd.words import KeyValue
    from watcher.cluster.protocol import PeerBlockRow
    from watcher.cluster.registry.keys import Keys
    from watcher.cluster.registry.records import (
        AliveRecord,
        BlockRecord,
        ClaimRecord,
        HostRecord,
        NetworkRecord,
    )
    from watcher.model.address import Subnet

ENDPOINTS: Final = "endpoints"
"""The table that is in no picture: it is told to whoever wants it."""


class Entry[R](Struct, frozen=True):
    """What a key has.

    Attributes:
        record: what it says, or has said before it was damaged; `None` if that is not known.
        modified: the revision of its last change.
        lease: the lease with which it ends; 0: none.
        damaged: whether it has been overwritten by what cannot be read.
    """

    record: R | None
    modified: int
    lease: int = 0
    damaged: bool = False


class Picture:
    """See the module's docstring.

    Args:
        keys: the keys of the cluster.
        bad: called with the key and the reason if a value cannot be read.

    Attributes:
        revision, cluster_id: of etcd. All changes up to that revision are in the picture.
        prefixes, texts, rows: of blocks, as they were worked out, so that a look at all of them
            costs what is new; forgotten when a network changes.
    """

    def __init__(self, keys: Keys, bad: Callable[[str, str], object]) -> None:
        self.keys = keys
        self.revision = 0
        self.cluster_id = 0
        self.hosts: dict[str, Entry[HostRecord]] = {}
        self.addresses: dict[str, Entry[str]] = {}
        self.alive: dict[str, Entry[AliveRecord]] = {}
        self.networks: dict[str, Entry[NetworkRecord]] = {}
        self.blocks: dict[Part, Entry[BlockRecord]] = {}
        self.claims: dict[Part, Entry[ClaimRecord]] = {}
        self.prefixes: dict[Part, Subnet] = {}
        self.texts: dict[Part, str] = {}
        self.rows: dict[Part, PeerBlockRow] = {}
        self.layout: Entry[str] | None = None
        self.restored: Entry[str] | None = None
        self._bad = bad

    def put(self, kv: KeyValue) -> bool:
        """A key is there; whether that is in this picture."""
        table, rest = self.keys.table(kv.key)
        if table == "blocks":
            self._part(self.blocks, rest, kv, records.read_block)
        elif table == "claims":
            self._part(self.claims, rest, kv, records.read_claim)
        elif table == "alive":
            self._named(self.alive, rest, kv, records.read_alive)
        elif table == "hosts":
            self._named(self.hosts, rest, kv, records.read_host)
        elif table == "addresses":
            self.addresses[rest] = self._entry(self.addresses.get(rest), kv, records.read_name)
        elif table == "networks":
            if valid_network_name(rest):
                self.networks[rest] = self._entry(self.networks.get(rest), kv, records.read_network)
                self._forget_all()
            else:
                self._bad(kv.key, "it is no name of a network")
        elif kv.key == self.keys.layout:
            self.layout = self._entry(None, kv, _text)
        elif kv.key == self.keys.restored:
            self.restored = self._entry(None, kv, _text)
        else:
            return False
        return True

    def remove(self, key: str) -> bool:
        """A key is there no more; whether it was in this picture."""
        table, rest = self.keys.table(key)
        gone: object = None
        if table == "blocks":
            gone = self.blocks.pop(part, None) if (part := parse_part(rest)) else None
            self._forget(part)
        elif table == "claims":
            gone = self.claims.pop(part, None) if (part := parse_part(rest)) else None
        elif table == "alive":
            gone = self.alive.pop(rest, None)
        elif table == "hosts":
            gone = self.hosts.pop(rest, None)
        elif table == "addresses":
            gone = self.addresses.pop(rest, None)
        elif table == "networks":
            gone = self.networks.pop(rest, None)
            self._forget_all()
        elif key == self.keys.layout:
            gone, self.layout = self.layout, None
        elif key == self.keys.restored:
            gone, self.restored = self.restored, None
        return gone is not None

    def may_follow(self, before: Picture) -> bool:
        """Whether this may be the registry of `before` later on.

        What has not changed since was there then, and was the same. If it was not, etcd was
        restored meanwhile.
        """
        return all(
            entry.modified > before.revision
            or ((old := earlier.get(name)) is not None and old.modified == entry.modified)
            for table, earlier in zip(self._tables(), before._tables(), strict=True)
            for name, entry in table.items()
        )

    def _tables(self) -> Iterator[Mapping[Any, Entry[Any]]]:
        """All that it has, by anything that tells one from another."""
        yield from (self.hosts, self.addresses, self.alive, self.networks, self.blocks, self.claims)
        yield {
            key: entry
            for key, entry in (("layout", self.layout), ("restored", self.restored))
            if entry is not None
        }

    def _forget_all(self) -> None:
        for known in (self.prefixes, self.texts, self.rows):
            known.clear()

    def _forget(self, part: Part | None) -> None:
        if part is not None:
            for known in (self.prefixes, self.texts, self.rows):
                known.pop(part, None)

    def host(self, name: str) -> HostRecord | None:
        """What is known of a host."""
        entry = self.hosts.get(name)
        return None if entry is None else entry.record

    def network(self, name: str) -> NetworkRecord | None:
        """What is known of a network."""
        entry = self.networks.get(name)
        return None if entry is None else entry.record

    def _part[R](
        self, table: dict[Part, Entry[R]], rest: str, kv: KeyValue, read: Callable[[bytes], R]
    ) -> None:
        part = parse_part(rest)
        if part is None:
            self._bad(kv.key, "it names no part of a network")
        else:
            table[part] = self._entry(table.get(part), kv, read)

    def _named[R](
        self, table: dict[str, Entry[R]], rest: str, kv: KeyValue, read: Callable[[bytes], R]
    ) -> None:
        if HOST.fullmatch(rest):
            table[rest] = self._entry(table.get(rest), kv, read)
        else:
            self._bad(kv.key, "it is no name of a host")

    def _entry[R](
        self, before: Entry[R] | None, kv: KeyValue, read: Callable[[bytes], R]
    ) -> Entry[R]:
        """What a key has; what cannot be read does not change what was known before."""
        try:
            record = read(kv.value)
        except ValueError as error:
            self._bad(kv.key, str(error))
            known = None if before is None else before.record
            return Entry(known, kv.modified, kv.lease, damaged=True)
        return Entry(record, kv.modified, kv.lease)


def _text(value: bytes) -> str:
    return value[:64].decode("utf-8", "replace")
