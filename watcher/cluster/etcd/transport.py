"""One request to one member of etcd: HTTP 1.1, nothing of which is trusted."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import msgspec

from watcher.cluster.etcd.errors import Failed, Silent, TooLarge
from watcher.cluster.etcd.resolver import Resolver
from watcher.cluster.etcd.secrets import Certificates
from watcher.cluster.etcd.wire import MAX_ANSWER, Lines, read_error
from watcher.cluster.etcd.words import Times, Tls
from watcher.model.errors import shortened

_HEADERS: Final = {
    "User-Agent": "watcher",
    "Accept-Encoding": "identity",
    # A member without a leader says so at once, and ends a watch when it loses its leader:
    # `MetadataRequireLeaderKey` in api/v3rpc/rpctypes/md.go; the gateway hands it on without the
    # prefix (`MetadataHeaderPrefix` of grpc-gateway).
    "Grpc-Metadata-hasleader": "true",
}
_CLOSED: Final = "it has closed the connection"
_MAX_ERROR: Final = 1 << 20
_KEEP_ALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A connection whose other end is gone ends within 11 s, though nothing is sent on it: tcp(7)."""


class Transport:
    """Connections to members; made by and for one event loop.

    Args:
        tls: the files for `https://`.
        times: how long things may take.
    """

    def __init__(self, tls: Tls, times: Times) -> None:
        self._certificates = Certificates(tls)
        self._times = times
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ttl_dns_cache=10, keepalive_timeout=30, resolver=Resolver()
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=times.connect),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()

    async def ask(self, member: str, path: str, body: Any, token: str = "") -> bytes:
        """The body of the answer to a request.

        Args:
            body: sent as JSON; bytes in it as base64.

        Raises:
            Answered: etcd answers with an error.
            Failed: the member does not answer, or is no etcd.
            Refused: a file for TLS cannot be used.
            TooLarge: the answer is.
        """
        try:
            async with asyncio.timeout(self._times.answer):
                async with self._posted(member, path, body, token) as response:
                    return await _whole(response, MAX_ANSWER)
        except TimeoutError:
            raise Silent(f"no answer within {self._times.answer:g} s", sent=True) from None

    @asynccontextmanager
    async def lines(
        self, member: str, path: str, body: Any, token: str = ""
    ) -> AsyncIterator[Stream]:
        """The lines of an answer that does not end by itself; the first has the usual deadline.

        Raises:
            Answered, Failed, Refused: as :meth:`ask`.
        """
        try:
            async with asyncio.timeout(self._times.answer) as deadline:
                async with self._posted(member, path, body, token) as response:
                    deadline.reschedule(None)
                    transport = response.connection.transport if response.connection else None
                    if transport is not None:
                        keep_alive(transport.get_extra_info("socket"))
                    try:
                        yield Stream(response)
                    finally:
                        if transport is not None:  # else TLS waits for the member's farewell
                            transport.abort()
        except TimeoutError:
            raise Silent(f"no answer within {self._times.answer:g} s", sent=True) from None

    @asynccontextmanager
    async def _posted(
        self, member: str, path: str, body: Any, token: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that etcd gives if all is well."""
        context = self._certificates.context() if member.startswith("https:") else True
        headers = {"Authorization": token} if token else {}
        try:
            async with self._session.post(
                member + path,
                data=io.BytesIO(msgspec.json.encode(body)),
                headers=headers | {"Content-Type": "application/json"},
                ssl=context,
                allow_redirects=False,
            ) as response:
                await _look_at(response)
                yield response
        except aiohttp.ClientError as error:
            raise _failed(error) from None


class Stream:
    """The lines of an answer."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._lines = Lines()

    @property
    def begun(self) -> int:
        """The bytes of a line that is not whole yet."""
        return self._lines.begun

    async def next(self) -> list[bytes]:
        """The next lines, at least one; none at the end. It may be cancelled and called again.

        Raises:
            Failed: a line is too long.
        """
        while piece := await self._response.content.readany():
            if lines := self._lines.add(piece):
                return lines
        return []


def keep_alive(connection: socket.socket | None) -> None:
    """Has the kernel ask the other end whether it is there while nothing is sent."""
    if connection is not None:
        for level, option, value in _KEEP_ALIVE:
            connection.setsockopt(level, option, value)


async def _look_at(response: aiohttp.ClientResponse) -> None:
    """Raises: Answered, Failed: it is not what was asked for."""
    status = response.status
    if HTTPStatus(200) <= status < HTTPStatus(300):
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise Failed("it does not answer as etcd does (compressed)", sent=True)
        return
    if HTTPStatus(300) <= status < HTTPStatus(400):
        raise Failed(f"it redirects (HTTP status {status}), which etcd does not", sent=True)
    try:
        error = read_error(await _whole(response, _MAX_ERROR))
    except (Failed, TooLarge):
        raise Failed(f"it answers with HTTP status {status}, not as etcd does", sent=True) from None
    raise error


async def _whole(response: aiohttp.ClientResponse, most: int) -> bytes:
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > most:
            what = f"etcd's answer is larger than {most >> 20} MiB"
            raise TooLarge(what, "see what is in etcd: `etcdctl get --prefix --keys-only`")
        pieces.append(piece)
    return b"".join(pieces)


def _failed(error: aiohttp.ClientError) -> Failed:
    """What an error of the library is for users."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Failed("it does not accept a connection")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Failed(f"its certificate does not count: {_certificate(error)}")
    if isinstance(error, aiohttp.ClientConnectorError):
        return Failed(_words(error.os_error))
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return Failed(_CLOSED, sent=True, stale=True)
    if isinstance(error, OSError):
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        return Failed(_words(cause), sent=True, stale=not isinstance(cause, ssl.SSLError))
    if isinstance(error, aiohttp.ClientResponseError):
        return Failed(f"it does not answer as etcd does ({shortened(error.message)})", sent=True)
    if isinstance(error, aiohttp.ClientPayloadError):
        return Failed("it has ended its answer too early", sent=True)
    return Failed(shortened(f"{type(error).__name__}: {error}"), sent=True)


def _words(error: OSError) -> str:
    """What the kernel, OpenSSL or the resolver of names says."""
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or str(error)).lower().replace('_', ' ')}"
    if isinstance(error, socket.gaierror) or not error.errno:
        return shortened(error.strerror or str(error)) or _CLOSED
    return os.strerror(error.errno)  # asyncio has put the address into `strerror`


def _certificate(error: aiohttp.ClientConnectorCertificateError) -> str:
    inner = error.certificate_error
    return str(getattr(inner, "verify_message", "") or inner)
