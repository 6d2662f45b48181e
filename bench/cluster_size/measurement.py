"""What is measured, one after the other."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from bench.cluster_size import ways
from bench.cluster_size.cluster import (
    BLOCK,
    BLOCKS,
    KEYS,
    SUBNETS,
    client,
    in_watches,
    mark,
    marked,
    name_of,
    network,
)
from bench.cluster_size.etcd import counters, healthy, started, words
from bench.cluster_size.real import Real, Service
from bench.cluster_size.watches import Watches
from bench.contenders.commands import CHECKOUT, resident_of, run_time_of
from bench.native import compile_all
from watcher.cluster.etcd.errors import EtcdError
from watcher.cluster.etcd.requests import put
from watcher.cluster.registry.keys import part_of
from watcher.cluster.registry.records import BlockRecord
from watcher.cluster.registry.records import encode as record
from watcher.model.cluster import block_at

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from watcher.cluster.etcd.client import Etcd

_EVERY: Final = 1.0
"""Seconds between two marks while containers start."""
_PATIENCE: Final = 180.0
_FREE: Final = 200_000
"""The number of a block that no host has."""


class Options(Struct, frozen=True):
    """What to measure.

    Attributes:
        hosts: how many hosts there are that are not real.
        endpoints: of all of these together.
        real: how many hosts are real.
        readers: in how many processes the watches are.
        rates: how many containers start a second, phase by phase.
        phase: seconds of a phase.
        disk: a directory for etcd's data; empty: they are in memory, without fsync(2).
        before: checkouts of which the service's repairs are measured as well.
    """

    hosts: int
    endpoints: int
    real: int
    readers: int
    rates: tuple[int, ...]
    phase: float
    disk: str
    before: tuple[str, ...]


class Writers:
    """The process with the writers."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, hosts: int) -> Writers:
        """Start it."""
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bench.cluster_size", "--write", str(hosts),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    async def ask(self, *words: object) -> dict[str, Any]:
        """Have it do something, and what it says of that."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        answer: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return answer

    async def close(self) -> None:
        """End it."""
        self._process.kill()
        await self._process.wait()


class Measurement:
    """See the package."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._each = options.endpoints // options.hosts
        self._marks = 0
        self.found: dict[str, Any] = {"hosts": options.hosts, "endpoints": self._all}
        self._etcd: Etcd
        self._writers: Writers
        self._watches: Watches
        self._reals: list[Real] = []
        self._service: Service
        self._pids: dict[str, int] = {}

    @property
    def _all(self) -> int:
        return self._each * self._options.hosts

    async def run(self) -> None:
        """Measure all of it, and print it."""
        base = Path(mkdtemp(prefix="cluster-size-", dir="/run"))
        data = Path(mkdtemp(prefix="etcd-", dir=self._options.disk)) if self._options.disk else base
        compile_all(base)
        argv = words(data / "data")
        try:
            with started(argv if self._options.disk else [*argv, "--unsafe-no-fsync"]) as etcd:
                await healthy()
                self._pids["etcd"] = etcd.pid
                async with client() as self._etcd:
                    await self._all_of_it(base)
        finally:
            if self._options.disk:
                subprocess.run(["rm", "-r", str(data)], check=True)
        print(json.dumps(self.found, indent=2))

    def _say(self, name: str, of: Any) -> None:
        self.found[name] = of
        sys.stderr.write(f"{name}: {json.dumps(of)}\n")

    async def _all_of_it(self, base: Path) -> None:
        self._writers = await Writers.start(self._options.hosts)
        self._pids["writers"] = self._writers.pid
        try:
            began = time.monotonic()
            await self._etcd.txn([], network())
            await self._writers.ask("fill", self._each)
            self._say("filling_s", round(time.monotonic() - began, 1))
            self._watches = Watches(base / "watches", self._options.hosts, self._options.readers)
            await asyncio.sleep(5)
            try:
                await self._with_hosts(base)
            finally:
                for host in self._reals:
                    host.close()
                self._watches.close()
        finally:
            await self._writers.close()

    async def _with_hosts(self, base: Path) -> None:
        self._reals = [Real(base, number, self._all) for number in range(self._options.real)]
        first, *others = self._reals
        self._service = await asyncio.to_thread(Service, first)
        try:
            for host in others:
                host.play_service()
            began = time.monotonic()
            first.start()
            await asyncio.wait_for(first.ready.wait(), _PATIENCE)
            self._say("first_host_knows_all", {
                "after_s": round(time.monotonic() - began, 2),
                "its_processor_s": round(run_time_of(first.pid), 2),
                "mib": _mebibytes(first.pid),
            })  # fmt: skip
            for host in others:
                host.start()
                await asyncio.wait_for(host.ready.wait(), _PATIENCE)
            while ways.routes() < self._options.hosts * BLOCKS * 2:
                await asyncio.sleep(0.5)
            self._pids |= {"agent": first.pid, "service": self._service.pid}
            await asyncio.sleep(10)
            await self._measure()
            await self._repairs(first)
        finally:
            self._service.close()

    async def _measure(self) -> None:
        await self._phase("idle", asyncio.sleep(self._options.phase))
        await self._known("change_when_idle")
        await self._kernel()
        try:
            for rate in self._options.rates:
                await self._starts(rate)
            await self._burst()
        except TimeoutError:
            self._say("given_up", "not all hosts know of a change within three minutes")
        memory = {name: _mebibytes(pid) for name, pid in self._pids.items()}
        self._say("mib_at_the_end", memory)

    async def _phase(self, name: str, work: Awaitable[Any]) -> Any:
        """What etcd and the processes do meanwhile."""
        counted, (size, pieces) = counters(), self._watches.ask()
        pids = {**self._pids, "other agents": 0, "readers": 0}
        several = {
            "readers": self._watches.pids(),
            "other agents": [h.pid for h in self._reals[1:]],
        }

        def used() -> dict[str, float]:
            return {n: sum(map(run_time_of, several.get(n, [pid]))) for n, pid in pids.items()}

        before, began = used(), time.monotonic()
        self._service.steps()
        answer = await work
        seconds = time.monotonic() - began
        after, (size_after, pieces_after) = used(), self._watches.ask()
        now = counters()
        hosts = self._options.hosts

        def rate(of: str) -> float:
            return round((now[of] - counted[of]) / seconds, 2)

        fsyncs = now["fsyncs"] - counted["fsyncs"]
        self._say(name, {
            "proposals_a_second": rate("proposals"),
            "revisions_a_second": rate("revision"),
            "log_bytes_a_second": rate("log_bytes"),
            "fsyncs_a_second": rate("fsyncs"),
            "fsync_ms": round(
                1000 * (now["fsync_seconds"] - counted["fsync_seconds"]) / max(1, fsyncs), 2
            ),
            "watch_bytes_a_host_a_second": round((size_after - size) / seconds / hosts, 1),
            "pieces_a_host_a_second": round((pieces_after - pieces) / seconds / hosts, 2),
            "slow_watches_at_the_end": now["slow_watches"],
            "pending_events_at_the_end": now["pending_events"],
            "unread_at_the_end": self._watches.unread,
            "processor_percent": {
                name: round(100 * (after[name] - before[name]) / seconds, 2) for name in before
            },
            "longest_step_of_the_service_ms": round(1000 * self._service.steps()[1], 1),
        } | ({"writers": answer} if answer else {}))  # fmt: skip
        return answer

    async def _mark(self) -> int:
        """Put a mark; returns its number."""
        self._marks += 1
        await self._etcd.txn([], [marked(self._marks)])
        return self._marks

    async def _when(self, number: int) -> list[float]:
        """When each watch has seen a mark."""
        key = in_watches(number)
        async with asyncio.timeout(_PATIENCE):
            while len(self._watches.seen.get(key, ())) < self._options.hosts:
                await asyncio.sleep(0.5)
                self._watches.ask()
            while any(mark(number) not in host.seen for host in self._reals):
                await asyncio.sleep(0.1)
        return self._watches.seen[key]

    def _delays(self, began: float, number: int, times: list[float]) -> tuple[float, float, float]:
        """Of the median watch, the last one, and the names of the last real host."""
        real = max(host.seen[mark(number)] for host in self._reals)
        return statistics.median(times) - began, max(times) - began, real - began

    async def _known(self, name: str) -> None:
        """How long until all hosts know of one change."""
        found = []
        for _ in range(20):
            began = time.monotonic()
            number = await self._mark()
            found.append(self._delays(began, number, await self._when(number)))
        self._say(name, _shown(found))

    async def _kernel(self) -> None:
        """How long until the service has a route to a block that another host has taken."""
        found = []
        with ways.Routes() as heard:
            for at in range(10):
                block = block_at(SUBNETS[0], BLOCK, _FREE + at)
                waiting = asyncio.create_task(heard.made(block.network_address.packed))
                began = time.monotonic()
                its = record(BlockRecord(name_of(1), name_of(1)))
                await self._etcd.txn([], [put(KEYS.block(part_of("net", block)), its)])
                found.append(await waiting - began)
                await asyncio.sleep(0.5)
        self._say("block_to_route_ms", {
            "median": _ms(statistics.median(found)), "most": _ms(max(found)),
        })  # fmt: skip

    async def _starts(self, rate: int) -> None:
        """Containers start on all hosts, and marks between them tell how far the last host is."""
        marks: list[tuple[float, int]] = []

        async def marking() -> None:
            while True:
                began = time.monotonic()
                with suppress(EtcdError):
                    marks.append((began, await self._mark()))
                await asyncio.sleep(_EVERY)

        async def both() -> dict[str, Any]:
            task = asyncio.create_task(marking())
            try:
                return await self._writers.ask("starts", rate, self._options.phase)
            finally:
                task.cancel()

        await self._phase(f"starts_{rate}", both())
        ended = time.monotonic()
        found = [self._delays(began, number, await self._when(number)) for began, number in marks]
        drained = max(max(self._watches.seen[in_watches(number)]) for _, number in marks)
        self._say(f"known_at_{rate}", _shown(found) | {
            "last_host_of_each_mark_ms": [_ms(one[1]) for one in found],
            "last_mark_known_after_the_phase_s": round(drained - ended, 1),
        })  # fmt: skip
        await asyncio.sleep(5)

    async def _burst(self) -> None:
        """How long until all know of 1,000 starts on one host."""
        began = time.monotonic()
        answer = await self._writers.ask("burst", 1000)
        number = await self._mark()
        _, last, real = self._delays(began, number, await self._when(number))
        self._say("burst_of_1000", answer | {
            "last_host_ms": _ms(last), "names_of_the_real_hosts_ms": _ms(real),
        })  # fmt: skip

    async def _repairs(self, first: Real) -> None:
        """What the service does about other hosts, as it is and as it was before."""
        to = str(block_at(SUBNETS[0], BLOCK, 17))
        found: dict[str, list[dict[str, Any]]] = {}
        turns = [*self._options.before, str(CHECKOUT)] * (2 if self._options.before else 1)
        for checkout in turns:
            self._service.close()
            self._service = await asyncio.to_thread(Service, first, Path(checkout))
            await asyncio.sleep(10)
            which = "now" if checkout == str(CHECKOUT) else checkout
            found.setdefault(which, []).append(await ways.repairs(self._service, to))
        self._say("repairs_among_routes", {"routes": ways.routes()} | found)


def _shown(found: list[tuple[float, float, float]]) -> dict[str, Any]:
    median, last, real = zip(*found, strict=True)
    return {
        "median_host_ms": _ms(statistics.median(median)),
        "last_host_ms": _ms(statistics.median(last)),
        "last_host_worst_ms": _ms(max(last)),
        "names_of_the_real_hosts_ms": _ms(statistics.median(real)),
        "of": len(found),
    }


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)


def _mebibytes(pid: int) -> float:
    return round(resident_of(pid) / (1 << 20), 1)
