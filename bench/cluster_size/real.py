"""The hosts that are real: `watcher cluster`, and of the first one `watcher run` as well."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from bench.cluster_size.cluster import BLOCK, SUBNETS, URL, is_mark
from bench.contenders.commands import CHECKOUT, PROBE
from watcher.cluster.endpoints.lines import SOCKET as HOSTS
from watcher.cluster.endpoints.lines import Wants, encoded
from watcher.cluster.protocol import SOCKET, Begin, End, HostRow, NetworkRow, encode

_CONFIG: Final = """
run_dir = "{run}"
state_dir = "{run}/state"

[[root]]
path = "{run}/root"

[network.net]
mode = "routed"
bridge = "net0"
cluster = true
subnets = {subnets}
block = {block}

[cluster]
etcd = ["{url}"]
host = "{name}"
address = "{address}"
"""
_ADDRESSES: Final = ip_address("192.168.255.1")
_NOTHING: Final = bytes(24)


class Real:
    """A host with `watcher cluster`, and a reader of its `hosts.sock`, as `watcher names` is one.

    Args:
        base: a directory.
        number: of the host; its address is on this machine's link.
        endpoints: how many the others have.

    Attributes:
        ready: set once the reader has heard of all of them.
        seen: when the reader heard of marks.
        bytes: that it has read.
    """

    def __init__(self, base: Path, number: int, endpoints: int) -> None:
        self.name = f"real-{number}"
        self.run = base / self.name
        (self.run / "root").mkdir(parents=True)
        self.address = str(_ADDRESSES + number)
        self.config = self.run / "watcher.toml"
        subnets = str([str(subnet) for subnet in SUBNETS]).replace("'", '"')
        self.config.write_text(
            _CONFIG.format(run=self.run, subnets=subnets, block=BLOCK, url=URL, name=self.name,
                           address=self.address)
        )  # fmt: skip
        self._left = endpoints
        self.ready = asyncio.Event()
        self.seen: dict[str, float] = {}
        self.bytes = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._agent: subprocess.Popen[bytes] | None = None

    def play_service(self) -> None:
        """Be the service: it has no containers, and wants one block."""
        named = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        named.bind(str(self.run / SOCKET))
        named.listen()
        named.setblocking(False)
        self._tasks.append(asyncio.create_task(self._play(named)))

    def start(self) -> None:
        """Start `watcher cluster`, and read."""
        with (self.run / "cluster.log").open("ab") as log:
            self._agent = subprocess.Popen(
                [sys.executable, "-m", "watcher", "--config", str(self.config), "cluster"],
                stdout=log, stderr=log,
            )  # fmt: skip
        self._tasks.append(asyncio.create_task(self._read()))

    @property
    def pid(self) -> int:
        """Of `watcher cluster`."""
        assert self._agent is not None
        return self._agent.pid

    def close(self) -> None:
        """End it."""
        for task in self._tasks:
            task.cancel()
        if self._agent is not None:
            self._agent.send_signal(signal.SIGTERM)
            self._agent.wait(30)

    async def _play(self, named: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        connection, _ = await loop.sock_accept(named)
        connection.setblocking(False)
        host = HostRow(self.name, ip_address(self.address), self.name, self.name, self.name)
        rows = [Begin(), host, NetworkRow("net", SUBNETS, BLOCK, 0, 0), End()]
        await loop.sock_sendall(connection, encode(rows))
        while await loop.sock_recv(connection, 1 << 16):
            pass

    async def _read(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(
                    str(self.run / HOSTS), limit=1 << 24
                )
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
                if mark := is_mark(line):
                    self.seen.setdefault(mark, time.monotonic())


class Service:
    """`watcher run` of a real host, from a checkout, with its event loop timed."""

    def __init__(self, host: Real, checkout: Path = CHECKOUT) -> None:
        self._steps = host.run / "steps"
        self._steps.write_bytes(_NOTHING)
        path = f"\0bench-{host.run}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            manager.settimeout(120)
            environment = {
                **os.environ, "PYTHONPATH": f"{checkout}:{PROBE}", "NOTIFY_SOCKET": "@" + path[1:],
                "BENCH_LONGEST_STEP": str(self._steps),
            }  # fmt: skip
            with (host.run / "service.log").open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "watcher", "--config", str(host.config),
                     "--log-format", "json", "run"],
                    stdout=log, stderr=log, env=environment, cwd=checkout,
                )  # fmt: skip
            while manager.recv(1024) != b"READY=1":
                pass

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    def steps(self) -> tuple[float, float, float]:
        """Since the last question: the longest step, by processor time, and that of all, in s."""
        with self._steps.open("r+b") as file:
            longest, most, all_of_it = struct.unpack("ddd", file.read(24))
            file.seek(0)
            file.write(_NOTHING)
        return longest, most, all_of_it

    def close(self) -> None:
        """End it; what it has made stays."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
