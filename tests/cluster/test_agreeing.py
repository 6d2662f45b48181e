"""Hosts agree by a real etcd on who leases from what, whatever happens to them."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from tests.support import traffic
from tests.support.agreeing import Killed, Played, PlayedHost, network, until
from tests.support.cluster.whole import key_of
from tests.support.etcd import Etcd as RealEtcd
from tests.support.killer import sample
from watcher.cluster.etcd.requests import put
from watcher.cluster.registry.keys import Keys, Part, part_of
from watcher.cluster.registry.removal import NoSuchHost, StillAlive, remove_host
from watcher.facts.kinds import BlockLost, BlockTaken, ClusterUnreachable, HostSilent
from watcher.model.errors import InvalidRequest
from watcher.model.network import Network

RESTORED: Final = (
    "etcd was restored from an older state, or is another one; what this host has is put back"
)

type Work = Callable[[Played], Awaitable[None]]
type Play = Callable[[Work], None]

_prefixes: Final = itertools.count(1)

FIRST: Final = "10.9.0.0/30"
"""The first block of the subnets."""


@pytest.fixture
def play(real: RealEtcd) -> Iterator[Play]:
    """Has a coroutine play with hosts, in the network namespace of etcd."""
    with TemporaryDirectory(prefix="agree-") as directory:
        played = Played(real, Path(directory), f"/watcher/{next(_prefixes)}")

        async def run(work: Work) -> None:
            try:
                await work(played)
                played.check()
                for host in played.hosts.values():
                    assert not host.logged("unexpected error")
            except BaseException as error:
                for host in played.hosts.values():
                    error.add_note(f"{host.name}: {host.lines}")
                raise
            finally:
                if not real.members[0].runs:
                    real.start()
                await played.stop()

        def go(work: Work) -> None:
            with traffic.entered(real.members[0].place.netns):
                asyncio.run(run(work))

        yield go


async def ready(*hosts: PlayedHost) -> None:
    """Start hosts, and wait until each has the blocks that it takes by itself."""
    for host in hosts:
        host.start()
    await until(lambda: all(map(has_blocks, hosts)), "each has its blocks")


def has_blocks(host: PlayedHost) -> bool:
    """Whether a host has a block of each family, and if it drew the first, a further one.

    There is only one address for containers in the first block of a subnet.
    """
    return bool(fours(host) - {FIRST}) and len(fours(host)) < len(host.blocks())


async def running(host: PlayedHost, id_: str, ip: str = "") -> list[str]:
    """Start a container as soon as that can be; returns its addresses."""
    found: list[str] = []

    def start() -> bool:
        found[:] = map(str, host.run(id_, ip=ip))
        return True

    await until(start, f"{id_} starts on {host.name}")
    return found


async def refused(host: PlayedHost, id_: str, ip: str) -> str:
    """Start a container until that is refused; returns why."""
    reasons: list[str] = []

    def start() -> bool:
        try:
            host.run(id_, ip=ip)
        except InvalidRequest as error:
            if "is not claimed yet" in str(error) or "wait" in str(error):
                return False
            reasons.append(str(error))
            return "cannot be claimed" in str(error)
        raise RuntimeError(f"{id_} has started")

    await until(start, f"{id_} is refused on {host.name}")
    return reasons[-1]


def fours(host: PlayedHost) -> set[str]:
    """The IPv4 blocks that a host holds."""
    return {block for block in host.blocks() if ":" not in block}


def inside(host: PlayedHost) -> str:
    """An address for a container, of a block that a host holds.

    The first ones may be for the network and for hosts, and the last one for a broadcast.
    """
    block = ip_network(min(fours(host)))
    return str(block[3] if str(block) == FIRST else block[2])


def test_a_host_joins_and_takes_a_block_of_each_family(play: Play) -> None:
    async def work(played: Played) -> None:
        a = played.add("a")
        await ready(a)
        assert {tuple(key.split("/")[:2]) for key in played.under("blocks")} == {
            ("net", "4"), ("net", "6"),
        }  # fmt: skip
        assert set(played.under("hosts")) == set(played.under("alive")) == {"a"}
        assert played.under("addresses") == {"192.0.2.10": "a"}
        assert played.get("layout") == "1"
        four, six = map(ip_address, await running(a, "c1"))
        assert any(four in ip_network(block) for block in fours(a))
        assert six.version == 6

    play(work)


def test_hosts_take_other_blocks_and_know_of_each_other(play: Play) -> None:
    async def work(played: Played) -> None:
        hosts = [played.add(name) for name in "abcde"]
        await ready(*hosts)

        def know_all() -> bool:
            every = set[str]().union(*(host.blocks() for host in hosts))
            assert len(every) == sum(len(host.blocks()) for host in hosts)
            return all(set(host.peer_blocks()) == every - host.blocks() for host in hosts)

        await until(know_all)
        assert all(len(host.known.peers()) == 4 for host in hosts)

    play(work)


def test_blocks_are_taken_ahead_of_need_and_given_back(play: Play) -> None:
    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a, b)
        for number in range(12):
            await running(a, f"c{number}")
        await until(lambda: len(fours(a)) >= 5)
        for number in range(12):
            a.end(f"c{number}")
        await until(lambda: len(fours(a)) <= 2 and not a.blocks("leaving"))
        ours = {f"{ip_network(block)[0]}" for block in fours(a) | fours(b)}
        await until(lambda: len([k for k in played.under("blocks") if "/4/" in k]) == len(ours))

    play(work)


def test_the_last_block_is_taken_by_one_of_many(play: Play) -> None:
    async def work(played: Played) -> None:
        small = network(IPv4Network("10.9.0.0/28"))
        hosts = [played.add(name, small) for name in "abcde"]
        for host in hosts:
            host.start()
        await until(lambda: sum(len(host.blocks()) for host in hosts) == 4)
        without = next(host for host in hosts if not host.blocks())
        await until(lambda: without.logged("no block is free"))
        with pytest.raises(InvalidRequest, match="no free address"):
            without.run("c")
        host = next(host for host in hosts if host.blocks())
        await host.stop()
        await played.remove(host.name, force=True)
        await until(lambda: sum(len(o.blocks()) for o in hosts if o is not host) == 4, "it again")

    play(work)


def test_an_address_that_nobody_has_is_claimed(play: Play) -> None:
    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a, b)
        free = str(next(unheld(a, b))[2])
        assert (await running(a, "fixed", free))[0] == free
        await until(lambda: b.peer_blocks().get(f"{free}/32") == "a")
        reason = await refused(b, "other", free)
        assert 'host "a" has it' in reason
        a.end("fixed")
        assert (await running(b, "moved", free))[0] == free
        await until(lambda: a.peer_blocks().get(f"{free}/32") == "b")
        b.end("moved")
        await until(lambda: not played.under("claims"))

    play(work)


def test_an_address_of_another_host_is_lent(play: Play) -> None:
    async def work(played: Played) -> None:
        a, b, c = played.add("a"), played.add("b"), played.add("c")
        await ready(a, b, c)
        address = inside(b)
        assert (await running(a, "fixed", address))[0] == address
        with pytest.raises(InvalidRequest):
            b.run("own", ip=address)
        await until(lambda: c.peer_blocks().get(f"{address}/32") == "a")
        a.end("fixed")
        await until(lambda: not played.under("claims"))
        assert (await running(b, "own", address))[0] == address
        assert 'host "b" ha' in await refused(a, "again", address)
        b.end("own")
        assert (await running(a, "again", address))[0] == address

    play(work)


def test_what_is_no_ones_cannot_be_claimed(play: Play) -> None:
    async def work(played: Played) -> None:
        a = played.add("a")
        await ready(a)
        block = next(unheld(a))
        with pytest.raises(InvalidRequest, match="kept for the host"):
            a.run("c", ip=str(block[0]))

    play(work)


def test_an_address_of_a_silent_host_is_refused(play: Play) -> None:
    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a, b)
        address = inside(b)
        await b.stop()
        await until(lambda: "b" not in played.under("alive"))
        assert "is not heard of" in await refused(a, "fixed", address)

    play(work)


def test_either_process_is_killed_and_nothing_changes(play: Play) -> None:
    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a, b)
        await running(a, "c1")
        lease, blocks = played.under("alive"), a.blocks()
        await a.kill_agent()
        await running(a, "c2")
        a.start_agent()
        await until(lambda: a.logged("in the cluster")[1:])
        a.kill_service()
        a.start_service()
        await until(lambda: a.logged("the service tells what this host has")[2:])
        assert a.blocks() >= blocks
        assert played.under("alive") == lease
        assert not [fact for fact in b.facts if isinstance(fact, HostSilent)]
        for number in range(3, 9):
            await running(a, f"c{number}")

    play(work)


def test_a_host_that_starts_again_has_its_blocks(play: Play) -> None:
    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a, b)
        blocks = a.blocks()
        await a.reboot()
        assert a.run("at once")  # although the start before is still heard of
        assert a.blocks() == blocks
        await until(lambda: a.logged("in the cluster")[1:])
        assert a.blocks() == blocks

    play(work)


def test_a_lease_store_that_was_lost_gets_its_blocks_back(play: Play) -> None:
    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a, b)
        for number in range(4):
            await running(a, f"c{number}")
        await until(lambda: played.agrees(a))
        before = len(a.logged("block taken"))
        a.kill_service()
        for file in a.directory.glob("leases.db*"):
            file.unlink()
        a.start_service()
        await until(lambda: len(a.logged("block taken")) >= before * 2)
        await until(lambda: played.agrees(a) and played.agrees(b))
        assert not a.logged("this host takes no part in the cluster")

    play(work)


def test_a_host_gets_another_address(play: Play) -> None:
    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a, b)
        blocks = a.blocks()
        await a.stop()
        a.readdress("192.0.2.77")
        a.start()
        await until(lambda: str(b.known.peers()["a"].address) == "192.0.2.77")
        assert set(played.under("addresses")) == {"192.0.2.77", "192.0.2.11"}
        assert a.blocks() == blocks
        assert not [fact for fact in a.facts if isinstance(fact, BlockLost)]

    play(work)


def test_a_silent_host_is_removed_and_returns(play: Play) -> None:
    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a, b)
        await running(a, "c")
        with pytest.raises(StillAlive):
            await played.remove("a")
        with pytest.raises(NoSuchHost, match='did you mean "a"'):
            await played.remove("aa")
        await a.stop()
        await until(lambda: "a" not in played.under("alive"))
        back = await played.remove("a")
        assert len(back.blocks) == 2
        await until(lambda: not b.peer_blocks())
        assert set(played.under("hosts")) == {"b"}
        with pytest.raises(NoSuchHost):
            await played.remove("a")
        a.start()
        await until(lambda: {f.network for f in a.facts if isinstance(f, BlockLost)} == {"net"})
        await until(lambda: a.blocks() and set(b.peer_blocks()) == a.blocks())

    play(work)


def test_a_living_host_that_is_removed_stops_to_lease(play: Play) -> None:
    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a, b)
        await running(a, "c")
        address = next(iter(a.leased()))[1]
        await played.remove("a", force=True)
        await until(lambda: not a.blocks())
        with pytest.raises(InvalidRequest):
            a.run("more")
        assert address in {address for _, address in a.leased()}
        assert a.blocks("lost")
        await asyncio.sleep(0.2)  # it does not come back by itself
        assert set(played.under("hosts")) == {"b"}
        await a.kill_agent()
        a.start_agent()
        await until(lambda: len(a.blocks()) >= 2 and not a.blocks("lost"))
        await running(a, "more")

    play(work)


def test_two_hosts_of_one_name(play: Play) -> None:
    async def work(played: Played) -> None:
        a = played.add("a")
        other = played.add("other", host="a")
        await ready(a)
        other.start()
        await until(lambda: other.logged("this host takes no part in the cluster"))
        assert "another machine is host" in other.logged(
            "this host takes no part in the cluster")[0]["reason"]  # fmt: skip
        assert not other.blocks()
        await a.stop()
        await until(lambda: other.logged("this host takes no part in the cluster")[1:])
        assert "hosts rm a" in other.logged(
            "this host takes no part in the cluster")[1]["reason"]  # fmt: skip
        assert not other.blocks()
        await played.remove("a")
        await until(other.blocks)
        a.start()
        await until(lambda: not a.blocks())
        assert other.blocks()

    play(work)


def test_a_name_that_cannot_stand_in_etcd(play: Play) -> None:
    """The name of a machine may be any."""

    async def work(played: Played) -> None:
        host = played.add("a", host="my_host/x")
        host.start()
        await until(lambda: host.logged("this host takes no part in the cluster"))
        assert "another one by `host`" in host.logged(
            "this host takes no part in the cluster")[0]["reason"]  # fmt: skip
        assert not played.real.under(played.prefix)

    play(work)


def test_a_removal_is_killed_at_each_request(play: Play) -> None:
    async def work(played: Played) -> None:
        played.add("a")
        keys, own = Keys(played.prefix), '{"host": "b", "incarnation": "1"}'
        network = '{"subnets": ["10.9.0.0/26"], "block": 4, "number": 1}'
        for at in range(20):
            for after in (False, True):
                for key, value in {
                    keys.host("b"): '{"incarnation": "1", "address": "192.0.2.99"}',
                    keys.address("192.0.2.99"): "b", keys.network("net"): network,
                    keys.block(Part("net", 4, 0x0A090004)): own, keys.endpoint("b", "1"): "{}",
                }.items():  # fmt: skip
                    played.real.put(key, value)
                async with played.client() as client:
                    client.kill, client.after = at, after
                    with suppress(Killed):
                        await remove_host(client, keys, "b")
                with suppress(NoSuchHost):
                    await played.remove("b")
                assert set(played.real.under(played.prefix)) == {keys.network("net")}, at

    play(work)


def test_two_hosts_of_one_address(play: Play) -> None:
    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b", address="192.0.2.10")
        await ready(a)
        b.start()
        await until(lambda: b.logged("this host takes no part in the cluster"))
        assert "is the address of host" in b.logged(
            "this host takes no part in the cluster")[0]["reason"]  # fmt: skip
        assert not b.blocks()

    play(work)


def test_a_clone_of_a_host_leases_nothing(play: Play) -> None:
    async def work(played: Played) -> None:
        a = played.add("a")
        await ready(a)
        await a.kill_agent()
        a.kill_service()
        clone = played.add("clone", host="a", machine="m-a")
        clone.boots = 7
        shutil.copytree(a.directory, clone.directory, dirs_exist_ok=True,
                        ignore=lambda _, names: [n for n in names if "sock" in n])  # fmt: skip
        a.start()
        await until(lambda: a.logged("in the cluster")[1:])
        has = a.blocks()
        clone.start()
        await until(lambda: clone.blocks("lost") and not clone.blocks())
        assert has <= a.blocks()

    play(work)


@pytest.mark.parametrize(
    "other",
    [
        network(IPv4Network("10.8.0.0/24")),
        network(IPv4Network("10.9.0.0/24")),
        network(block=8),
    ],
)
def test_another_subnet_or_block_size_takes_no_part(play: Play, other: Network) -> None:
    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b", other)
        await ready(a)
        b.start()
        await until(lambda: b.logged("this host takes no part in a network"))
        assert not b.blocks()
        assert b.logged("in the cluster")

    play(work)


def test_each_network_has_a_number_of_its_own(play: Play) -> None:
    async def work(played: Played) -> None:
        nets = [network(IPv4Network(f"10.{n}.0.0/24"), name=f"n{n}") for n in range(6)]
        hosts = [played.add(name, *nets) for name in "abc"]
        for host in hosts:
            host.start()
        # One that draws the first block of a subnet, with one address in it, takes a further one.
        await until(lambda: all(len(host.known.numbers()) == 6 for host in hosts))
        await until(lambda: all(len(host.blocks()) >= 6 for host in hosts))
        numbers = [host.known.numbers() for host in hosts]
        assert numbers[0] == numbers[1] == numbers[2]
        assert sorted(numbers[0].values()) == [1, 2, 3, 4, 5, 6]

    play(work)


def test_a_layout_of_another_version_is_left_alone(play: Play) -> None:
    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a)
        played.real.put(f"{played.prefix}/v1/layout", "2")
        await until(lambda: "another version" in str(a.lines[-1]) or a.logged(
            "this host takes no part in the cluster"))  # fmt: skip
        has = a.blocks()
        b.start()
        await until(lambda: b.logged("this host takes no part in the cluster"))
        assert has
        assert has <= a.blocks(), "what it has is its own"
        assert "b" not in played.under("hosts")
        played.real.put(f"{played.prefix}/v1/layout", "1")
        await until(b.blocks)

    play(work)


@pytest.mark.accident
def test_it_is_killed_at_each_request(play: Play) -> None:
    """Of joining, taking, claiming, and giving back; before the request, or after its answer."""

    async def lives(host: PlayedHost, address: str) -> None:
        ids = []
        for number, ip in enumerate(("", "", "", address, "")):
            for _ in range(6):
                try:
                    host.run(f"c{number}", ip=ip)
                except InvalidRequest:
                    await asyncio.sleep(0.02)
                else:
                    ids.append(f"c{number}")
                    break
        for id_ in ids:
            host.end(id_)
        await asyncio.sleep(0.2)

    async def work(played: Played) -> None:
        small = network(IPv4Network("10.9.0.0/26"))
        a, b = played.add("a", small), played.add("b", small)
        b.start()
        await until(b.blocks)
        first, step = sample("killed at each request", 6)
        for at in range(first - 1, 30, step):
            for after in (False, True):
                await a.stop()
                a.start_service()
                a.start_agent(at, after=after)
                await lives(a, inside(b))
                await a.kill_agent()
                a.start_agent()
                await until(lambda: a.blocks() and played.agrees(a), f"killed at {at}")
                played.check()
                if after:  # with another incarnation, all of it is new
                    await played.remove("a", force=True)

    play(work)


def test_etcd_is_away_and_returns(play: Play) -> None:
    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a, b)
        await until(lambda: set(a.peer_blocks()) == b.blocks())
        before = a.blocks(), a.peer_blocks()
        played.real.stop()
        await until(lambda: a.logged("etcd does not answer, what is known stays"))
        await until(lambda: any(isinstance(fact, ClusterUnreachable) for fact in a.facts))
        await running(a, "c")
        with pytest.raises(InvalidRequest, match="etcd does not answer"):
            a.run("fixed", ip=inside(b))
        await a.kill_agent()
        a.start_agent()  # without etcd it knows nothing, and so changes nothing
        await until(lambda: a.logged("etcd does not answer, what is known stays")[1:])
        a.kill_service()
        a.start_service()
        await until(lambda: a.logged("the service tells what this host has")[1:])
        await running(a, "d")
        assert (a.blocks(), a.peer_blocks()) == before
        played.real.start()
        await until(lambda: a.logged("etcd answers") and b.logged("etcd answers"))
        for number in range(8):
            await running(a, f"c{number}")

    play(work)


def test_a_change_whose_answer_is_lost_is_no_problem_once_it_is_there(play: Play) -> None:
    async def work(played: Played) -> None:
        a = played.add("a")
        await ready(a)
        assert a.client is not None
        a.client.loses = True
        free = next(unheld(a))[2]
        assert (await running(a, "fixed", str(free)))[0] == str(free)
        assert a.logged("etcd does not make a change")
        assert a.agent is not None
        await until(lambda: a.agent and a.agent.text == "in the cluster", "nothing is wrong")

    play(work)


def test_the_history_is_compacted_while_a_host_is_cut_off(play: Play) -> None:
    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a, b)
        a.cut_off()
        await until(lambda: a.logged("etcd does not answer, what is known stays"))
        for number in range(12):
            await running(b, f"c{number}")
        played.real.compact()
        a.cut_off(away=False)
        await until(lambda: set(a.peer_blocks()) == b.blocks())
        assert not a.blocks("lost")

    play(work)


def test_etcd_is_restored_from_before_anybody_came(play: Play) -> None:
    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        snapshot = played.real.snapshot()
        await ready(a, b)
        for number in range(6):
            await running(a, f"c{number}")
        have = a.blocks(), b.blocks()
        played.real.restore(snapshot)
        await until(lambda: a.logged(RESTORED) and b.logged(RESTORED))
        await until(lambda: len(played.under("blocks")) >= len(have[0] | have[1]))
        await until(lambda: set(played.under("alive")) == {"a", "b"})
        assert have[0] <= a.blocks()
        assert have[1] <= b.blocks()
        assert not [fact for fact in a.facts + b.facts if isinstance(fact, BlockLost)]
        for number in range(6, 12):  # also once new ones may be taken again
            await running(a, f"c{number}")

    play(work)


def test_what_changed_hands_since_the_snapshot_is_its_last_holders(play: Play) -> None:
    async def work(played: Played) -> None:
        small = network(IPv4Network("10.9.0.0/28"))
        a, b = played.add("a", small), played.add("b", small)
        a.start()
        await until(a.blocks)
        b.start()
        await until(b.blocks)
        lent = inside(a)
        assert (await running(b, "lent", lent))[0] == lent
        for number in range(5):
            await running(a, f"a{number}")
        await until(lambda: len(fours(a)) == 3)
        before = a.blocks()
        snapshot = played.real.snapshot()
        for number in range(5):
            a.end(f"a{number}")
        b.end("lent")
        await until(lambda: len(a.blocks()) < 3 and not played.under("claims"))
        assert (await running(a, "own", lent))[0] == lent
        for number in range(3):  # that many fit, whichever block was given back
            await running(b, f"b{number}")
        await until(lambda: before & b.blocks())
        have = {host.name: host.blocks() for host in (a, b)}
        played.real.restore(snapshot)
        await until(lambda: a.logged(RESTORED) and b.logged(RESTORED))
        for number in range(20):
            with suppress(InvalidRequest):
                a.run(f"more{number}")
            await asyncio.sleep(0.05)
            played.check()
        await until(lambda: played.get("restored") is None, "the hold has ended")
        assert not [fact for fact in a.facts + b.facts if isinstance(fact, BlockLost)]
        await until(lambda: played.agrees(a) and played.agrees(b))
        assert all(have[host.name] <= host.blocks() for host in (a, b))

    play(work)


def test_etcd_is_restored_and_has_had_many_changes_since(play: Play) -> None:
    """A host that was cut off meanwhile sees no smaller revision, but another history."""

    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a, b)
        snapshot = played.real.snapshot()
        address = next(str(block[2]) for block in unheld(a, b))
        await running(a, "fixed", address)
        revision = played.real.revision()
        a.cut_off()
        await until(lambda: a.logged("etcd does not answer, what is known stays"))
        played.real.restore(snapshot)
        await until(lambda: b.logged("etcd is not what it was, all is read again"))
        while played.real.revision() < revision + 10:
            played.real.put(f"{played.prefix}/v1/endpoints/b/1", "{}")
        assert not played.under("claims")
        a.cut_off(away=False)
        await until(lambda: played.under("claims"), "the claim is put back")
        assert a.logged("etcd is not what it was, all is read again")

    play(work)


def test_a_host_that_was_told_no_change_notices_a_restore(play: Play) -> None:
    """It has read all, and then its machine was paused: etcd answers it all the time."""

    async def work(played: Played) -> None:
        a = played.add("a")
        await ready(a)
        snapshot = played.real.snapshot()
        address = next(str(block[2]) for block in unheld(a))
        await running(a, "fixed", address)
        await a.kill_agent()
        a.start_agent()
        await until(lambda: a.logged("in the cluster")[1:])
        revision = played.real.revision()
        played.real.restore(snapshot)
        while played.real.revision() < revision + 10:
            played.real.put(f"{played.prefix}/v1/endpoints/b/1", "{}")
        await until(lambda: a.logged(RESTORED))
        await until(lambda: played.under("claims"), "the claim is put back")

    play(work)


@pytest.mark.parametrize("others", [True, False])
def test_a_restore_is_noticed_although_the_history_was_compacted(play: Play, others: bool) -> None:
    """By what others have in etcd since, or by what this host has and etcd has not."""

    async def work(played: Played) -> None:
        a = played.add("a")
        await ready(a)
        snapshot = played.real.snapshot()
        if not others:
            await running(a, "fixed", next(str(block[2]) for block in unheld(a)))
        key = f"{played.prefix}/v1/endpoints/b/1"
        made = [played.real.ctl("put", "--write-out=json", "--", key, str(i)) for i in range(5)]
        revision = json.loads(made[-1].stdout)["header"]["revision"]
        await until(lambda: a.sees(revision))
        a.cut_off()
        await until(lambda: a.logged("etcd does not answer, what is known stays"))
        played.real.restore(snapshot)
        if others:
            block = Keys(played.prefix).block(part_of("net", next(unheld(a))))
            played.real.put(block, '{"host": "b", "incarnation": "1"}')
        while played.real.revision() < revision + 10:
            played.real.put(key, "{}")
        played.real.compact()
        a.cut_off(away=False)
        await until(lambda: a.logged(RESTORED))

    play(work)


def test_a_host_that_was_away_during_a_restore_takes_nothing_that_it_had_given_back(
    play: Play,
) -> None:
    """Others have put back what they have, and so etcd has had more changes since."""

    async def work(played: Played) -> None:
        a = played.add("a")
        await ready(a)
        for number in range(12):
            await running(a, f"c{number}")
        await until(lambda: played.agrees(a) and len(fours(a)) >= 5)
        had = a.blocks()
        snapshot, noted = played.real.snapshot(), played.real.revision()
        for number in range(12):
            a.end(f"c{number}")
        await until(lambda: played.agrees(a) and len(fours(a)) <= 2)
        has, revision = a.blocks(), played.real.revision()
        a.kill_service()
        a.start_service()  # it notes what it has heard of, which it does else now and then
        await until(lambda: a.known.identity().revision > noted)
        await a.kill_agent()
        played.real.restore(snapshot)
        while played.real.revision() < revision + 10:
            played.real.put(f"{played.prefix}/v1/endpoints/b/1", "{}")
        given_back, facts = had - has, len(a.facts)
        assert given_back
        a.start_agent()
        await until(lambda: a.logged(RESTORED))
        await until(lambda: played.agrees(a), "they are given back once more")
        taken = {str(fact.prefix) for fact in a.facts[facts:] if isinstance(fact, BlockTaken)}
        assert not given_back & taken

    play(work)


def unheld(*hosts: PlayedHost) -> Iterator[IPv4Network]:
    """Blocks that none of the hosts holds."""
    taken = set[str]().union(*(host.blocks() for host in hosts))
    for block in IPv4Network("10.9.0.0/24").subnets(new_prefix=30):
        if str(block) not in taken and str(block) != FIRST:
            yield block


def test_garbage_in_etcd_is_logged_and_left_alone(play: Play) -> None:
    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a)
        garbled, theirs = itertools.islice(unheld(a), 2)
        for key, value in {
            "hosts/x": "{", "hosts/../y": "{}", "hosts/z": '{"incarnation": 5}', "alive/x": "\xff",
            "networks/net2": "[]", "networks/ net": "{}",
            f"blocks/{key_of(garbled, 'net')}": "null",
            "blocks/net/4/0a0900": "{}", "blocks/net/9/00": "{}", "blocks/nowhere/4/0a090020":
            '{"host": "x", "incarnation": "1"}', "claims/net/4/0a090020": "what?", "claims": "",
            "blocks/net/4/0a090021": '{"host": "x", "incarnation": "1"}', "addresses/what": "?",
            f"blocks/{key_of(theirs, 'net')}": '{"host": "x", "incarnation": "1"}',
            "endpoints/": "", "": "",
            "claims/net/4/ffffffff": '{"host": "x", "incarnation": "1", "lent": "x"}',
        }.items():  # fmt: skip
            played.real.put(f"{played.prefix}/v1/{key}", value)
        await ready(b)
        for number in range(6):
            await running(b, f"c{number}")
        await until(lambda: set(a.peer_blocks()) >= b.blocks())
        assert a.peer_blocks().get(str(theirs)) == "x"
        assert a.logged("etcd has something that is not understood")
        assert str(garbled) not in a.blocks() | b.blocks()

    play(work)


@pytest.mark.parametrize("name", ["n" * 300, "\udcff", "\0", " "])
def test_what_names_no_network_is_left_alone(play: Play, name: str) -> None:
    """Though it says that a host has it: neither process could tell the other of it."""

    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a, b)
        record = json.loads(played.get("hosts/a") or "")
        record = {"host": "a", "incarnation": record["incarnation"], "lent": "a"}
        assert b.client is not None
        for table in ("claims", "blocks"):
            key = f"{played.prefix}/v1/{table}/{name}/4/0a090004"
            await b.client.txn([], [put(key, json.dumps(record).encode())])
        await until(lambda: a.logged("etcd has something that is not understood")[1:])
        address = inside(b)
        assert (await running(a, "fixed", address))[0] == address
        assert not a.killed

    play(work)


def test_an_address_whose_claim_is_garbage_is_somebody_elses(play: Play) -> None:
    """Even for a host that has never read what it was before."""

    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a, b)
        address = inside(b)
        await running(a, "fixed", address)
        await a.kill_agent()
        await b.kill_agent()
        (key,) = played.under("claims")
        played.real.put(f"{played.prefix}/v1/claims/{key}", "{")
        b.start_agent()
        await until(lambda: b.logged("in the cluster")[1:])
        with pytest.raises(InvalidRequest):
            b.run("own", ip=address)
        for number in range(4):
            await running(b, f"c{number}")
        played.check()
        a.start_agent()
        await until(lambda: '"a"' in (played.get(f"claims/{key}") or ""), "it is put back")
        await until(lambda: played.agrees(a) and played.agrees(b))

    play(work)


def test_etcd_is_restored_while_no_watcher_cluster_runs(play: Play) -> None:
    """Each has noted how much it has seen with what it has, and so notices it at its start."""

    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a, b)
        snapshot = played.real.snapshot()
        for _ in range(10):  # more than there will be once it is restored
            played.real.put("/elsewhere", "")
        seen = played.real.revision()
        for number in range(3):
            await running(a, f"c{number}")
        await until(lambda: len(fours(a)) > 1)
        await until(lambda: fours(a) <= set(b.peer_blocks()))
        await until(lambda: min(h.known.identity().revision for h in (a, b)) >= seen, "it is noted")
        for host in (a, b):
            await host.kill_agent()
        played.real.restore(snapshot)
        b.start_agent()
        await until(lambda: b.logged(RESTORED), "the one notices it that has lost nothing")
        a.start_agent()
        await until(lambda: a.logged(RESTORED))
        await until(lambda: played.get("restored") is None, "the hold has ended")
        await until(lambda: played.agrees(a) and played.agrees(b))
        assert not a.blocks("lost")

    play(work)


def restored(played: Played, snapshot: Path, ago: int) -> str:
    """Restore etcd, have it be past a revision, and say so; returns the lease of that."""
    played.real.restore(snapshot)
    while played.real.revision() < ago + 10:
        played.real.put(f"{played.prefix}/v1/endpoints/b/1", "{}")
    return played.real.put_for_long(f"{played.prefix}/v1/restored", "")


def test_a_host_that_a_restored_etcd_does_not_know_hears_of_it_by_the_others(play: Play) -> None:
    """It has noticed nothing itself. It was not removed, and puts back what it has."""

    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b")
        await ready(a)
        snapshot = played.real.snapshot()
        await ready(b)
        await running(b, "c")
        await until(lambda: played.agrees(a) and played.agrees(b))
        has, who = b.blocks(), b.known.identity().incarnation
        await a.kill_agent()
        await b.kill_agent()
        lease = restored(played, snapshot, played.real.revision())
        b.start_agent()
        await until(lambda: len(played.under("blocks")) >= len(has | a.blocks()), "put back")
        assert (b.blocks(), b.known.identity().incarnation) == (has, who)
        a.start_agent()
        await until(lambda: set(played.under("alive")) == {"a", "b"})
        played.real.ctl("lease", "revoke", lease)
        await until(lambda: played.agrees(a) and played.agrees(b))
        assert (b.blocks(), b.known.identity().incarnation) == (has, who)
        assert not [fact for fact in a.facts + b.facts if isinstance(fact, BlockLost)]

    play(work)


@pytest.mark.parametrize("silent", [False, True])
def test_an_address_that_was_lent_is_put_back_at_once(play: Play, silent: bool) -> None:
    """Although its lender has not heard of it since, or is not heard of."""

    async def work(played: Played) -> None:
        a, b, c = played.add("a"), played.add("b"), played.add("c")
        await ready(a, b, c)
        snapshot = played.real.snapshot()
        address = inside(b)
        await running(a, "fixed", address)
        await until(lambda: c.peer_blocks().get(f"{address}/32") == "a")
        for host in (a, b, c):
            await host.kill_agent()
        lease = restored(played, snapshot, played.real.revision())
        await until(lambda: not played.under("alive"))
        for host in (a, c) if silent else (a, b, c):
            host.start_agent()
        await until(
            lambda: (
                [json.loads(claim)["lent"] for claim in played.under("claims").values()]
                not in ([], [""])
            ),
            "it counts",
        )
        played.real.ctl("lease", "revoke", lease)
        if silent:
            b.start_agent()
        await until(lambda: all(map(played.agrees, (a, b, c))))
        assert not [fact for fact in a.facts + b.facts if isinstance(fact, BlockLost)]

    play(work)


@pytest.mark.parametrize("address", ["192.0.2.10", "192.0.2.77"])
def test_a_host_that_has_started_again_since_the_snapshot_has_the_time_to_put_back(
    play: Play, address: str
) -> None:
    """What was restored has its earlier start, which is heard of for as long as nothing is new."""

    async def work(played: Played) -> None:
        small = network(IPv4Network("10.9.0.0/28"))
        a, b = played.add("a", small), played.add("b", small)
        a.hold = b.hold = 1
        a.start()
        await until(a.blocks)
        b.start()
        await until(b.blocks)
        snapshot = played.real.snapshot()
        a.readdress(address)
        await a.reboot()
        await until(lambda: a.logged("in the cluster")[1:])
        facts = len(a.facts)
        for number in range(5):
            await running(a, f"a{number}")
        await until(lambda: len(a.blocks()) == 3)
        has = a.blocks()
        await until(lambda: has <= b.peer_blocks().keys())
        played.real.restore(snapshot)
        await until(lambda: b.logged(RESTORED) and a.logged(RESTORED))
        while not set(played.under("blocks")) >= {key_of(block, "net") for block in has}:
            for number in range(4):
                with suppress(InvalidRequest):
                    b.run(f"b{number}")
            await asyncio.sleep(0.05)
        await until(lambda: played.get("restored") is None, "the hold has ended")
        await until(lambda: played.agrees(a) and played.agrees(b))
        assert not [fact for fact in a.facts[facts:] + b.facts if isinstance(fact, BlockLost)]

    play(work)


def test_a_host_that_cannot_take_part_for_a_moment_after_a_restore_keeps_its_blocks(
    play: Play,
) -> None:
    """Its address was another one's, who has to say that it has another one now."""

    async def work(played: Played) -> None:
        a, b = played.add("a"), played.add("b", address="192.0.2.10")
        await ready(a)
        snapshot = played.real.snapshot()
        await a.stop()
        a.readdress("192.0.2.77")
        a.start()
        await until(lambda: "192.0.2.77" in played.under("addresses"))
        await ready(b)
        await running(b, "c")
        await until(lambda: played.agrees(a) and played.agrees(b))
        has = b.blocks()
        await a.kill_agent()
        await b.kill_agent()
        lease = restored(played, snapshot, played.real.revision())
        b.start_agent()
        await until(lambda: b.logged("this host takes no part in the cluster"))
        a.start_agent()
        await until(lambda: len(played.under("blocks")) >= len(has | a.blocks()), "put back")
        played.real.ctl("lease", "revoke", lease)
        await until(lambda: played.agrees(a) and played.agrees(b))
        assert b.blocks() == has
        assert not [fact for fact in b.facts if isinstance(fact, BlockLost)]

    play(work)
