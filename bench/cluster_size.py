"""A cluster of 1,000 hosts with 100,000 endpoints, by a real etcd: `python -m bench.cluster_size`.

One host is real: `watcher cluster` as it is shipped, with a played service. The others are what
etcd has of them, and their watches, read by a few processes that count bytes. All of it is in
network and mount namespaces of its own; etcd's data are in memory. It needs root, and Debian's
etcd-server. docs/performance.md has a report.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from bench.contenders.commands import resident_of, run_time_of
from watcher.cluster.endpoints.lines import SOCKET as HOSTS
from watcher.cluster.endpoints.lines import Wants, encoded
from watcher.cluster.endpoints.record import Endpoint
from watcher.cluster.endpoints.record import encoded as endpoint
from watcher.cluster.etcd.client import Etcd
from watcher.cluster.etcd.errors import Uncertain
from watcher.cluster.etcd.requests import Operation, put
from watcher.cluster.etcd.words import Times
from watcher.cluster.protocol import SOCKET, Begin, End, HostRow, NetworkRow, encode
from watcher.cluster.registry.keys import Keys, part_of
from watcher.cluster.registry.records import (
    AliveRecord,
    BlockRecord,
    HostRecord,
    NetworkRecord,
)
from watcher.cluster.registry.records import encode as record
from watcher.log.logger import SILENCE
from watcher.model.cluster import block_at

ADDRESS: Final = "127.0.0.1"
URL: Final = f"http://{ADDRESS}:2379"
SUBNETS: Final = (IPv4Network("10.0.0.0/8"), IPv6Network("fd09::/64"))
BLOCK: Final = 256
TTL: Final = 30
PHASE: Final = 30.0
RATE: Final = 100
KEYS: Final = Keys("/watcher")
TOGETHER: Final = 100
_MARK: Final = "mark-"
"""How the names begin of which it is measured when they are known."""

CONFIG: Final = """
run_dir = "{run}"
state_dir = "{run}"

