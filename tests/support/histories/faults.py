"""Processes, machines and etcd that fail, and what somebody writes there."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tests.support.agreeing import PREFIX, place_of
from tests.support.histories.containers import Containers
from tests.support.histories.judged import (
    CLONE,
    NAMES,
)
from watcher.cluster.etcd.errors import EtcdError


class Faults(Containers):
    """What fails, but for what removals and restored snapshots do."""

    async def start(self, name: str) -> None:
        """What does not run is started."""
        host = self.host(name)
        if name == CLONE and not host.path.exists():
            return
        if host.store is None:
            host.start_service()
        if host.killed or host.agent is None:
            await self._again(name)

    async def _again(self, name: str, kill: int | None = None, *, after: bool = False) -> None:
        host = self.host(name)
        if name == CLONE and not host.path.exists():
            return
        await host.kill_agent()
        host.start_agent(kill, after=after)

    async def kill_agent_at(self, name: str, kill: int, after: bool) -> None:
        """`watcher cluster` is killed at one of its next requests."""
        client = self.host(name).client
        if client is not None and not self.host(name).killed:
            client.kill, client.after = kill, after
        else:
            await self._again(name, kill, after=after)

    async def kill_agent(self, name: str) -> None:
        """`watcher cluster` is killed."""
        await self.host(name).kill_agent()

    async def kill_service(self, name: str, at: int, back: bool) -> None:
        """The service is killed between two changes of its lease store."""
        host = self.host(name)
        if host.store is not None:
            host.kill_service_at(at)
            await asyncio.sleep(0.02)
            host.kill_service()
            if back:
                host.start_service()

    async def reboot(self, name: str, lost: bool) -> None:
        """A machine starts again, perhaps without its lease store."""
        if name != CLONE or self.host(name).path.exists():
            await self.host(name).reboot(lost=lost)

    async def cut_off(self, name: str) -> None:
        """Etcd does not answer a host."""
        if self.host(name).client is not None:
            self.host(name).cut_off()

    async def heal(self) -> None:
        """All is there again."""
        if not self.up:
            self.real.start()
        for host in self.played.hosts.values():
            if host.client is not None:
                host.cut_off(away=False)
                host.client.sends.set()
                host.client.hears.set()
        for name in NAMES:
            await self.start(name)

    async def lapse(self, name: str) -> None:
        """It is not heard of for longer than `ttl`."""
        key = f"alive/{self.host(name).name}"
        with suppress(EtcdError):
            lease = (await self.read()).leases.get(key)
            if lease:
                await self._etcd.revoke(lease)

    async def clone(self, name: str) -> None:
        """A copy of a machine with its disk starts beside it, and takes no part if it is there."""
        source, copy = self.host(name), self.host(CLONE)
        await copy.stop()
        self.holdings.suspects |= {name, CLONE}
        copy.become(source)
        copy.start_service()
        copy.end_all()
        copy.start_agent()
        if not self.up or not self._takes_part(name):
            return
        with suppress(EtcdError):
            registry = await self.read()
            if registry.marked or f"alive/{source.name}" not in registry.values:
                return
            await self._until(
                lambda _: not self.holdings.of(CLONE).held, "a copy of a host holds nothing"
            )

    async def etcd_away(self) -> None:
        """Etcd is killed."""
        self.real.members[0].kill()

    async def etcd_restarts(self) -> None:
        """Etcd is killed, and starts again."""
        self.real.members[0].kill()
        self.real.start()

    async def compact(self) -> None:
        """Etcd forgets what is old."""
        self.real.put(f"{PREFIX}/other", "")  # the same revision is compacted only once
        self.real.compact()

    async def garbage(self, table: str, value: str, unseen: list[str]) -> None:
        """Somebody overwrites a key, or makes one, by what cannot be read.

        Those of `unseen` are started anew, so that they have not read what was there.
        """
        if table == "claims/":
            first, second = self.random.sample(NAMES, 2)
            await self._run(first, await self._fixed(second, "free"), 8)
        values = (await self.read()).values
        keys = sorted(key for key in values if key.startswith(table)) or ["x"]
        chosen = self.random.choice(keys)
        if chosen.startswith("networks/"):
            unseen = []
            if not any(map(self._takes_part, NAMES)):
                return  # nobody would know what it was
        if chosen.startswith(("blocks/", "claims/")):
            self._garbage.add(place_of(chosen))
        for name in unseen:
            await self.host(name).kill_agent()
        await self._write(chosen, value.encode())
        for name in unseen[:2]:
            await self._again(name)
            await asyncio.sleep(0.05)
            await self.run_many(name, 3)
