"""Questions by TCP, of clients that nobody trusts; on the loopback interface of this process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import dns.message

from tests.support.name_service import addresses, make_query
from watcher.feed.lines import NetworkLine, SubnetPart
from watcher.names.answers import Answers
from watcher.names.counts import Counts
from watcher.names.settings import Settings
from watcher.names.transport import streams
from watcher.names.transport.connections import MOST, PER_SOURCE, Connections
from watcher.names.transport.streams import UNDER_WAY, Listener
from watcher.names.zone.directory import Directory
from watcher.names.zone.remote import Remote

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from watcher.names.opening.limits import Place
    from watcher.names.upstream.forwarder import Reply
    from watcher.names.wire.query import Query

_HOST: Final = make_query("host.watcher.internal").to_wire()
_FAR: Final = make_query("far.example").to_wire()
_ENOUGH: Final = 20.0


class Nobody:
    """A server of all other names that never answers."""

    def __init__(self) -> None:
        self.asked: list[Reply] = []

    def ask(self, _: Query, __: tuple[str, ...], ___: Hashable, reply: Reply) -> None:
        self.asked.append(reply)

    def before(
        self, reply: Reply, query: Query, name: bytes, places: Sequence[Place], asker: Hashable
    ) -> Reply:
        raise AssertionError((reply, query, name, places, asker))

    def reject(self, name: bytes, place: Place, asker: Hashable) -> None:
        raise AssertionError((name, place, asker))


class Serving:
    """A listener, whose host is 127.0.0.1, and whose only guests are in 127.0.0.0/8."""

    def __init__(self, patience: float) -> None:
        loop = asyncio.get_running_loop()
        self.counts, self.nobody = Counts(), Nobody()
        directory = Directory(Settings("watcher.internal"), Remote())
        subnet = SubnetPart("127.0.0.0/8", "127.0.0.1", 1)
        directory.network(
            NetworkLine("default", "bridge", "netns0", (subnet,), names=True, guard=False)
        )
        answers = Answers(
            directory, self.nobody, self.nobody, lambda s, f: loop.call_later(s, f).cancel,
            self.counts,
        )  # fmt: skip
        self.connections = Connections(loop, self.counts, patience)
        self._connected: list[Client] = []
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=MOST)
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10
        )  # as Sockets makes it
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]
        self.listener = Listener(
            self._socket, "default", answers, self.connections, loop, lambda: None
        )

    async def close(self) -> None:
        self.listener.close()
        self._socket.close()
        for client in self._connected:
            client.writer.transport.abort()
            with suppress(OSError):
                await client.writer.wait_closed()

    async def connect(self, source: str = "127.0.0.1") -> Client:
        client = Client(
            *await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        )
        self._connected.append(client)
        return client

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until something of this process is so."""
        async with asyncio.timeout(_ENOUGH):
            while not condition():
                await asyncio.sleep(0.001)


class Client:
    """A connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, *messages: bytes) -> None:
        self.writer.write(b"".join(len(m).to_bytes(2) + m for m in messages))

    async def receive(self) -> bytes:
        """The next message; empty at the end, however that comes."""
        try:
            async with asyncio.timeout(_ENOUGH):
                return await self._reader.readexactly(
                    int.from_bytes(await self._reader.readexactly(2))
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def is_served(self) -> bool:
        self.send(_HOST)
        answer = await self.receive()
        return bool(answer) and addresses(dns.message.from_wire(answer)) == {"127.0.0.1"}


@asynccontextmanager
async def serving(patience: float = _ENOUGH) -> AsyncIterator[Serving]:
    server = Serving(patience)
    try:
        yield server
    finally:
        await server.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(_ENOUGH * 2):
            await test()

    asyncio.run(bounded())


def test_questions_are_answered_however_they_are_cut_and_joined() -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            count = streams.TURN * 5
            client.send(*[number.to_bytes(2) + _HOST[2:] for number in range(count)])
            answers = [await client.receive() for _ in range(count)]
            assert sorted(int.from_bytes(answer[:2]) for answer in answers) == [*range(count)]
            for byte in len(_HOST).to_bytes(2) + _HOST:
                client.writer.write(bytes([byte]))
                await client.writer.drain()
                await asyncio.sleep(0)
            assert (await client.receive())[:2] == _HOST[:2]
            client.send(_HOST)
            client.writer.write_eof()
            assert (await client.receive())[:2] == _HOST[:2]
            assert await client.receive() == b""

    run(test)


def test_an_answer_that_comes_late_stops_no_other() -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect("127.0.0.2")
            client.send(_FAR, _HOST)
            assert (await client.receive())[:2] == _HOST[:2]
            server.nobody.asked[0](_FAR)
            assert await client.receive() == _FAR

    run(test)


def test_who_is_idle_or_slow_is_disconnected() -> None:
    async def test() -> None:
        async with serving(patience=0.2) as server:
            idle, slow = await server.connect(), await server.connect()
            waits = await server.connect("127.0.0.2")
            waits.send(_FAR)

            async def trickle() -> None:
                for _ in range(1000):
                    slow.writer.write(b"\x01")
                    await asyncio.sleep(0.02)

            trickling = asyncio.create_task(trickle())
            assert [await client.receive() for client in (idle, slow, waits)] == [b""] * 3
            trickling.cancel()
            server.nobody.asked[0](_FAR)  # to nobody
            assert server.counts.connections == 0
            assert await (await server.connect()).is_served()

    run(test)


def test_one_who_does_not_read_takes_bounded_memory_and_stops_nobody() -> None:
    async def test() -> None:
        async with serving() as server:
            deaf = await server.connect("127.0.0.2")
            many = (len(_HOST).to_bytes(2) + _HOST) * 1000
            while deaf.writer.transport.get_write_buffer_size() < 64 * len(many):
                deaf.writer.write(many)
                await asyncio.sleep(0)
            assert await (await server.connect()).is_served()

            full = await server.connect("127.0.0.3")
            full.send(*[_FAR] * (UNDER_WAY * 4))
            await server.until(lambda: len(server.nobody.asked) == UNDER_WAY)
            assert await (await server.connect()).is_served()
            assert len(server.nobody.asked) == UNDER_WAY
            for reply in server.nobody.asked[:UNDER_WAY]:
                reply(_FAR)
            await server.until(lambda: len(server.nobody.asked) == UNDER_WAY * 2)

            before = server.counts.connections
            for reply in server.nobody.asked[UNDER_WAY:]:
                reply(bytes(65_000))
            assert server.counts.connections == before - 1
            assert await (await server.connect()).is_served()

    run(test)


def test_connections_are_bounded_and_the_greedy_lose_theirs() -> None:
    async def test() -> None:
        async with serving() as server:
            modest = await server.connect("127.0.0.9")
            assert await modest.is_served()
            greedy = [await server.connect("127.0.0.2") for _ in range(PER_SOURCE + 1)]
            assert await greedy[0].receive() == b""
            assert await greedy[-1].is_served()
            sources = [f"127.0.1.{number}" for number in range(MOST // PER_SOURCE)]
            others = [await server.connect(one) for one in sources for _ in range(PER_SOURCE)]
            await server.until(lambda: server.counts.connections == MOST)
            assert await modest.is_served()
            late = await server.connect("127.0.0.10")
            assert await late.is_served()
            assert server.counts.connections == MOST
            for client in (*greedy, *others):
                client.writer.transport.abort()
            await server.until(lambda: server.counts.connections == 2)

    run(test)
