"""`hosts.sock`, as it is served and read."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from watcher.cluster.endpoints import endpoints as module
from watcher.cluster.endpoints.endpoints import Endpoints
from watcher.cluster.endpoints.lines import SOCKET, HostLine
from watcher.cluster.endpoints.reading import NoHosts, read
from watcher.cluster.endpoints.record import bounded, encoded
from watcher.cluster.protocol import StatusRow
from watcher.config.load import Source
from watcher.config.settings import Config
from watcher.log.logger import SILENCE
from watcher.model.errors import WatcherError
from watcher.names.hosts.follower import HostsFollower
from watcher.names.zone.remote import Remote

_ENOUGH = 60.0

A = HostLine("a", "192.0.2.1", "this", {"default": ("10.9.0.0/24",)})
B = HostLine("b", "192.0.2.2", "alive", {"default": ("10.9.1.0/24", "10.9.2.7/32")})
C = HostLine("c", "192.0.2.3", "silent")


def record(*names: str, address: str = "10.9.1.2") -> bytes:
    return encoded(bounded([names], {"default": [address]}))


def following(run_dir: Path) -> HostsFollower:
    return HostsFollower(
        str(run_dir), asyncio.get_running_loop(), SILENCE, settled=lambda: None, after=lambda: None
    )


class Log:
    """Remembers warnings."""

    def __init__(self) -> None:
        self.warnings: list[dict[str, Any]] = []

    def info(self, event: str, /, **fields: Any) -> None:
        """Nothing."""

    debug = error = info

    def warning(self, event: str, /, **fields: Any) -> None:
        self.warnings.append({"event": event, **fields})


class Served:
    """The process `watcher cluster`, as far as it concerns endpoints; its host is `a`."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.path = run_dir / SOCKET
        self.log = Log()
        self.revision = 1
        self.connections: list[socket.socket] = []
        self.endpoints = self.made()

    def made(self, *, known: bool = True) -> Endpoints:
        config = Config(run_dir=str(self.run_dir))
        endpoints = Endpoints(
            config, lambda: Source(config), self, asyncio.get_running_loop(), self.log
        )
        endpoints.seen(None, "a", StatusRow(connected=True), takes_part=False)
        if known:
            endpoints.hosts((A, B, C))
        return endpoints

    async def put_endpoints(self, changes: Mapping[str, bytes | None]) -> int:
        raise AssertionError(changes)

    def put(self, host: str, id_: object, value: bytes) -> None:
        self.revision += 1
        self.endpoints.put(host, str(id_), value, self.revision)

    def gone(self, host: str, id_: object) -> None:
        self.revision += 1
        self.endpoints.gone(host, str(id_), self.revision)

    def connected(self, **wants: bool) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.path))
        connection.setblocking(False)
        connection.send(json.dumps(wants).encode() + b"\n")
        self.connections.append(connection)
        return connection

    async def lines(self, connection: socket.socket, until: str) -> list[dict[str, Any]]:
        """All lines up to one of that type."""
        found: list[dict[str, Any]] = []
        text = b""
        loop = asyncio.get_running_loop()
        while not found or found[-1]["type"] != until:
            part = await loop.sock_recv(connection, 1)  # no more than the line
            assert part, found
            text += part
            if text.endswith(b"\n"):
                found.append(json.loads(text))
                text = b""
        return found

    async def read(self) -> Any:
        return await asyncio.to_thread(read, str(self.run_dir), _ENOUGH)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(_ENOUGH):
            while not condition():
                await asyncio.sleep(0.002)


@asynccontextmanager
async def serving(run_dir: Path) -> AsyncIterator[Served]:
    served = Served(run_dir)
    try:
        yield served
    finally:
        for connection in served.connections:
            connection.close()
        served.endpoints.stop()