[cluster]
etcd = ["{url}"]
host = "real"
address = "192.168.255.1"
"""


def main() -> None:
    """Measure, in namespaces of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=100_000, help="of all hosts together")
    parser.add_argument("--readers", type=int, default=4, help="processes with the hosts' watches")
    parser.add_argument("--watch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        asyncio.run(watch(options.watch))
    elif options.inside:
        asyncio.run(Measurement(options.hosts, options.endpoints, options.readers).run())
    else:
        inside = 'ip link set lo up && mount -t tmpfs tmpfs /run && exec "$@"'
        words = [sys.executable, "-m", "bench.cluster_size", "--inside", *sys.argv[1:]]
        words = ["unshare", "--net", "--mount", "sh", "-c", inside, "sh", *words]
        sys.exit(subprocess.run(words, check=False).returncode)


# --- the watches of the hosts that are not real -------------------------------------------------


async def watch(count: int) -> None:
    """Watch everything `count` times; print the bytes and when marks came, each second."""
    seen: dict[str, list[float]] = {}
    total = 0
    lines = 0

    async def one() -> None:
        nonlocal total, lines
        reader, writer = await asyncio.open_connection(ADDRESS, 2379, limit=1 << 24)
        create = {"key": _base64(KEYS.all), "range_end": _base64(KEYS.all[:-1] + "0"),
                  "progress_notify": True}  # fmt: skip
        body = json.dumps({"create_request": create}).encode()
        writer.write(b"POST /v3/watch HTTP/1.1\r\nHost: etcd\r\nContent-Length: %d\r\n\r\n%b"
                     % (len(body), body))  # fmt: skip
        mark = _base64(f"{KEYS.all}endpoints/{_MARK}")[:-4]
        while data := await reader.read(1 << 20):
            total += len(data)
            lines += 1
            text = data.decode("latin-1")
            at = text.find(mark)
            if at >= 0:
                now = time.monotonic()
                seen.setdefault(text[at : at + 60].partition('"')[0], []).append(now)

    tasks = [asyncio.create_task(one()) for _ in range(count)]
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while await commands.readline():
        sys.stdout.write(json.dumps({"bytes": total, "parts": lines, "seen": seen}) + "\n")
        sys.stdout.flush()
        seen.clear()
        assert not any(task.done() for task in tasks), "a watch has ended"


def _base64(text: str) -> str:
    import base64

    return base64.b64encode(text.encode()).decode()


class Readers:
    """The processes with the watches."""

    def __init__(self, hosts: int, count: int) -> None:
        words = [sys.executable, "-m", "bench.cluster_size", "--watch"]
        each = [hosts // count + (n < hosts % count) for n in range(count)]
        self._processes = [
            subprocess.Popen(
                [*words, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for n in each
        ]

    def pids(self) -> list[int]:
        """Their pids."""
        return [process.pid for process in self._processes]

    def ask(self) -> tuple[int, int, dict[str, list[float]]]:
        """The bytes and parts so far, and when each mark came since the last question."""
        total = parts = 0
        seen: dict[str, list[float]] = {}
        for process in self._processes:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in self._processes:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            total += told["bytes"]
            parts += told["parts"]
            for mark, times in told["seen"].items():
                seen.setdefault(mark, []).extend(times)
        return total, parts, seen

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            process.kill()
            process.wait()


# --- the real host ------------------------------------------------------------------------------


class Service:
    """The service's side of cluster.sock, played: it has no containers, and wants one block."""

    def __init__(self, run: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(str(run / SOCKET))
        self._socket.listen()
        self._socket.setblocking(False)
        self.task = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        connection, _ = await loop.sock_accept(self._socket)
        connection.setblocking(False)
        host = HostRow("real", IPv4Address("192.168.255.1"), "real", "real", "real")
        rows = [Begin(), host, NetworkRow("net", SUBNETS, BLOCK, 0, 0), End()]
        await loop.sock_sendall(connection, encode(rows))
        while await loop.sock_recv(connection, 1 << 16):
            pass


class HostsReader:
    """A reader of hosts.sock, as `watcher names` is: when it hears of marks."""

    def __init__(self, run: Path, endpoints: int) -> None:
        self._path = str(run / HOSTS)
        self._left = endpoints
        self.seen: dict[str, float] = {}
        self.ready = asyncio.Event()
        self.bytes = 0
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=1 << 24)
                break
            except OSError:
                await asyncio.sleep(0.05)
        writer.write(encoded(Wants(endpoints=True)))
        while line := await reader.readline():
            self.bytes += len(line)
            if b'"type":"endpoint"' in line:  # the first state is empty: etcd was not read yet
                self._left -= 1
                if not self._left:
                    self.ready.set()
            at = line.find(b'"%b' % _MARK.encode())
            if at >= 0:
                self.seen.setdefault(line[at + 1 : at + 60].partition(b'"')[0].decode(),
                                     time.monotonic())  # fmt: skip


# --- what is measured ---------------------------------------------------------------------------


class Measurement:
    """See the module's docstring."""

    def __init__(self, hosts: int, endpoints: int, readers: int) -> None:
        self._hosts = hosts
        self._each = endpoints // hosts
        self._readers = readers
        self._rng = random.Random(1)
        self._marks = self._lapsed = 0
        self.found: dict[str, Any] = {"hosts": hosts, "endpoints": self._each * hosts}

    async def run(self) -> None:
        """Measure all of it, and print it."""
        base = Path(mkdtemp(prefix="cluster-size-", dir="/run"))
        with started(["etcd", f"--data-dir={base}/etcd", "--unsafe-no-fsync", "--log-level=error",
                      "--quota-backend-bytes=8589934592", f"--listen-client-urls={URL}",
                      f"--advertise-client-urls={URL}"]) as etcd:  # fmt: skip
            await healthy()
            async with self.client() as client:
                await self._fill(client)
                await self._measure(client, base, etcd.pid)
        print(json.dumps(self.found, indent=2))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Etcd]:
        """A client of etcd, with more patience than that of hosts."""
        async with Etcd([URL], None, "", "", SILENCE, Times(answer=30.0)) as client:
            yield client

    async def _fill(self, client: Etcd) -> None:
        """Put what all hosts have, as they would put it."""
        began = time.monotonic()
        net = NetworkRecord(tuple(map(str, SUBNETS)), BLOCK, 1)
        await client.txn([], [put(KEYS.layout, b"1"), put(KEYS.network("net"), record(net))])
        self.leases = []
        for n in range(self._hosts):
            name, address = f"h{n}", str(IPv4Address("192.168.0.1") + n)
            lease = await client.grant(TTL)
            self.leases.append(lease)
            await client.txn([], [
                put(KEYS.host(name), record(HostRecord(name, address, name, "0"))),
                put(KEYS.address(address), name.encode()),
                put(KEYS.alive(name), record(AliveRecord(name, address, name)), lease),
                *(put(KEYS.block(part_of("net", block_at(subnet, BLOCK, n))),
                      record(BlockRecord(name, name))) for subnet in SUBNETS),
            ])  # fmt: skip
        self._keeping = asyncio.create_task(self._keep_alive(client))
        for n in range(self._hosts):
            each = [self._endpoint(n, i) for i in range(self._each)]
            for begin in range(0, len(each), TOGETHER):
                await client.txn([], each[begin : begin + TOGETHER])
        self.found["filling_s"] = round(time.monotonic() - began, 1)

    def _endpoint(self, host: int, number: int, name: str = "") -> Operation:
        block = block_at(SUBNETS[0], BLOCK, host)
        address = str(block[2 + number % 250])
        names = (name or f"web-{host}-{number}", f"c{host:05x}{number:06x}")
        value = endpoint(
            Endpoint((names,), {"net": (address, str(SUBNETS[1][host << 16 | number + 2]))})
        )
        return put(KEYS.endpoint(f"h{host}", str(number)), value)

    async def _keep_alive(self, client: Etcd) -> None:
        """As the hosts do it: each on its own, so that none waits for another."""

        async def one(number: int, lease: int) -> None:
            await asyncio.sleep(TTL / 3 * number / len(self.leases))
            while True:
                self._lapsed += not await client.keep_alive(lease)
                await asyncio.sleep(TTL / 3)

        async with asyncio.TaskGroup() as group:
            for number, lease in enumerate(self.leases):
                group.create_task(one(number, lease))

    async def _measure(self, client: Etcd, base: Path, etcd: int) -> None:
        readers = Readers(self._hosts, self._readers)
        try:
            await asyncio.sleep(5)
            run = base / "run"
            run.mkdir()
            config = base / "watcher.toml"
            config.write_text(CONFIG.format(run=run, url=URL))
            service = Service(run)
            hosts = HostsReader(run, self._each * self._hosts)
            words = [sys.executable, "-m", "watcher", "--config", str(config), "cluster"]
            began = time.monotonic()
            with started(words) as real:
                await asyncio.wait_for(hosts.ready.wait(), 300)
                self.found["real_host_knows_all_after_s"] = round(time.monotonic() - began, 2)
                self.found["real_host_cpu_until_then_s"] = round(run_time_of(real.pid), 2)
                await asyncio.sleep(10)
                self.found["real_host_rss_mib"] = round(mebibytes_of(real.pid), 1)
                await self._phase("idle", readers, etcd, real.pid, self._nothing)
                await self._phase("starts", readers, etcd, real.pid, lambda: self._starts(client))
                await self._known(client, readers, hosts)
                await self._burst(client, readers, hosts)
                self.found["real_host_rss_mib_at_the_end"] = round(mebibytes_of(real.pid), 1)
            self.found["leases_lapsed"] = self._lapsed
            self.found["etcd_rss_mib"] = round(mebibytes_of(etcd), 1)
            for task in (service.task, hosts.task):
                task.cancel()
        finally:
            self._keeping.cancel()
            readers.close()

    async def _nothing(self) -> None:
        await asyncio.sleep(PHASE)

    async def _starts(self, client: Etcd) -> None:
        """Containers start, each on another host, so that nothing goes together."""
        began = at = time.monotonic()
        number, late = self._each, 0
        while time.monotonic() < began + PHASE:
            host = self._rng.randrange(self._hosts)
            number += 1
            try:
                await client.txn([], [self._endpoint(host, number)])
            except Uncertain:
                late += 1
            at += 1 / RATE
            await asyncio.sleep(max(0.0, at - time.monotonic()))
        done = number - self._each
        self.found["starts_a_second"] = {
            "wanted": RATE,
            "reached": round(done / PHASE, 1),
            "without_answer": late,
        }

    async def _phase(self, name: str, readers: Readers, etcd: int, real: int, work: Any) -> None:
        before, bytes_before = counters(), readers.ask()[0]
        cpu_before = run_time_of(etcd), run_time_of(real), sum(map(run_time_of, readers.pids()))
        began = time.monotonic()
        await work()
        seconds = time.monotonic() - began
        after, bytes_after = counters(), readers.ask()[0]
        cpu_after = run_time_of(etcd), run_time_of(real), sum(map(run_time_of, readers.pids()))
        self.found[name] = {
            "writes_a_second": round((after["proposals"] - before["proposals"]) / seconds, 2),
            "revisions_a_second": round((after["revision"] - before["revision"]) / seconds, 2),
            "watch_bytes_a_host_a_second": round(
                (bytes_after - bytes_before) / seconds / self._hosts, 1
            ),
            "etcd_cpu_percent": round(100 * (cpu_after[0] - cpu_before[0]) / seconds, 1),
            "real_host_cpu_percent": round(100 * (cpu_after[1] - cpu_before[1]) / seconds, 2),
            "readers_cpu_percent": round(100 * (cpu_after[2] - cpu_before[2]) / seconds, 1),
        }

    async def _known(self, client: Etcd, readers: Readers, hosts: HostsReader) -> None:
        """How long until all hosts know of one change."""
        drained = time.monotonic()
        await client.txn([], [put(KEYS.endpoint(f"{_MARK}drained", "1"), b"{}")])
        await self._seen_by_all(readers)
        self.found["watches_behind_after_the_starts_s"] = round(time.monotonic() - drained, 1)
        first, every, real = [], [], []
        for _ in range(20):
            self._marks += 1
            mark = f"{_MARK}{self._marks:06}"
            began = time.monotonic()
            value = endpoint(Endpoint(((mark,),), {"net": ("10.0.0.9",)}))
            await client.txn([], [put(KEYS.endpoint(mark, "1"), value)])
            times = await self._seen_by_all(readers)
            while mark not in hosts.seen:
                await asyncio.sleep(0.1)
            first.append(statistics.median(times) - began)
            every.append(max(times) - began)
            real.append(hosts.seen[mark] - began)
        self.found["known"] = {
            "median_host_ms": round(1000 * statistics.median(first), 1),
            "last_host_ms": round(1000 * statistics.median(every), 1),
            "last_host_worst_of_20_ms": round(1000 * max(every), 1),
            "names_of_the_real_host_ms": round(1000 * statistics.median(real), 1),
        }

    async def _seen_by_all(self, readers: Readers) -> list[float]:
        """When each watch has seen the one mark that was put last."""
        times: list[float] = []
        while len(times) < self._hosts:
            await asyncio.sleep(0.5)
            times += [t for seen in readers.ask()[2].values() for t in seen]
        return times

    async def _burst(self, client: Etcd, readers: Readers, hosts: HostsReader) -> None:
        """How long until all know of 1,000 starts on one host, written as it writes them."""
        readers.ask()
        mark = f"{_MARK}burst"
        began, before = time.monotonic(), counters()
        for begin in range(0, 1000, TOGETHER):
            await client.txn([], [
                self._endpoint(0, 100_000 + begin + i) for i in range(TOGETHER)
            ])  # fmt: skip
        value = endpoint(Endpoint(((mark,),), {"net": ("10.0.0.9",)}))
        await client.txn([], [put(KEYS.endpoint(mark, "1"), value)])
        times = await self._seen_by_all(readers)
        while mark not in hosts.seen:
            await asyncio.sleep(0.1)
        self.found["burst_of_1000"] = {
            "writes": counters()["revision"] - before["revision"] - 1,
            "last_host_ms": round(1000 * (max(times) - began), 1),
            "names_of_the_real_host_ms": round(1000 * (hosts.seen[mark] - began), 1),
        }


@contextmanager
def started(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    process = subprocess.Popen(words)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def healthy() -> None:
    """Wait until etcd answers."""
    while True:
        try:
            counters()
        except OSError:
            await asyncio.sleep(0.1)
        else:
            return


def counters() -> dict[str, int]:
    """Of etcd: the proposals that were agreed upon, and its revision."""
    with urllib.request.urlopen(f"{URL}/metrics") as answer:  # noqa: S310 - by http
        lines = answer.read().decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {
        "proposals": int(float(found["etcd_server_proposals_committed_total"])),
        "revision": int(float(found["etcd_debugging_mvcc_current_revision"])),
    }


def mebibytes_of(pid: int) -> float:
    """MiB of a process in memory."""
    return resident_of(pid) / (1 << 20)


if __name__ == "__main__":
    main()
