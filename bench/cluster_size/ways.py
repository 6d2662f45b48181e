"""What the first real host's service does about the ways to others: changes, and repairs."""

from __future__ import annotations

import asyncio
import socket
import statistics
import subprocess
import time
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final, Self

from handlers.kernel.messages import messages
from handlers.kernel.rtnl.block_routes import read_block_route
from handlers.kernel.rtnl.numbers import RTM_NEWROUTE
from watcher.events.subscriptions import listen
from watcher.model.cluster import HEADERS, device

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.cluster_size.real import Service

_ROUTES: Final = (7, 11)
"""RTNLGRP_IPV4_ROUTE and _IPV6_ROUTE."""

_ROUNDS: Final = 4
_PATIENCE: Final = 60.0
_REST: Final = 1.0
_LONGEST: Final = 6.0
"""Seconds until the service has looked: it waits the longer after a look, the longer that was."""


class Routes:
    """Hears of routes to blocks that are made on this host."""

    def __init__(self) -> None:
        self._socket = listen(socket.NETLINK_ROUTE, _ROUTES)
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def made(self, to: bytes) -> float:
        """When the next route to `to` is made, by the monotonic clock."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_PATIENCE):
            while True:
                data = await loop.sock_recv(self._socket, 1 << 17)
                for kind, _, _, _, body in messages(memoryview(data)):
                    route = read_block_route(body) if kind == RTM_NEWROUTE else None
                    if route is not None and route.to == to:
                        return time.monotonic()


def routes() -> int:
    """How many routes to blocks there are."""
    return len(output("ip", "route", "show", "proto", "119").splitlines()) + len(
        output("ip", "-6", "route", "show", "proto", "119").splitlines()
    )


def output(*words: str) -> str:
    """What a command prints."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


async def repairs(service: Service, to: str) -> dict[str, Any]:
    """What the service's loop does when a route goes, and when a link changes.

    Args:
        to: an IPv4 block of another host.
    """
    packed = socket.inet_aton(to.partition("/")[0])
    link = output("ip", "-o", "route", "show", to).split(" dev ")[1].split()[0]

    async def route() -> None:
        with Routes() as heard:
            waiting = asyncio.create_task(heard.made(packed))
            output("ip", "route", "del", to)
            await waiting
        await asyncio.sleep(0.5)

    mtus = cycle((1400, 1500))

    async def changed() -> None:
        mtu = next(mtus)
        output("ip", "link", "set", link, "mtu", str(mtu))
        async with asyncio.timeout(_PATIENCE):
            while f" mtu {mtu - HEADERS[4]} " not in output("ip", "link", "show", device(1)):
                await asyncio.sleep(0.1)
        await asyncio.sleep(_REST)

    async def default() -> None:
        output(
            "ip", "route", "replace", "default", "via", "192.168.255.254", "mtu", str(next(mtus))
        )
        await asyncio.sleep(2.0)

    return {
        "a_route_deleted": await _steps(service, route),
        "another_default_route": await _steps(service, default),
        "the_link_changed": await _steps(service, changed),
    }


async def _steps(service: Service, what: Callable[[], Any]) -> dict[str, float]:
    longest, used = [], []
    for number in range(_ROUNDS + 1):
        await asyncio.sleep(_REST)
        service.steps()
        await what()
        _, most, all_of_it = service.steps()
        if number:
            longest.append(most)
            used.append(all_of_it)
    return {
        "longest_step_ms": round(1000 * statistics.median(longest), 1),
        "processor_ms": round(1000 * statistics.median(used), 1),
    }