def run(run_dir: Path, test: Callable[[Served], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(_ENOUGH * 2), serving(run_dir) as served:
            await test(served)

    asyncio.run(bounded())


def test_the_hosts_and_how_this_one_stands(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        found = await served.read()
        assert found.hosts == {"a": A, "b": B, "c": C}
        assert (found.status.connected, found.status.problem) == (True, "")
        served.endpoints.hosts((A, C))
        served.endpoints.status(connected=False, problem="etcd does not answer")
        found = await served.read()
        assert found.hosts == {"a": A, "c": C}
        assert (found.status.connected, found.status.problem) == (False, "etcd does not answer")
        assert oct(served.path.stat().st_mode & 0o777) in ("0o600", "0o660")

    run(tmp_path, test)
    with pytest.raises(NoHosts):
        read(str(tmp_path))


def test_who_wants_no_endpoints_gets_none(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        served.put("b", 1, record("web"))
        some, all_ = served.connected(), served.connected(endpoints=True)
        assert [line["type"] for line in await served.lines(some, "ready")] == [
            "state", "status", "host", "host", "host", "ready",
        ]  # fmt: skip
        lines = await served.lines(all_, "ready")
        assert lines[-2] == {
            "type": "endpoint", "host": "b", "id": "1", "names": [["web"]],
            "addresses": {"default": ["10.9.1.2"]},
        }  # fmt: skip
        served.put("b", 2, record("db"))
        served.gone("b", 1)
        served.endpoints.hosts((A, B))
        assert await served.lines(some, "gone") == [{"type": "gone", "host": "c"}]
        first, second, third = [
            *await served.lines(all_, "gone"),
            *await served.lines(all_, "endpoint"),
            *await served.lines(all_, "gone"),
        ]
        assert first == {"type": "gone", "host": "c"}
        assert (second["id"], third) == ("2", {"type": "gone", "host": "b", "id": "1"})

    run(tmp_path, test)


def test_the_endpoints_of_this_host_are_told_to_nobody(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        served.put("a", 1, record("mine"))
        lines = await served.lines(served.connected(endpoints=True), "ready")
        assert not [line for line in lines if line["type"] == "endpoint"]

    run(tmp_path, test)


def test_a_reader_that_does_not_read_costs_the_others_nothing_and_catches_up(
    tmp_path: Path,
) -> None:
    async def test(served: Served) -> None:
        for number in range(3000):
            served.put("b", number, record(f"web-{number}", "x" * 60, "y" * 60))
        slow, quick = (
            served.connected(endpoints=True),
            following(tmp_path),
        )
        quick.want(wanted=True)
        await served.until(lambda: quick.remote.endpoints == 3000)
        for turn in range(40):
            for number in range(3000):
                served.put("b", number, record(f"web-{number}-{turn}"))
            await asyncio.sleep(0)
        for number in range(1, 3000):
            served.gone("b", number)
        await served.until(lambda: quick.remote.endpoints == 1)
        rows = served.endpoints._server.endpoints
        assert len(rows._order) < 10_000
        served.put("b", 9999, record("last"))
        known: dict[str, Any] = {}
        while "9999" not in known:
            for line in [*await served.lines(slow, "endpoint")]:
                if line["type"] == "state":
                    known.clear()
                elif line["type"] == "gone":
                    known.pop(line["id"], None)
                elif line["type"] == "endpoint":
                    known[line["id"]] = line["names"]
        assert known == {"0": [["web-0-39"]], "9999": [["last"]]}
        quick.stop()

    run(tmp_path, test)


def test_readers_that_say_nothing_or_nonsense(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        silent = socket.socket(socket.AF_UNIX)
        silent.connect(str(served.path))
        served.connections.append(silent)
        loop = asyncio.get_running_loop()
        for said in (b"garbage\n", b'{"endpoints": 7}\n', b"x" * 5000, b"[]\n"):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(served.path))
            connection.setblocking(False)
            served.connections.append(connection)
            connection.send(said)
            try:
                assert await loop.sock_recv(connection, 1) == b""
            except ConnectionResetError:
                """It was closed with something unread."""
        assert (await served.read()).hosts.keys() == {"a", "b", "c"}

    run(tmp_path, test)


def test_one_user_does_not_take_all_places(tmp_path: Path) -> None:
    """Root has places of its own; here all are root's, so that all are taken in the end."""

    async def test(served: Served) -> None:
        for _ in range(400):
            served.connected()
        with pytest.raises(WatcherError):
            await served.read()
        for connection in served.connections:
            connection.close()
        await served.until(lambda: not served.endpoints._server._readers)
        assert (await served.read()).hosts

    run(tmp_path, test)


def test_garbage_in_etcd_is_logged_once_for_a_host_and_does_not_count(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        served.put("b", 1, record("web"))
        served.put("b", 1, b"<html>")
        served.put("b", "x", record("web"))
        served.put("c", 1, b"[]")
        lines = await served.lines(served.connected(endpoints=True), "ready")
        assert not [line for line in lines if line["type"] == "endpoint"]
        assert [w["key"] for w in served.log.warnings] == ["endpoints/b/1", "endpoints/c/1"]
        assert all(warning["remedy"] for warning in served.log.warnings)

    run(tmp_path, test)


@pytest.mark.parametrize(("host", "id_"), [("h" * 10_000, "1"), ("b", "1" * 10_000)])
def test_a_key_of_any_length_is_a_short_line_in_the_log(
    tmp_path: Path, host: str, id_: str
) -> None:
    async def test(served: Served) -> None:
        served.put(host, id_, record("web"))
        (warning,) = served.log.warnings
        assert warning["key"].startswith(f"endpoints/{host[:10]}")
        assert len(str(warning)) < 1000

    run(tmp_path, test)


def test_a_host_has_so_many_endpoints_at_the_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 10)
    monkeypatch.setattr(module, "MOST_IN_ALL", 15)

    async def test(served: Served) -> None:
        for host in ("b", "c", "d"):
            for number in range(20):
                served.put(host, number, record("web"))
        rows = served.endpoints._server.endpoints
        assert [sum(h == host for h, _ in rows.every_key()) for host in "bcd"] == [10, 5, 0]
        served.put("b", 3, record("db"))  # one that is there may change
        for number in range(20):
            served.gone("b", number)
        served.put("d", 1, record("web"))
        assert len(rows) == 6
        assert [w["host"] for w in served.log.warnings] == ["b", "c", "d"]

    run(tmp_path, test)


def test_what_a_new_reading_of_etcd_does_not_have_is_gone(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        for number in range(3):
            served.put("b", number, record(f"web-{number}"))
        served.endpoints.begin()
        served.put("b", 1, record("web-1"))
        assert len(served.endpoints._server.endpoints) == 3
        served.endpoints.end(served.revision)
        assert served.endpoints._server.endpoints.every_key() == [("b", "1")]

    run(tmp_path, test)


def test_the_name_service_keeps_what_it_knows_while_the_other_process_is_away(
    tmp_path: Path,
) -> None:
    async def test(served: Served) -> None:
        follower = following(tmp_path)
        remote: Remote = follower.remote
        network = remote.network("default")

        def resolves(name: bytes) -> bool:
            return network.find(name) is not None

        served.put("b", 1, record("web"))
        served.put("b", 2, record("db", address="10.9.1.3"))
        follower.want(wanted=True)
        await served.until(lambda: resolves(b"web") and resolves(b"db"))
        served.endpoints.stop()
        await served.until(lambda: follower.connected is None)
        assert resolves(b"web")
        served.endpoints = served.made()
        served.put("b", 2, record("db", address="10.9.1.3"))
        await served.until(lambda: follower.connected is not None and not resolves(b"web"))
        assert resolves(b"db")
        assert remote.endpoints == 1
        follower.want(wanted=False)
        assert not resolves(b"db")
        assert (remote.endpoints, remote.hosts) == (0, 0)
        follower.want(wanted=True)
        await served.until(lambda: resolves(b"db"))
        follower.stop()

    run(tmp_path, test)


def test_the_endpoints_of_a_host_are_its_own_once_it_has_their_name(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        for host in ("a", "b", "c"):
            served.put(host, 1, record(host))
        keys = served.endpoints._server.endpoints.every_key
        assert keys() == [("b", "1"), ("c", "1")]
        served.endpoints.seen(None, "b", StatusRow(connected=True), takes_part=False)
        assert sorted(keys()) == [("a", "1"), ("c", "1")]
        assert served.endpoints._publisher.there == {"1": record("b")}

    run(tmp_path, test)


def test_a_process_to_which_etcd_has_not_answered_yet_takes_no_names_away(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        follower = following(tmp_path)
        network = follower.remote.network("default")
        served.put("b", 1, record("web"))
        served.put("b", 2, record("db", address="10.9.1.3"))
        follower.want(wanted=True)
        await served.until(lambda: follower.connected is not None)
        served.endpoints.stop()
        await served.until(lambda: follower.connected is None)
        served.endpoints = served.made(known=False)
        found = await served.read()
        assert (found.known, found.hosts) == (False, {})
        await served.until(lambda: len(served.endpoints._server._readers) == 1)
        assert await served.lines(served.connected(endpoints=True), "ready")
        assert network.find(b"web")
        assert network.find(b"db")
        served.put("b", 1, record("web"))
        served.endpoints.hosts((A, B))
        await served.until(lambda: not network.find(b"db"))
        assert network.find(b"web")
        assert (await served.read()).known
        follower.stop()

    run(tmp_path, test)
