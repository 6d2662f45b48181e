"""An etcd that is restored from an older snapshot."""

from __future__ import annotations

import asyncio

from tests.support.histories.removals import Removals


class Restores(Removals):
    """What becomes of hosts when etcd is restored."""

    async def take_snapshot(self) -> None:
        """For :meth:`restore`."""
        self._snapshot, self._removed = self.real.snapshot(), self._removal is not None

    async def restore(self, down: bool, names: list[str], count: int) -> None:
        """Etcd is restored; while `watcher cluster` is down on all hosts, if so."""
        if self._snapshot is None:
            return
        await self._end_removals()
        if down:
            for name in self.played.hosts:
                await self.host(name).kill_agent()
        self.real.restore(self._snapshot)
        self._restored, self._held_for = True, 0
        if self._removed:
            self._suspect_all()
        if down:
            for name in names:
                await self.start(name)
                await self.run_many(name, count)
                await asyncio.sleep(0.05)

    async def change_hands(self, names: list[str], kind: str, down: bool) -> None:
        """What a host has at the time of a snapshot becomes another's, and etcd is restored."""
        first, second, third = names
        ip = await self._fixed(first, kind)
        await self._run(third, ip, 6)
        await self.take_snapshot()
        await self.end(first, 99, oldest=True)
        await self.end(third, 99, oldest=True)
        await asyncio.sleep(0.15)
        await self.run_many(second, 6)
        await self._run(second, ip, 6)
        await self.restore(down, names, 4)
        await self.run_many(first, 6)
        await self.run_many(second, 3)
