"""Serves the metrics by HTTP.

Nobody who connects is trusted. Each connection has one request, of bounded length and in bounded
time, and reads the answer in bounded time. There is a bound to the connections: one more ends that
which has been there longest, so that idle ones never keep a reader out.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from prometheus_client.exposition import gzip_accepted

from watcher.observe.metrics.request import MAX, Refused, parsed
from watcher.observe.metrics.text import negotiated

if TYPE_CHECKING:
    import socket
    from asyncio import StreamReader, StreamWriter, Task
    from collections.abc import Mapping

    from watcher.log.logger import Log
    from watcher.observe.metrics.request import Request
    from watcher.observe.metrics.source import Shared

TIMEOUT: Final = 10.0
"""Seconds that a request may take to come, and again an answer to be read."""
CONNECTIONS: Final = 64

_PART: Final = 1 << 16
"""So much of an answer is passed on at once: what one reader has not read yet takes no more."""

_GONE: Final = TimeoutError, ConnectionError, asyncio.IncompleteReadError
"""What a reader does that is too slow, or has gone: it gets no answer, and the log no line."""

_TEXT: Final = "text/plain; charset=utf-8"
_PAGE: Final = b"""<!doctype html>
<html lang="en"><title>watcher</title>
<h1>watcher</h1><p><a href="/metrics">Metrics</a> for Prometheus.</p></html>
"""


class Server:
    """Answers `/metrics` and `/`.

    Args:
        shared: the scrapes.
        log: gets the errors that are defects of this program.
    """

    def __init__(self, shared: Shared, log: Log) -> None:
        self._shared = shared
        self._log = log
        self._tasks: dict[Task[None], None] = {}
        """A task for each connection, in the order in which they came."""

    async def serve(self, listener: socket.socket) -> None:
        """Serve on `listener` until cancelled; no connection goes on after that."""
        server = await asyncio.start_server(self._connected, sock=listener, limit=MAX)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= CONNECTIONS:
            oldest = next(iter(self._tasks))
            del self._tasks[oldest]  # now: many may come before it has ended
            oldest.cancel()
        self._tasks[task] = None
        try:
            await self._converse(reader, writer)
        except _GONE:
            pass
        except asyncio.CancelledError:
            pass  # too many connections, or the end of the program
        finally:
            self._tasks.pop(task, None)
            writer.transport.abort()

    async def _converse(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Read a request and answer it."""
        whole = True
        try:
            async with asyncio.timeout(TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
            request = parsed(head)
            whole = request.whole
            status, fields, body = await self._answer(request, local=_is_local(writer))
        except asyncio.LimitOverrunError:
            status, fields, body = _refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except Refused as refused:
            status, fields, body = _refusal(refused.status)
        except _GONE:
            raise
        except Exception as error:  # noqa: BLE001 (a defect must not end the server)
            self._log.error("a scrape failed", error=repr(error))
            status, fields, body = _refusal(HTTPStatus.INTERNAL_SERVER_ERROR)
        async with asyncio.timeout(TIMEOUT):
            await _send(writer, status, fields, body, whole=whole)

    async def _answer(self, request: Request, *, local: bool) -> _Answer:
        """The answer to `request`; `local`: the reader is on this host.

        It gets a plain text then: compression takes more time than all the rest.
        """
        match request.path:
            case "/metrics":
                form = negotiated(request.fields.get("accept", ""))
                gzip = not local and gzip_accepted(request.fields.get("accept-encoding", ""))
                scrape = await self._shared.latest()
                fields = {"Content-Type": form.content_type, "Vary": "Accept, Accept-Encoding"}
                if gzip:
                    fields["Content-Encoding"] = "gzip"
                return HTTPStatus.OK, fields, scrape.text(form, gzip=gzip)
            case "/":
                return HTTPStatus.OK, {"Content-Type": "text/html; charset=utf-8"}, _PAGE
        raise Refused(HTTPStatus.NOT_FOUND)


type _Answer = tuple[HTTPStatus, Mapping[str, str], bytes]
"""Status, header and body."""


def _refusal(status: HTTPStatus) -> _Answer:
    fields = {"Content-Type": _TEXT}
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        fields["Allow"] = "GET, HEAD"
    return status, fields, f"{status.value} {status.phrase}\n".encode()


def _is_local(writer: StreamWriter) -> bool:
    """Whether both ends of the connection have the same address."""
    peer, own = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
    return peer is not None and own is not None and bool(peer[0] == own[0])


async def _send(
    writer: StreamWriter,
    status: HTTPStatus,
    fields: Mapping[str, str],
    body: bytes,
    *,
    whole: bool,
) -> None:
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        *(f"{name}: {value}" for name, value in fields.items()),
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    writer.write("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n")
    view = memoryview(body if whole else b"")
    for start in range(0, len(view), _PART):
        writer.write(view[start : start + _PART])
        await writer.drain()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
