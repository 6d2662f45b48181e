"""Endpoints in a real etcd: what a host writes there, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.names.world import container, network, sandbox
from tests.support import traffic
from tests.support.agreeing import until
from tests.support.etcd import Etcd as RealEtcd
from tests.support.host.machine import Machine
from watcher.cluster.endpoints.endpoints import Endpoints
from watcher.cluster.endpoints.publisher import TOGETHER
from watcher.cluster.endpoints.sandboxes import Sandboxes
from watcher.cluster.etcd.client import Etcd
from watcher.cluster.etcd.requests import put
from watcher.cluster.protocol import StatusRow
from watcher.cluster.registry.changes import PutEndpoints, Self, make
from watcher.cluster.registry.follow import Follower
from watcher.cluster.registry.keys import Keys
from watcher.config.load import Source
from watcher.config.settings import Cluster, Config
from watcher.log.logger import SILENCE

KEYS = Keys("/watcher")
HOST = b'{"incarnation": "1", "address": "192.0.2.10"}'

type Work = Callable[[Etcd, Writer], Awaitable[None]]


@pytest.fixture
def real(machine: Machine) -> RealEtcd:
    return RealEtcd((machine.here, "192.0.2.2"))


class Writer:
    """What `watcher cluster` of host `a` does with endpoints.

    Attributes:
        known: what the service has told it.
    """

    def __init__(self, etcd: Etcd, modified: int, run_dir: Path) -> None:
        self._etcd = etcd
        self._me = Self("a", "1", modified)
        config = Config(run_dir=str(run_dir), cluster=Cluster(host="a"))
        self.endpoints = Endpoints(
            config, lambda: Source(config), self, asyncio.get_running_loop(), SILENCE
        )
        self._follower = Follower(etcd, KEYS, SILENCE, self._changed, self.endpoints)
        self.known: Sandboxes = self.endpoints._sandboxes()
        self.known.take(replace(network(), cluster=True))

    async def put_endpoints(self, changes: Mapping[str, bytes | None]) -> int:
        done = await make(self._etcd, KEYS, PutEndpoints(self._me, changes))
        assert done.succeeded
        return done.revision

    def _changed(self) -> None:
        picture, connected = self._follower.picture, not self._follower.problem
        self.endpoints.seen(picture, "a", StatusRow(connected=connected), takes_part=connected)

    def tell(self) -> None:
        """The state is complete."""
        self.endpoints._follower.known = self.known
        self.endpoints._replaced(self.known)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follower.run())
            group.create_task(self.endpoints.run())


def play(real: RealEtcd, run_dir: Path, work: Work) -> None:
    """Has a coroutine play with a host."""
    client = Etcd([member.url for member in real.members], None, "", "", SILENCE)

    async def run() -> None:
        async with client as etcd:
            joined = await etcd.txn([], [put(KEYS.host("a"), HOST)])
            writer = Writer(etcd, joined.revision, run_dir)
            running = asyncio.create_task(writer.run())
            try:
                await work(etcd, writer)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    with traffic.entered(real.members[0].place.netns):
        asyncio.run(run())


def start(writer: Writer, number: int) -> None:
    address = f"172.19.{number // 250}.{number % 250 + 2}"
    writer.known.take(sandbox(number, container(f"c{number}", f"web-{number}"), default=address))


def test_a_burst_of_a_thousand_starts_is_about_ten_writes(real: RealEtcd, tmp_path: Path) -> None:
    async def work(etcd: Etcd, writer: Writer) -> None:
        writer.tell()
        await until(lambda: writer.endpoints._publisher._revision > 0, "etcd was read")
        before = real.revision()
        for number in range(1, 1001):
            start(writer, number)
            await asyncio.sleep(0)
        prefix = KEYS.endpoint("a", "")
        found = 0
        while found < 1000:
            page = await etcd.range(*KEYS.endpoints("a"), keys_only=True)
            found = len(page.kvs)
        # A slow machine is some writes behind before the pauses have grown.
        assert 1000 // TOGETHER <= real.revision() - before <= 1000 // TOGETHER + 6
        assert page.kvs[0].key.startswith(prefix)
        assert {kv.version for kv in page.kvs} == {1}

    play(real, tmp_path, work)


def test_the_same_state_is_not_written_again_by_the_next_process(
    real: RealEtcd, tmp_path: Path
) -> None:
    async def first(etcd: Etcd, writer: Writer) -> None:
        for number in range(1, 251):
            start(writer, number)
        writer.tell()
        async with asyncio.timeout(20):
            while len((await etcd.range(*KEYS.endpoints("a"))).kvs) < 250:
                await asyncio.sleep(0.01)

    async def second(etcd: Etcd, writer: Writer) -> None:
        before = real.revision()
        for number in range(3, 251):
            start(writer, number)
        start(writer, 999)
        writer.tell()
        async with asyncio.timeout(20):
            while len((await etcd.range(*KEYS.endpoints("a"))).kvs) != 249:
                await asyncio.sleep(0.01)
        assert real.revision() - before == 1

    play(real, tmp_path, first)
    play(real, tmp_path, second)
