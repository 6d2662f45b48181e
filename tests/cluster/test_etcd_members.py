"""The client of etcd, with three real members of which some fail."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path

import pytest

from tests.support.cluster import LAN, Underlay
from tests.support.etcd import CLIENTS
from tests.support.etcd import Etcd as RealEtcd
from tests.support.etcd_client import client_of, done, within
from tests.support.forwarding import forwarding
from tests.support.host.machine import Machine
from watcher.cluster.etcd.client import Etcd
from watcher.cluster.etcd.errors import Compacted, Replaced, Unavailable, Uncertain
from watcher.cluster.etcd.followed import Followed
from watcher.cluster.etcd.requests import absent, put
from watcher.cluster.etcd.words import Batch, Times

QUICK = Times(connect=0.5, answer=2.0, quiet=0.5, pauses=(0.02, 0.1))
ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
PREFIX = "/watcher/"
SOON = ("--heartbeat-interval=50", "--election-timeout=500")
"""Members notice soon that their leader is away."""


@pytest.fixture
def real(machine: Machine) -> RealEtcd:
    """Three members, without TLS; they notice the loss of their leader soon."""
    return RealEtcd(*((machine.here, address) for address in ADDRESSES), flags=SOON)


async def write(client: Etcd, number: int) -> None:
    """Makes a key by all means, once."""
    key = f"{PREFIX}{number:04}"
    while True:
        try:
            await client.txn([absent(key)], [put(key, b"")])
        except Unavailable:
            await asyncio.sleep(0.05)
        else:
            return


async def forever(
    work: Callable[[], Awaitable[object]], but: type[Exception] | None = None
) -> None:
    """Does it again and again, whatever fails as `but`, until something else does."""
    while True:
        with suppress(*([but] if but else [])):
            await work()


async def keys(batches: AsyncGenerator[Batch], count: int) -> list[str]:
    """The keys of the first events of a watch, as many."""
    found: list[str] = []
    async with aclosing(batches):
        async for batch in batches:
            found += [event.kv.key.removeprefix(PREFIX) for event in batch.events]
            if len(found) >= count:
                break
    return found


def test_a_watch_survives_each_member(real: RealEtcd) -> None:
    """No change is lost, none is told twice, whichever member is killed while it tells."""
    count = 300

    async def work() -> list[str]:
        async with client_of(real, QUICK) as watcher, client_of(real, QUICK) as writer:
            watching = asyncio.create_task(keys(watcher.watch(PREFIX, 1), count))
            for number, member in zip(range(3), real.members, strict=True):
                for key in range(number * 100, number * 100 + 50):
                    await write(writer, key)
                await asyncio.to_thread(member.kill)
                for key in range(number * 100 + 50, number * 100 + 100):
                    await write(writer, key)
                await asyncio.to_thread(member.start)
                await asyncio.to_thread(member.ready)
            return await watching

    assert within(real.members[0].place, work) == [f"{i:04}" for i in range(count)]


def test_a_watch_survives_random_pauses(real: RealEtcd) -> None:
    """A stopped process keeps its connections; the kernel answers in its stead."""
    count = 60

    async def work() -> list[str]:
        async with client_of(real, QUICK) as watcher, client_of(real, QUICK) as writer:
            watching = asyncio.create_task(keys(watcher.watch(PREFIX, 1), count))
            for number in range(0, count, 20):
                member = random.choice(real.members)
                await asyncio.to_thread(member.pause)
                for key in range(number, number + 20):
                    await write(writer, key)
                await asyncio.to_thread(member.resume)
            return await watching

    assert within(real.members[0].place, work) == [f"{i:04}" for i in range(count)]


@pytest.mark.parametrize("cut_off_from", ["clients", "peers", "both"])
def test_a_watch_leaves_a_member_that_is_cut_off(cut_off_from: str) -> None:
    """From its peers alone: it answers then, but does not know what happens. All by IPv6."""

    async def work(real: RealEtcd, cut: Callable[[], None]) -> list[list[str]]:
        async with AsyncExitStack() as opened:
            writer = await opened.enter_async_context(client_of(real, QUICK))
            watching = []
            for first, _ in enumerate(real.members):  # each is told by another one
                client = client_of(real, QUICK)
                client._members._urls[:] = real.endpoints[first:] + real.endpoints[:first]
                await opened.enter_async_context(client)
                watching.append(asyncio.create_task(keys(client.watch(PREFIX, 1), 20)))
            for number in range(10):
                await write(writer, number)
            await asyncio.to_thread(cut)
            for number in range(10, 20):
                await write(writer, number)
            return await asyncio.gather(*watching)

    with Underlay() as underlay:
        stations = [underlay.new_station(f"etcd{i}", LAN, 20 + i) for i in range(3)]
        clients = underlay.new_station("clients", LAN, 30)
        real = RealEtcd(*((s.place, str(s.ipv6)) for s in stations), flags=SOON)

        def cut() -> None:
            if cut_off_from != "peers":
                underlay.cut(stations[1], clients)
            if cut_off_from != "clients":
                underlay.cut(stations[1], stations[0])
                underlay.cut(stations[1], stations[2])

        assert (
            within(clients.place, lambda: work(real, cut)) == [[f"{i:04}" for i in range(20)]] * 3
        )


def test_a_watch_leaves_a_member_for_which_another_one_answers(real: RealEtcd) -> None:
    """Behind one URL: the member that tells is stopped, and all else goes to the others."""
    first, *others = real.members
    member = {True: first, False: others[0]}

    def choose(line: bytes) -> tuple[str, int]:
        chosen = member[b"/v3/watch" in line]
        member[True] = others[0]
        return chosen.address, CLIENTS

    async def work(writer: Etcd) -> list[str]:
        async with forwarding(choose) as url, client_of(real, QUICK, endpoints=[url]) as client:
            batches = client.watch(PREFIX, 1)
            while not (await anext(batches)).cluster_id:
                pass
            await asyncio.to_thread(first.pause)
            await write(writer, 0)
            found = await keys(batches, 1)
            await asyncio.to_thread(first.resume)
            return found

    endpoints = [other.url for other in others]
    assert done(real, work, QUICK, endpoints=endpoints) == ["0000"]


def test_a_member_without_a_leader_does_not_count(real: RealEtcd) -> None:
    """It would tell an old state, or be silent."""
    alone, *others = real.members

    async def work(client: Etcd) -> None:
        await write(client, 0)
        for member in others:
            await asyncio.to_thread(member.kill)
        for _ in range(2):
            with pytest.raises(Unavailable):  # when it has noticed
                await forever(lambda: client.range(f"{PREFIX}0000"))
            with pytest.raises(Unavailable):
                await keys(client.watch(PREFIX, 1), 10)
        with pytest.raises(Unavailable) as raised:
            await client.txn([], [put(f"{PREFIX}a", b"")])
        assert {url for url, _ in raised.value.tried} <= set(real.endpoints)
        for member in others:
            await asyncio.to_thread(member.start)
        await asyncio.to_thread(alone.ready)
        await write(client, 1)
        assert await keys(client.watch(PREFIX, 1), 2) == ["0000", "0001"]

    done(real, work, QUICK)


def test_all_are_away(real: RealEtcd) -> None:
    async def work(client: Etcd) -> None:
        await write(client, 0)
        batches = client.watch(PREFIX, 1)
        assert (await anext(batches)).revision == 0
        while not (await anext(batches)).events:
            pass
        await asyncio.to_thread(real.kill)
        with pytest.raises(Unavailable) as raised:
            await forever(batches.__anext__)
        assert {url for url, _ in raised.value.tried} == set(real.endpoints)
        assert {why for _, why in raised.value.tried} == {"Connection refused"}
        with pytest.raises(Unavailable):
            await client.grant(5)
        await asyncio.to_thread(real.start)
        await client.range(PREFIX)

    done(real, work, QUICK)


def test_an_uncertain_change_is_said_to_be(real: RealEtcd) -> None:
    """A member that stops in between may have made a change."""

    async def work(client: Etcd) -> None:
        for member in real.members:
            await asyncio.to_thread(member.pause)
        with pytest.raises(Uncertain) as raised:
            await client.txn([], [put(f"{PREFIX}a", b"")])
        assert len(raised.value.tried) == 1  # nobody else was asked to
        with pytest.raises(Unavailable) as all_raised:
            await client.range(f"{PREFIX}a")
        assert not isinstance(all_raised.value, Uncertain)
        for member in real.members:
            await asyncio.to_thread(member.resume)
        for member in real.members:
            await asyncio.to_thread(member.ready)
        await client.txn([], [put(f"{PREFIX}b", b"later")])

    done(real, work, QUICK)
    assert real.get(f"{PREFIX}b") == "later"


def test_an_older_snapshot_is_noticed(real: RealEtcd) -> None:
    """The watch would be silent until its revision comes again."""

    async def work(client: Etcd) -> None:
        await write(client, 0)
        snapshot = await asyncio.to_thread(real.snapshot)
        await write(client, 1)
        batches = client.watch(PREFIX, 1)
        while (await anext(batches)).revision < 3:
            pass
        await asyncio.to_thread(real.restore, snapshot)

        async def follow() -> None:
            nonlocal batches
            try:
                await anext(batches)
            except Unavailable:
                batches = client.watch(PREFIX, 4)

        with pytest.raises(Replaced) as raised:
            await forever(follow)
        assert raised.value.revision == 2
        assert [kv.key for kv in (await client.read_all(PREFIX)).kvs] == [f"{PREFIX}0000"]

    done(real, work, QUICK)


async def followed_past_a_snapshot(
    real: RealEtcd, client: Etcd
) -> tuple[Path, int, AsyncGenerator[Batch]]:
    """A snapshot, the revision that was read after one more change, and a watch from there on."""
    await write(client, 0)
    snapshot = real.snapshot()
    await write(client, 1)
    read = await client.read_all(PREFIX)
    latest = max(read.kvs, key=lambda kv: kv.modified)
    followed = Followed(read.revision + 1, read.cluster_id, latest)
    batches = client.watch(PREFIX, followed=followed)
    assert not (await anext(batches)).events
    return snapshot, read.revision, batches


def test_a_snapshot_that_was_written_past_is_noticed(real: RealEtcd) -> None:
    """The revision tells nothing then, and the watch has told no change yet.

    The client does nothing meanwhile, as if its machine had been paused: it finds all members well.
    """

    async def work(client: Etcd) -> None:
        snapshot, revision, batches = await followed_past_a_snapshot(real, client)
        real.restore(snapshot)
        while real.revision() <= revision:
            real.put(f"{PREFIX}other", "")
        with pytest.raises(Replaced):
            await forever(batches.__anext__)

    done(real, work, QUICK)


@pytest.mark.parametrize("restored", [False, True])
def test_a_compacted_history_is_told_from_another_one(real: RealEtcd, restored: bool) -> None:
    """By the key that was changed last; it is the only one that is asked for."""

    async def work(client: Etcd) -> None:
        snapshot, revision, batches = await followed_past_a_snapshot(real, client)
        if restored:
            real.restore(snapshot)
        while real.revision() <= revision:
            real.put("/other", "")
        real.compact()
        real.put("/other", "")
        for member in real.members:
            member.kill()
            member.start()
        for member in real.members:
            member.ready()
        if restored:
            with pytest.raises(Compacted):
                await forever(batches.__anext__)
            return
        await write(client, 2)
        batch = await anext(batches)
        while not batch.events:
            batch = await anext(batches)
        assert [event.kv.key for event in batch.events] == [f"{PREFIX}0002"]

    done(real, work, QUICK)


def test_another_etcd_is_noticed(machine: Machine) -> None:
    """Though it has a later revision."""
    one = RealEtcd((machine.here, ADDRESSES[0]))
    other = RealEtcd((machine.here, ADDRESSES[1]))
    for number in range(5):
        other.put(f"{PREFIX}other{number}", "")

    async def work(client: Etcd) -> None:
        snapshot = await client.read_all(PREFIX)
        with pytest.raises(Replaced) as raised:
            await keys(client_watch(client, snapshot.revision + 1, snapshot.cluster_id), 1)
        assert raised.value.cluster_id != snapshot.cluster_id
        assert raised.value.cluster_id

    def client_watch(client: Etcd, revision: int, cluster_id: int) -> AsyncGenerator[Batch]:
        one.kill()
        return client.watch(PREFIX, revision, cluster_id)

    async def both() -> None:
        async with client_of(one, QUICK, endpoints=one.endpoints + other.endpoints) as client:
            client._members._urls.sort()
            await work(client)

    within(machine.here, both)


def test_a_snapshot_restored_at_a_later_revision_is_noticed(real: RealEtcd) -> None:
    """`etcdutl snapshot restore --bump-revision --mark-compacted`."""
    counter = itertools.count()

    async def work(client: Etcd) -> None:
        await write(client, next(counter))
        snapshot = await asyncio.to_thread(real.snapshot)
        await write(client, next(counter))
        revision = (await client.read_all(PREFIX)).revision
        await asyncio.to_thread(
            real.restore, snapshot, "--bump-revision=1000000", "--mark-compacted"
        )
        with pytest.raises(Compacted):
            await forever(lambda: keys(client.watch(PREFIX, revision + 1), 1), Unavailable)
        again = await client.read_all(PREFIX)
        assert again.revision > 1_000_000
        assert len(again.kvs) == 1

    done(real, work, QUICK)
