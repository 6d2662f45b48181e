"""A look at the registry works out what has changed, and finds what a look at all of it would."""

from __future__ import annotations

import random
from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.cluster.agent.look import look
from watcher.cluster.agent.standing import Situation
from watcher.cluster.agent.tables import Service, Telling
from watcher.cluster.endpoints.hosts import host_lines
from watcher.cluster.etcd.words import KeyValue
from watcher.cluster.protocol import (
    BlockRow,
    HostRow,
    NetworkRow,
    PeerBlockRow,
    Row,
    key_of,
    table_of,
)
from watcher.cluster.registry.changes import Take
from watcher.cluster.registry.keys import Keys, Part, part_of
from watcher.cluster.registry.picture import Picture
from watcher.cluster.registry.records import BlockRecord, HostRecord, NetworkRecord, encode
from watcher.clustering.tables import Heard
from watcher.model.address import Subnet
from watcher.model.cluster import block_at

KEYS = Keys("/watcher")
SUBNETS = IPv4Network("10.9.0.0/24"), IPv6Network("fd09::/120")
HOST = HostRow("me", ip_address("192.0.2.1"), "me", "me", "me")
SITUATION = Situation(
    HOST, "1", 30, 4789, restored=False, marked=False, stay_out=False, numbers={}, undecided=0.0
)


class Registry:
    """The keys of etcd, and a picture that follows them."""

    def __init__(self) -> None:
        self._keys: dict[str, KeyValue] = {}
        self._revision = 0
        self.picture = _picture()
        self.size = 0
        self.put(KEYS.layout, b"1")
        self.put(KEYS.address("192.0.2.1"), b"me")
        for n, name in enumerate(("me", "a", "b"), 1):
            self.put(KEYS.host(name), encode(HostRecord(name, f"192.0.2.{n}", name, "1")))
        self.resize(16)

    def resize(self, size: int) -> None:
        self.size = size
        record = NetworkRecord(tuple(map(str, SUBNETS)), size, 1)
        self.put(KEYS.network("net"), encode(record))

    def put(self, key: str, value: bytes) -> None:
        self._revision += 1
        self._keys[key] = KeyValue(key, value, self._revision, self._revision, 1, 0)
        self.picture.put(self._keys[key])

    def remove(self, key: str) -> None:
        if self._keys.pop(key, None):
            self.picture.remove(key)

    def anew(self) -> Picture:
        picture = _picture()
        for kv in self._keys.values():
            picture.put(kv)
        return picture

    def rows(self, picture: Picture) -> list[Row]:
        service = Service(HOST, {"net": NetworkRow("net", SUBNETS, self.size, 0, 0)}, {}, {})
        rows = look(picture, service, SITUATION, {}, random.Random(1)).rows
        assert rows is not None
        return rows


def _picture() -> Picture:
    def bad(key: str, reason: str) -> None:
        raise AssertionError(key, reason)

    return Picture(KEYS, bad)


parts = st.builds(
    lambda which, number: part_of("net", block_at(SUBNETS[which], 16, number)),
    st.integers(0, 1), st.integers(0, 3),
)  # fmt: skip
steps = st.one_of(
    st.tuples(parts, st.sampled_from(("me", "a", "b", ""))), st.sampled_from((16, 32))
)


def take(registry: Registry, step: tuple[Part, str] | int) -> None:
    if isinstance(step, int):
        registry.resize(step)
    elif step[1]:
        registry.put(KEYS.block(step[0]), encode(BlockRecord(step[1], step[1])))
    else:
        registry.remove(KEYS.block(step[0]))


@given(st.lists(steps, max_size=12))
def test_a_picture_that_has_changed_is_as_one_made_anew(
    changes: list[tuple[Part, str] | int],
) -> None:
    registry, telling, heard = Registry(), Telling(), Heard()
    for step in changes:
        take(registry, step)
        rows, anew = registry.rows(registry.picture), registry.anew()
        assert {(table_of(row), key_of(row)): row for row in rows} == {
            (table_of(row), key_of(row)): row for row in registry.rows(anew)
        }
        assert list(host_lines(registry.picture, "me")) == list(host_lines(anew, "me"))
        telling.set(rows)
        while packet := telling.next():
            telling.told(packet)
            heard.take(packet)
        assert {key_of(row): row for row in rows if isinstance(row, PeerBlockRow)} == heard.of(
            PeerBlockRow
        )


def test_what_has_not_changed_is_not_worked_out_again() -> None:
    registry = Registry()
    first, second = (part_of("net", block_at(SUBNETS[0], 16, number)) for number in (0, 1))
    for part in (first, second):
        registry.put(KEYS.block(part), encode(BlockRecord("a", "a")))

    def found() -> dict[int, PeerBlockRow]:
        rows = registry.rows(registry.picture)
        return {int(r.prefix.network_address): r for r in rows if isinstance(r, PeerBlockRow)}

    before = found()
    registry.put(KEYS.block(second), encode(BlockRecord("b", "b")))
    after = found()
    assert after[first.first] is before[first.first]
    assert (before[second.first].host, after[second.first].host) == ("a", "b")
    registry.remove(KEYS.block(second))
    assert found().keys() == {first.first}
    assert registry.picture.rows.keys() == {first}, "what has gone is kept"


@pytest.mark.parametrize("lost", [False, True], ids=["unknown-here", "lost-here"])
def test_a_host_that_gets_its_blocks_again_takes_no_others(lost: bool) -> None:
    """Else each return would leave it with an empty block more, which somebody else may need."""
    registry = Registry()
    old = block_at(SUBNETS[0], 16, 1)
    if not lost:  # what an earlier incarnation of it has
        registry.put(KEYS.block(part_of("net", old)), encode(BlockRecord("me", "earlier")))

    def taken(*blocks: BlockRow) -> list[Subnet]:
        service = Service(
            HOST, {"net": NetworkRow("net", SUBNETS, 16, 1, 0)},
            {(block.network, block.prefix): block for block in blocks}, {},
        )  # fmt: skip
        changes = look(registry.picture, service, SITUATION, {}, random.Random(1)).changes
        return [change.prefix for change in changes if isinstance(change, Take)]

    assert taken(*([BlockRow("net", old, "lost")] if lost else [])) == [old]
    registry.put(KEYS.block(part_of("net", old)), encode(BlockRecord("me", "me")))
    assert taken(*([BlockRow("net", old, "lost")] if lost else [])) == []
    (new,) = taken(BlockRow("net", old, "held"))  # if what it has is full
    assert new != old
