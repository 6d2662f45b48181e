"""The program's client of etcd, in a network namespace."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from tests.support import traffic
from tests.support.etcd import Etcd as RealEtcd
from tests.support.host.place import Place
from watcher.cluster.etcd.client import Etcd
from watcher.cluster.etcd.words import TIMES, Times, Tls

type Work[T] = Callable[[Etcd], Awaitable[T]]


def client_of(real: RealEtcd, times: Times = TIMES, **others: Any) -> Etcd:
    """A client for a real etcd, with other arguments where they are named."""
    arguments: dict[str, Any] = {
        "endpoints": real.endpoints,
        "tls": Tls(real.ca, real.cert, real.key),
        "user": real.user,
        "password_file": real.password_file,
        "log": structlog.get_logger(),
        "times": times,
    }
    return Etcd(**(arguments | others))


def within[T](place: Place, work: Callable[[], Awaitable[T]]) -> T:
    """What `work` returns, in the network namespace of a place."""

    async def run() -> T:
        return await work()

    with traffic.entered(place.netns):
        return asyncio.run(run())


def done[T](real: RealEtcd, work: Work[T], times: Times = TIMES, **others: Any) -> T:
    """What `work` returns with a client of a real etcd, beside its first member."""

    async def run() -> T:
        async with client_of(real, times, **others) as client:
            return await work(client)

    return within(real.members[0].place, run)
