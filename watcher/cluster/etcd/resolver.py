"""The addresses of members that are named: asked of the system, and of nobody who holds us up.

A resolver may hang for as long as it likes (nsswitch.conf(5), resolv.conf(5)). asyncio's own
threads are waited for at the end of the process; these are not.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from threading import Thread
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV

type _Found = list[ResolveResult]


class Resolver(AbstractResolver):
    """See the module's docstring. The caller asks for each name once at a time: aiohttp does."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> _Found:
        """The addresses of a host.

        Raises:
            OSError: the resolver has none.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Found] = loop.create_future()

        def ask() -> None:
            try:
                found: _Found | Exception = _addresses(host, port, family)
            except Exception as error:  # noqa: BLE001 (raised in the loop's thread)
                found = error
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_answer, answer, found)

        Thread(target=ask, name="resolver", daemon=True).start()
        return await answer

    async def close(self) -> None:
        """Nothing: who still asks then, asks for nobody."""


def _answer(answer: asyncio.Future[_Found], found: _Found | Exception) -> None:
    if answer.done():  # it was cancelled
        return
    if isinstance(found, Exception):
        answer.set_exception(found)
    else:
        answer.set_result(found)


def _addresses(host: str, port: int, family: socket.AddressFamily) -> _Found:
    """What aiohttp.resolver.ThreadedResolver finds."""
    answers = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    found: _Found = []
    for version, _, protocol, _, address in answers:
        # It has the zone of an address of a link.
        name, service = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        found.append(
            ResolveResult(
                hostname=host, host=name, port=int(service), family=version, proto=protocol,
                flags=_NUMERIC,
            )
        )  # fmt: skip
    return found
