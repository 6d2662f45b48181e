"""The hosts that are not real, as far as they write: `python -m bench.cluster_size --write HOSTS`.

Each has this program's publisher, which batches and waits as `watcher cluster` does, and the same
transaction. They share a process and its connections to etcd. Each keeps its lease alive, too.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from bench.cluster_size.cluster import FIRST, KEYS, TTL, client, joined, name_of, value_of
from watcher.cluster.endpoints.publisher import Publisher
from watcher.cluster.etcd.client import Etcd
from watcher.cluster.etcd.errors import EtcdError
from watcher.cluster.etcd.requests import put
from watcher.cluster.registry.changes import PutEndpoints, Self, make
from watcher.cluster.registry.records import AliveRecord
from watcher.cluster.registry.records import encode as record
from watcher.log.logger import SILENCE

_NEXT: Final = 1 << 20
"""The number of the first sandbox that starts while it is measured."""


class Totals:
    """What all hosts have written.

    Attributes:
        writes, endpoints: how many.
        failed: how many writes were not made, or have no answer.
        not_kept, lapsed: how often a lease was not kept alive, and how many lapsed by that.
        took: seconds from each start until etcd has answered its write.
    """

    def __init__(self) -> None:
        self.writes = self.endpoints = self.failed = self.not_kept = self.lapsed = 0
        self.took: list[float] = []


class Host:
    """A host."""

    def __init__(self, number: int, etcd: Etcd, totals: Totals) -> None:
        self.number = number
        self.etcd = etcd
        self.totals = totals
        self._me: Self | None = None
        self._endpoints: dict[str, bytes] = {}
        self._started: dict[str, float] = {}
        self._next = _NEXT
        self._publisher = Publisher(self, SILENCE)
        self._publisher.replaced(self._endpoints)
        self._publisher.told_all(1)
        self._publisher.may_write(may=True)

    async def join(self) -> int:
        """Be in etcd, alive; returns the lease."""
        name = name_of(self.number)
        done = await self.etcd.txn([], joined(self.number))
        self._me = Self(name, name, done.revision)
        return await self.live()

    async def live(self) -> int:
        """Tell that it is alive; returns the lease."""
        name = name_of(self.number)
        lease = await self.etcd.grant(TTL)
        alive = record(AliveRecord(name, str(FIRST + self.number), name))
        await self.etcd.txn([], [put(KEYS.alive(name), alive, lease)])
        return lease

    async def fill(self, endpoints: int) -> None:
        """Have so many sandboxes already."""
        for first in range(0, endpoints, 100):
            some = range(first, min(first + 100, endpoints))
            await self.put_endpoints({str(n): value_of(self.number, n) for n in some})

    async def run(self) -> None:
        """Write, until cancelled."""
        await self._publisher.run()

    def start(self) -> None:
        """A container starts."""
        id_ = str(self._next)
        self._endpoints[id_] = value_of(self.number, self._next)
        self._next += 1
        self._started[id_] = time.monotonic()
        self._publisher.changed(id_)

    async def put_endpoints(self, changes: Mapping[str, bytes | None]) -> int:
        """As the agent does it, :meth:`watcher.cluster.agent.agent.Agent.put_endpoints`."""
        assert self._me is not None
        try:
            done = await make(self.etcd, KEYS, PutEndpoints(self._me, changes))
        except EtcdError:
            self.totals.failed += 1
            raise
        assert done.succeeded
        now = time.monotonic()
        self.totals.writes += 1
        self.totals.endpoints += len(changes)
        self.totals.took += [now - self._started.pop(id_, now) for id_ in changes]
        return done.revision

    @property
    def behind(self) -> int:
        """How many starts etcd has not answered yet."""
        return len(self._started)


async def write(count: int) -> None:
    """Do what the lines of the standard input say; each is answered by a line of JSON.

    `fill ENDPOINTS`: join and have so many each. `starts RATE SECONDS`: containers start, each on a
    host that is drawn. `burst COUNT`: so many start on the first host, at once.
    """
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    async with client() as etcd, asyncio.TaskGroup() as group:
        totals = Totals()
        hosts = [Host(number, etcd, totals) for number in range(count)]
        while line := await commands.readline():
            what, *numbers = line.decode().split()
            if what == "fill":
                for host in hosts:
                    lease = await host.join()
                    group.create_task(_keep_alive(host, lease, host.number / count))
                for host in hosts:
                    await host.fill(int(numbers[0]))
                    group.create_task(host.run())
                answer: dict[str, Any] = {}
            elif what == "starts":
                answer = await _starts(hosts, totals, float(numbers[0]), float(numbers[1]))
            else:
                answer = await _burst(hosts[0], totals, int(numbers[0]))
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


async def _keep_alive(host: Host, lease: int, phase: float) -> None:
    """As each host does it on its own, so that none waits for another."""
    await asyncio.sleep(TTL / 3 * phase)
    while True:
        pause = TTL / 3
        try:
            if not await host.etcd.keep_alive(lease):
                host.totals.lapsed += 1
                lease = await host.live()
        except EtcdError:
            host.totals.not_kept += 1
            pause = 1.0
        await asyncio.sleep(pause)


async def _starts(hosts: list[Host], totals: Totals, rate: float, seconds: float) -> dict[str, Any]:
    rng = random.Random(1)
    before = totals.writes, totals.endpoints, totals.failed, totals.not_kept, totals.lapsed
    totals.took.clear()
    began = time.monotonic()
    started = 0
    while (now := time.monotonic()) < began + seconds:
        while started < (now - began) * rate:
            rng.choice(hosts).start()
            started += 1
        await asyncio.sleep(1 / rate)
    took = time.monotonic() - began
    behind = sum(host.behind for host in hosts)
    took_each = sorted(totals.took) or [0.0]
    return {
        "started_a_second": round(started / took, 1),
        "written_a_second": round((totals.endpoints - before[1]) / took, 1),
        "writes_a_second": round((totals.writes - before[0]) / took, 1),
        "not_answered_at_the_end": behind,
        "failed": totals.failed - before[2],
        "leases_not_kept": totals.not_kept - before[3],
        "leases_lapsed": totals.lapsed - before[4],
        "start_to_answer_ms": _spread(took_each),
    }


async def _burst(host: Host, totals: Totals, count: int) -> dict[str, Any]:
    before, began = totals.writes, time.monotonic()
    for _ in range(count):
        host.start()
    while host.behind:
        await asyncio.sleep(0.01)
    seconds = time.monotonic() - began
    return {"writes": totals.writes - before, "written_after_ms": round(1000 * seconds)}


def _spread(seconds: list[float]) -> dict[str, float]:
    """In milliseconds, of times in their order."""
    return {
        "median": round(1000 * statistics.median(seconds), 1),
        "p95": round(1000 * seconds[int(0.95 * (len(seconds) - 1))], 1),
        "most": round(1000 * seconds[-1], 1),
    }
