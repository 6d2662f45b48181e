"""The client of etcd, with one real member that wants TLS and a user."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest

from tests.support.etcd import Etcd as RealEtcd
from tests.support.etcd_client import done
from watcher.cluster.etcd.client import Etcd
from watcher.cluster.etcd.errors import Compacted, EtcdError, NoLease, Replaced, TooLarge
from watcher.cluster.etcd.requests import (
    Compare,
    absent,
    delete,
    delete_range,
    end_of,
    get,
    is_version,
    modified_at,
    none_newer,
    put,
)
from watcher.cluster.etcd.words import Batch, Event, Kind, Status, Times

_numbers = itertools.count(1)
_QUICK = Times(quiet=0.2)
_PATIENT = Times(answer=60)


@pytest.fixture
def prefix() -> str:
    return f"/watcher/{next(_numbers)}/"


async def fill(client: Etcd, prefix: str, count: int, value: bytes = b"x") -> int:
    """Makes keys `0000`, `0001`, …; the revision after that."""
    keys = [f"{prefix}{i:04}" for i in range(count)]
    revision = 0
    for some in itertools.batched(keys, 100):
        revision = (await client.txn([], [put(key, value) for key in some])).revision
    return revision


async def events(batches: AsyncGenerator[Batch], count: int) -> list[Event]:
    """The first events of a watch, as many."""
    found: list[Event] = []
    async with aclosing(batches):
        async for batch in batches:
            found += batch.events
            if len(found) >= count:
                break
    return found


def test_a_transaction_takes_a_key_once(strict: RealEtcd, prefix: str) -> None:
    async def take(client: Etcd) -> list[bool]:
        key = f"{prefix}key"
        return [
            (await client.txn([absent(key)], [put(key, value)])).succeeded for value in (b"a", b"b")
        ]

    assert done(strict, take) == [True, False]
    assert strict.get(f"{prefix}key") == "a"


def test_a_transaction_compares(strict: RealEtcd, prefix: str) -> None:
    key, other = f"{prefix}b", f"{prefix}nope"
    end = end_of(prefix)

    async def compare(client: Etcd) -> None:
        async def holds(*compares: Compare) -> bool:
            return (await client.txn(compares, [])).succeeded

        await client.txn([], [put(key, b"1")])
        revision = (await client.txn([], [put(key, b"2")])).revision
        assert await holds(is_version(key, 2), modified_at(key, revision))
        assert await holds(absent(other), modified_at(other, 0))
        assert not await holds(is_version(key, 1))
        assert not await holds(modified_at(key, revision - 1))
        assert not await holds(absent(other), absent(key))
        assert await holds(none_newer(prefix, end, revision))
        assert await holds(none_newer(f"{prefix}c", end, 0))
        assert not await holds(none_newer(prefix, end, revision - 1))
        assert not await holds(none_newer(prefix, end, 0))

    done(strict, compare)


def test_a_transaction_does_what_it_is_asked_to(strict: RealEtcd, prefix: str) -> None:
    async def work(client: Etcd) -> None:
        await fill(client, prefix, 5)
        txn = await client.txn(
            [absent(f"{prefix}0000")],
            [],
            [
                get(f"{prefix}0000"),
                delete(f"{prefix}0001"),
                delete_range(f"{prefix}0002", f"{prefix}0004"),
                put(f"{prefix}new", b"\xff\x00"),
            ],
        )
        assert not txn.succeeded
        found, one, two, made = txn.responses
        assert [kv.value for kv in found.kvs] == [b"x"]
        assert (one.deleted, two.deleted, made.kvs) == (1, 2, ())
        left = await client.read_all(prefix)
        assert [kv.key.removeprefix(prefix) for kv in left.kvs] == ["0000", "0004", "new"]
        assert left.kvs[-1].value == b"\xff\x00"
        assert left.revision == txn.revision == left.kvs[-1].modified
        assert left.cluster_id == txn.cluster_id > 0

    done(strict, work)


def test_a_transaction_is_all_or_nothing(strict: RealEtcd, prefix: str) -> None:
    async def work(client: Etcd) -> None:
        with pytest.raises(EtcdError, match="duplicate key"):
            await client.txn([], [put(f"{prefix}a", b""), put(f"{prefix}a", b"")])
        with pytest.raises(EtcdError, match="too many operations"):
            await client.txn([], [put(f"{prefix}{i}", b"") for i in range(129)])
        with pytest.raises(NoLease):
            await client.txn([], [put(f"{prefix}a", b""), put(f"{prefix}b", b"", 12345)])
        assert not (await client.read_all(prefix)).kvs

    done(strict, work)


def test_keys_need_not_be_text(strict: RealEtcd, prefix: str) -> None:
    async def work(client: Etcd) -> None:
        keys = [f"{prefix}\n\0", f"{prefix}é", f"{prefix}\udcff"]
        for key in keys:
            await client.txn([absent(key)], [put(key, b"")])
        assert [kv.key for kv in (await client.read_all(prefix, page=1)).kvs] == keys
        await client.txn([is_version(key, 1) for key in keys], [delete(key) for key in keys])
        assert not (await client.read_all(prefix)).kvs

    done(strict, work)


def test_a_range_is_read_in_parts(strict: RealEtcd, prefix: str) -> None:
    async def work(client: Etcd) -> None:
        revision = await fill(client, prefix, 3)
        await client.txn([], [put(f"{prefix}0001", b"new")])
        some = await client.range(prefix, end_of(prefix), limit=2)
        assert some.more
        assert [kv.value for kv in some.kvs] == [b"x", b"new"]
        assert (some.kvs[1].created, some.kvs[1].version) == (revision, 2)
        before = await client.range(prefix, end_of(prefix), revision=revision, keys_only=True)
        assert not before.more
        assert [(kv.version, kv.value) for kv in before.kvs] == [(1, b"")] * 3
        assert before.revision == revision + 1
        assert not (await client.range(f"{prefix}none")).kvs
        with pytest.raises(Replaced):
            await client.range(prefix, revision=revision + 1000)

    done(strict, work)


def test_all_is_read_at_one_revision(strict: RealEtcd, prefix: str) -> None:
    async def work(client: Etcd) -> None:
        revision = await fill(client, prefix, 25)
        seen = []
        async for page in client.pages(prefix, page=10):
            assert page.revision == revision
            seen += [kv.key.removeprefix(prefix) for kv in page.kvs]
            await client.txn([], [delete(f"{prefix}0022"), put(f"{prefix}{len(seen):04}a", b"")])
        assert seen == [f"{i:04}" for i in range(25)]

    done(strict, work)


def test_all_is_read_though_it_is_large(strict: RealEtcd, prefix: str) -> None:
    async def work(client: Etcd) -> None:
        value = b"\xfe" * (1 << 20)
        for i in range(40):
            await client.txn([], [put(f"{prefix}{i:02}", value)])
        with pytest.raises(TooLarge):
            await client.range(prefix, end_of(prefix))
        found = (await client.read_all(prefix)).kvs
        assert [kv.value == value for kv in found] == [True] * 40
        await client.txn([], [delete_range(prefix, end_of(prefix))])

    done(strict, work, _PATIENT)


def test_keys_end_with_their_lease(strict: RealEtcd, prefix: str) -> None:
    async def work(client: Etcd) -> None:
        lease = await client.grant(60)
        await client.txn([], [put(f"{prefix}a", b"", lease), put(f"{prefix}b", b"")])
        assert (await client.range(f"{prefix}a")).kvs[0].lease == lease
        assert await client.keep_alive(lease) == 60
        await client.revoke(lease)
        assert [kv.key for kv in (await client.read_all(prefix)).kvs] == [f"{prefix}b"]
        assert await client.keep_alive(lease) == 0
        await client.revoke(lease)  # as often as you like

    done(strict, work)


def test_a_lease_lapses(strict: RealEtcd, prefix: str) -> None:
    async def work(client: Etcd) -> None:
        lease = await client.grant(1)
        revision = (await client.txn([], [put(f"{prefix}a", b"", lease)])).revision
        made, ended = await events(client.watch(prefix, revision), 2)
        assert (made.kind, ended.kind) == (Kind.PUT, Kind.DELETE)
        assert made.kv.lease == lease
        assert ended.kv.modified > made.kv.modified
        assert await client.keep_alive(lease) == 0

    done(strict, work)


def test_a_watch_tells_all_changes_in_order(strict: RealEtcd, prefix: str) -> None:
    async def work(client: Etcd) -> None:
        first = await fill(client, prefix, 3)
        await client.txn([], [put(f"{prefix[:-1]}!", b"not under the prefix")])
        await client.txn([], [delete(f"{prefix}0001"), put(f"{prefix}0002", b"new")])
        watch = client.watch(prefix, first)
        told: list[Event] = []
        async with aclosing(watch):
            async for batch in watch:
                told += batch.events
                if len(told) == 5:
                    assert batch.revision == first + 2
                    await client.txn([], [put(f"{prefix}last", b"")])
                if len(told) == 6:
                    assert batch.revision == first + 3
                    break
        assert [(e.kind, e.kv.key.removeprefix(prefix), e.kv.modified - first) for e in told] == [
            (Kind.PUT, "0000", 0),
            (Kind.PUT, "0001", 0),
            (Kind.PUT, "0002", 0),
            (Kind.DELETE, "0001", 2),
            (Kind.PUT, "0002", 2),
            (Kind.PUT, "last", 3),
        ]

    done(strict, work)


def test_a_watch_tells_that_nothing_changes(strict: RealEtcd, prefix: str) -> None:
    async def work(client: Etcd) -> None:
        revision = await fill(client, prefix, 1)
        batches = client.watch(prefix, revision + 1)
        async with aclosing(batches):
            for _ in range(3):
                batch = await anext(batches)
                assert (batch.revision, batch.events) == (revision, ())
            await client.txn([], [put(f"{prefix}a", b"")])
            while not batch.events:
                batch = await anext(batches)
        assert batch.revision == revision + 1

    done(strict, work, _QUICK)


def test_a_watch_tells_a_long_history(strict: RealEtcd, prefix: str) -> None:
    """etcd tells it in fragments, each of 2 MB at the most."""
    count, size = 300, 50_000

    async def work(client: Etcd) -> None:
        first = (await client.range(prefix)).revision + 1
        for i in range(0, count, 20):
            value = b"y" * size
            await client.txn([], [put(f"{prefix}{i + j:03}", value) for j in range(20)])
        found = await events(client.watch(prefix, first), count)
        keys = [event.kv.key.removeprefix(prefix) for event in found]
        assert keys == [f"{i:03}" for i in range(count)]
        assert {len(event.kv.value) for event in found} == {size}
        await client.txn([], [delete_range(prefix, end_of(prefix))])

    done(strict, work)


def test_what_is_compacted_is_said(strict: RealEtcd, prefix: str) -> None:
    async def work(client: Etcd) -> None:
        await fill(client, prefix, 1)
        await fill(client, prefix, 1)
        revision = strict.compact()
        with pytest.raises(Compacted):
            await client.range(prefix, end_of(prefix), revision=revision - 1)
        with pytest.raises(Compacted) as raised:
            await events(client.watch(prefix, revision - 1), 1)
        assert raised.value.revision == revision
        await fill(client, prefix, 1)
        assert await events(client.watch(prefix, revision + 1), 1)

    done(strict, work)


def test_pages_are_read_again_after_a_compaction(strict: RealEtcd, prefix: str) -> None:
    async def work(client: Etcd) -> None:
        async def read() -> AsyncIterator[str]:
            async for page in client.pages(prefix, page=1):
                yield page.kvs[0].key

        await fill(client, prefix, 2)
        pages = read()
        await anext(pages)
        await fill(client, prefix, 1)
        strict.compact()
        with pytest.raises(Compacted):
            await anext(pages)
        assert len((await client.read_all(prefix)).kvs) == 2

    done(strict, work)


def test_a_member_tells_of_itself(strict: RealEtcd) -> None:
    dead = "https://192.0.2.2:1"

    async def work(client: Etcd) -> dict[str, Status | str]:
        return await client.statuses()

    found = done(strict, work, endpoints=(*strict.endpoints, dead))
    assert list(found) == [dead, *strict.endpoints]
    assert found[dead] == "Connection refused"
    status = found[strict.endpoints[0]]
    assert isinstance(status, Status)
    assert status.version.startswith("3.")
    assert status.leader
    assert status.size
