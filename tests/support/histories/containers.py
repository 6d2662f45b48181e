"""Containers that start, end and move."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from ipaddress import IPv4Network

from tests.support.histories.judged import (
    BLOCKS,
    FIXED,
    NAMES,
    SUBNET,
    Judged,
)
from tests.support.holdings import BLOCK
from watcher.cluster.etcd.errors import EtcdError
from watcher.model.cluster import block_at
from watcher.model.errors import InvalidRequest


class Containers(Judged):
    """What containers do."""

    async def run(self, name: str, of: str, kind: str, tries: int) -> None:
        """A container with a fixed address starts, or is refused."""
        await self._run(name, await self._fixed(of, kind), tries)

    async def _fixed(self, of: str, kind: str) -> str:
        """A fixed address; perhaps one of a host, or of nobody."""
        if kind == "nobody's":
            with suppress(EtcdError):
                taken = {IPv4Network(place) for place in (await self.read()).own}
                free = [
                    block for n in range(1, BLOCKS - 1)
                    if (block := block_at(SUBNET, BLOCK, n)) not in taken
                ]  # fmt: skip
                if free:
                    return str(self.random.choice(free)[self.random.choice((1, 2, 3))])
        has = self.holdings.of(of)
        some = {"free": has.free, "leased": has.leases}.get(kind)
        return str(self.random.choice(sorted(some)) if some else self.random.choice(FIXED))

    async def _run(self, name: str, ip: str = "", tries: int = 1) -> str:
        host, id_ = self.host(name), f"c{next(self._ids)}"
        for _ in range(tries):
            if host.store is None:
                break
            try:
                host.run(id_, ip=ip)
            except InvalidRequest:
                await asyncio.sleep(0.03)
            else:
                leases = self.holdings.of(name).leases.values()
                (lease,) = (lease for lease in leases if lease.id == id_)
                assert lease.state == "held", f"{name} has {lease}"
                return id_
        return ""

    async def run_many(self, name: str, count: int) -> None:
        """Containers start one after another."""
        for _ in range(count):
            await self._run(name)
            await asyncio.sleep(0.005)

    async def end(self, name: str, count: int, oldest: bool) -> None:
        """So many containers end."""
        host = self.host(name)
        if host.store is not None:
            all_of_them = host.known_sandboxes()
            for sandbox in all_of_them[:count] if oldest else all_of_them[-count:]:
                host.end(sandbox.id)

    async def move(self, names: list[str], kind: str, back: bool) -> None:
        """A container with a fixed address moves from host to host."""
        ip = await self._fixed(names[-1], kind)
        for name in [*names, *names[:back]]:
            if id_ := await self._run(name, ip, 8):
                await asyncio.sleep(0.02)
                if self.host(name).store is not None:
                    self.host(name).end(id_)

    async def crowd(self, left: int) -> None:
        """Containers start until so few blocks are left."""
        for _ in range(12):
            with suppress(EtcdError):
                if BLOCKS - sum(p.endswith("/30") for p in (await self.read()).own) <= left:
                    return
            for name in NAMES:
                await self.run_many(name, 2)

    async def race(self, names: list[str], kind: str, count: int, ending: int) -> None:
        """All decide by the same; then one host after another does what it has decided."""
        if kind == "nobody's" and self.up:
            await self.crowd(1)
        clients = [c for host in self.played.hosts.values() if (c := host.client) is not None]
        for client in clients:
            client.sends.clear()
        first, second, third = names
        ip = await self._fixed(second, kind)
        work = asyncio.gather(
            self._run(first, ip, 9),
            self.run_many(second, count),
            self._replace(third, ending, ip),
        )
        await asyncio.sleep(0.12)
        self.random.shuffle(clients)
        for client in clients:
            client.sends.set()
            await asyncio.sleep(self.random.choice((0.0, 0.03)))
        await work

    async def _replace(self, name: str, count: int, ip: str) -> None:
        """Containers end, and others start."""
        await self.end(name, count, oldest=False)
        await self._run(name, ip, 2)
        await asyncio.sleep(0.1)
        await self.run_many(name, count)

    async def late(self, name: str) -> None:
        """A host hears nothing new for a while, but what it does gets through."""
        client = self.host(name).client
        if client is not None:
            client.hears.clear()
