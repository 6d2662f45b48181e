"""Each change of the registry is made only if all that it was decided on still holds."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Network, ip_address
from typing import Final

import pytest

from tests.support.etcd import Etcd as RealEtcd
from tests.support.etcd_client import done
from watcher.cluster.etcd.client import Etcd
from watcher.cluster.etcd.requests import delete, put
from watcher.cluster.registry.changes import (
    AddNetwork,
    Change,
    Claim,
    GiveBack,
    Join,
    Lend,
    Live,
    Mark,
    PutEndpoints,
    Self,
    Take,
    Unmark,
    make,
)
from watcher.cluster.registry.keys import Keys, part_of
from watcher.cluster.registry.picture import Entry, Picture
from watcher.cluster.registry.records import (
    AliveRecord,
    BlockRecord,
    ClaimRecord,
    HostRecord,
    NetworkRecord,
    encode,
)
from watcher.cluster.registry.removal import NoSuchHost, StillAlive, read_picture, remove_host
from watcher.model.cluster import claim_of

BLOCK: Final = IPv4Network("10.9.0.4/30")
ADDRESS: Final = claim_of(ip_address("10.9.0.6"))
OUTSIDE: Final = claim_of(ip_address("10.9.0.8"))
NET: Final = NetworkRecord(("10.9.0.0/24",), 4, 1)
_prefixes: Final = itertools.count(1)

type Work = Callable[[Registry], Awaitable[None]]


class Registry:
    """A registry of its own, with hosts `a` and `b` and a network."""

    def __init__(self, client: Etcd) -> None:
        self.client = client
        self.keys = Keys(f"/watcher/{next(_prefixes)}")
        self.picture: Picture

    async def begin(self) -> None:
        for name in "ab":
            await self.look()
            assert await self.make(self.join(name))
        await self.look()
        assert await self.make(AddNetwork(self.me("a"), "net", NET, self.picture.revision))
        await self.look()

    async def look(self) -> None:
        """Have a picture of how it is now."""
        self.picture = await read_picture(self.client, self.keys)

    async def make(self, change: Change) -> bool:
        return (await make(self.client, self.keys, change)).succeeded

    async def take_now(self, name: str) -> Entry[BlockRecord]:
        """Have a host take the block; the block as it is then."""
        assert await self.make(self.take(name))
        await self.look()
        return self.picture.blocks[part_of("net", BLOCK)]

    async def ask_now(self, name: str) -> None:
        """Have a host ask another one for an address of the block."""
        assert await self.make(self.claim(name, counts=False))
        await self.look()

    async def put(self, key: str, value: bytes = b"x") -> None:
        await self.client.txn([], [put(key, value)])

    def me(self, name: str) -> Self:
        return Self(name, f"i-{name}", self.picture.hosts[name].modified)

    def join(self, name: str, address: str = "") -> Join:
        address = address or f"192.0.2.{ord(name)}"
        hosts, alive = self.picture.hosts.get(name), self.picture.alive.get(name)
        layout, holder = self.picture.layout, self.picture.addresses.get(address)
        return Join(
            name, HostRecord(f"i-{name}", address),
            modified=0 if hosts is None else hosts.modified,
            address_modified=0 if holder is None else holder.modified,
            alive_modified=0 if alive is None else alive.modified,
            layout_modified=0 if layout is None else layout.modified,
            live=AliveRecord(f"i-{name}", address),
        )  # fmt: skip

    def take(self, name: str, *, new: bool = True) -> Take:
        entry = self.picture.blocks.get(part_of("net", BLOCK))
        return Take(
            self.me(name), "net", BLOCK, self.picture.revision,
            0 if entry is None else entry.modified, self.picture.networks["net"].modified, new,
        )  # fmt: skip

    def claim(self, name: str, *, counts: bool = True) -> Claim:
        block = part_of("net", BLOCK)
        entry = self.picture.blocks.get(block)
        claim = self.picture.claims.get(part_of("net", ADDRESS))
        return Claim(
            self.me(name), "net", ADDRESS, block, 0 if entry is None else entry.modified,
            0 if claim is None else claim.modified, self.picture.networks["net"].modified,
            counts, True,
        )  # fmt: skip

    def lend(self, name: str) -> Lend:
        part, block = part_of("net", ADDRESS), part_of("net", BLOCK)
        claim = self.picture.claims[part]
        assert claim.record is not None
        return Lend(
            self.me(name), part, claim.record, claim.modified, block,
            self.picture.blocks[block].modified,
        )  # fmt: skip


@pytest.fixture
def with_registry(real: RealEtcd) -> Callable[[Work], None]:
    """Has a coroutine work with a registry."""

    def go(work: Work) -> None:
        async def run(client: Etcd) -> None:
            registry = Registry(client)
            await registry.begin()
            await work(registry)

        done(real, run)

    return go


type Go = Callable[[Work], None]


def test_a_block_is_taken_by_one(with_registry: Go) -> None:
    async def work(registry: Registry) -> None:
        assert await registry.make(registry.take("a"))
        assert not await registry.make(registry.take("b"))
        assert not await registry.make(registry.take("a"))  # as it was decided before

    with_registry(work)


def test_a_block_is_not_taken_over_a_claim_that_was_not_seen(with_registry: Go) -> None:
    async def work(registry: Registry) -> None:
        before = registry.take("a")
        assert await registry.make(registry.claim("b"))
        assert not await registry.make(before)
        await registry.look()
        assert await registry.make(registry.take("a"))

    with_registry(work)


def test_a_claim_beside_the_block_does_not_matter_to_it(with_registry: Go) -> None:
    async def work(registry: Registry) -> None:
        before = registry.take("a")
        for address in (OUTSIDE, claim_of(BLOCK[0] - 1)):
            record = ClaimRecord("b", "i-b", "b")
            await registry.put(registry.keys.claim(part_of("net", address)), encode(record))
        assert await registry.make(before)

    with_registry(work)


def test_an_address_is_not_claimed_in_a_block_that_was_taken_meanwhile(with_registry: Go) -> None:
    async def work(registry: Registry) -> None:
        before = registry.claim("b")
        assert await registry.make(registry.take("a"))
        assert not await registry.make(before)

    with_registry(work)


def test_an_address_is_not_claimed_in_a_block_that_changed_hands(with_registry: Go) -> None:
    async def work(registry: Registry) -> None:
        entry = await registry.take_now("a")
        before = registry.claim("a")
        assert await registry.make(GiveBack(registry.me("a"), "net", BLOCK, False, entry.modified))
        await registry.look()
        assert await registry.make(registry.take("b"))
        assert not await registry.make(before)

    with_registry(work)


def test_what_is_lent_is_what_was_asked_for(with_registry: Go) -> None:
    async def work(registry: Registry) -> None:
        await registry.take_now("a")
        await registry.ask_now("b")
        before = registry.lend("a")
        assert await registry.make(before)
        assert not await registry.make(before)
        await registry.look()
        claim = registry.picture.claims[part_of("net", ADDRESS)].record
        assert claim == ClaimRecord("b", "i-b", "a")

    with_registry(work)


def test_nothing_is_lent_of_a_block_that_was_given_back(with_registry: Go) -> None:
    async def work(registry: Registry) -> None:
        await registry.take_now("a")
        await registry.ask_now("b")
        before = registry.lend("a")
        await registry.client.txn([], [delete(registry.keys.block(part_of("net", BLOCK)))])
        assert not await registry.make(before)

    with_registry(work)


def test_a_host_that_was_removed_changes_nothing(with_registry: Go) -> None:
    async def work(registry: Registry) -> None:
        await registry.take_now("b")
        await registry.ask_now("a")
        me, at = registry.me("b"), registry.picture.revision
        changes: list[Change] = [
            registry.take("b"), registry.claim("b"), registry.lend("b"),
            AddNetwork(me, "other", NET, at), PutEndpoints(me, {"1": b"x"}),
            Live(me, AliveRecord("i-b", "192.0.2.98"), registry.picture.alive["b"].modified, 0),
        ]  # fmt: skip
        with pytest.raises(StillAlive):
            await remove_host(registry.client, registry.keys, "b")
        back = await remove_host(registry.client, registry.keys, "b", force=True)
        assert back.blocks == (part_of("net", BLOCK),)
        for change in changes:
            assert not await registry.make(change), change
        await registry.look()
        assert registry.picture.hosts.keys() == {"a"}
        assert not registry.picture.blocks
        with pytest.raises(NoSuchHost):
            await remove_host(registry.client, registry.keys, "b", force=True)

    with_registry(work)


def test_to_remove_a_host_once_more_finishes_it(with_registry: Go) -> None:
    async def work(registry: Registry) -> None:
        assert await registry.make(registry.take("b"))
        await registry.put(registry.keys.endpoint("b", "1"))
        await registry.client.txn(
            [], [delete(registry.keys.host("b")), delete(registry.keys.alive("b"))]
        )
        back = await remove_host(registry.client, registry.keys, "b")
        assert back.blocks == (part_of("net", BLOCK),)
        left = await registry.client.read_all(registry.keys.all)
        assert not [kv.key for kv in left.kvs if "/b" in kv.key or kv.value == b"b"]

    with_registry(work)


def test_no_two_networks_get_one_number(with_registry: Go) -> None:
    async def work(registry: Registry) -> None:
        at = registry.picture.revision
        one, other = (AddNetwork(registry.me(n), f"net-{n}", NET, at) for n in "ab")
        assert await registry.make(one)
        assert not await registry.make(other)

    with_registry(work)


def test_nothing_new_is_taken_while_etcd_was_just_restored(with_registry: Go) -> None:
    async def work(registry: Registry) -> None:
        lease = await registry.client.grant(60)
        assert await registry.make(Mark(lease))
        assert not await registry.make(Mark(lease))
        assert not await registry.make(registry.take("a"))
        assert not await registry.make(registry.claim("a"))
        assert await registry.make(registry.take("a", new=False))
        await registry.look()
        marked = await registry.client.range(registry.keys.restored)
        assert await registry.make(Unmark(marked.kvs[0].modified))

    with_registry(work)


def test_one_host_has_an_address_and_a_name(with_registry: Go) -> None:
    async def work(registry: Registry) -> None:
        first, second = registry.join("c", "192.0.2.50"), registry.join("d", "192.0.2.50")
        assert await registry.make(first)
        assert not await registry.make(second)
        assert not await registry.make(first)
        await registry.put(registry.keys.layout, b"2")
        await registry.look()
        layout = registry.picture.layout
        assert layout is not None
        assert layout.record == "2"

    with_registry(work)


def test_a_key_that_was_changed_is_not_given_back(with_registry: Go) -> None:
    async def work(registry: Registry) -> None:
        entry = await registry.take_now("a")
        key = registry.keys.block(part_of("net", BLOCK))
        await registry.put(key, encode(BlockRecord("b", "i-b")))
        back = GiveBack(registry.me("a"), "net", BLOCK, False, entry.modified)
        assert not await registry.make(back)

    with_registry(work)
