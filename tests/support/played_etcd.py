"""A server that answers as a test wants, where etcd is expected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

type Answer = Callable[[str, Any], bytes | None]
"""What is sent to a request, by its path and its body; then the connection ends. None: nothing."""

HEADER: Final = {"cluster_id": "7", "revision": "5"}


def http(body: bytes | str, *, status: str = "200 OK", fields: str = "") -> bytes:
    """An answer."""
    raw = body.encode() if isinstance(body, str) else body
    return (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(raw)}\r\nConnection: close\r\n{fields}\r\n"
    ).encode() + raw


def told(**result: Any) -> bytes:
    """A line of a watch."""
    return json.dumps({"result": {"header": HEADER} | result}).encode() + b"\n"


def streamed(*lines: bytes) -> bytes:
    """An answer of lines, after which more could follow."""
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in lines)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


class Staying(bytes):
    """An answer after which the connection does not end."""


class Played:
    """See :func:`played`.

    Attributes:
        url: its URL.
        paths: those that were asked for.
        times: when, by the loop's clock.
        fields: the header fields of the requests, by their names in small letters.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.url = ""
        self.paths: list[str] = []
        self.times: list[float] = []
        self.fields: list[dict[str, str]] = []
        self._waiting: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request."""
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = json.loads(await reader.readexactly(int(fields["content-length"])))
            path = head[0].split()[1]
            self.paths.append(path)
            self.times.append(asyncio.get_running_loop().time())
            self.fields.append(fields)
            answer = self.answer(path, body)
            if answer is None:
                self._waiting.append(writer)
                return
            writer.write(answer)
            await writer.drain()
            if isinstance(answer, Staying):
                self._waiting.append(writer)
                return
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def let_go(self) -> None:
        """Ends the connections without an answer."""
        for writer in self._waiting:
            writer.close()


@asynccontextmanager
async def played(answer: Answer) -> AsyncIterator[Played]:
    """A server on this namespace's loopback, while it is used."""
    server = Played(answer)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        server.let_go()
        await listening.wait_closed()


def run_with[T](answer: Answer, work: Callable[[Played], Awaitable[T]]) -> T:
    """What `work` returns with such a server."""

    async def run() -> T:
        async with played(answer) as server:
            return await work(server)

    return asyncio.run(run())
