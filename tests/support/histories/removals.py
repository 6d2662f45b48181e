"""Hosts that are removed by `watcher hosts rm`, while they and others go on."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tests.support.histories.faults import Faults
from watcher.cluster.etcd.errors import EtcdError
from watcher.cluster.registry.keys import Keys
from watcher.cluster.registry.removal import NoSuchHost, StillAlive, remove_host


class Removals(Faults):
    """What becomes of hosts that are removed; one removal at a time."""

    async def remove(self, name: str, force: bool, at: int) -> None:
        """`watcher hosts rm`; before that transaction it stands still, until the next removal.

        A host that hears of it leases nothing more from what it had.
        """
        await self._end_removals()
        await self._remove(name, force=force, at=at)

    async def _remove(self, name: str, *, force: bool, at: int) -> None:
        called, before = self.host(name).name, self.holdings.of(name).incarnation
        hears = self._takes_part(name)
        if not await self._begin_removal(called, force=force, at=at) or not hears:
            return
        with suppress(EtcdError):
            registry = await self.read()
            record = registry.values.get(f"hosts/{called}")
            if isinstance(record, dict) and record.get("incarnation") == before:
                return  # it has done nothing yet, or was refused
            if registry.marked or self._restored:
                return  # only the lease stores know who has what
            await self._until(
                lambda _: self.holdings.of(name).incarnation != before,
                "it hears that it is removed",
            )
            assert not self.holdings.of(name).held, "a removed host leases"

    async def remove_by_and_by(self, names: list[str], at: int, count: int) -> None:
        """A host that is removed joins again before the removal is through."""
        await self._end_removals()
        await self.run_many(names[0], 3)
        await self._remove(names[0], force=True, at=at)
        await self._again(names[0])
        await asyncio.sleep(0.15)
        await self._end_removals()
        await self._look()
        for name in names[1:]:
            await self.run_many(name, count)

    async def overtake(self, names: list[str], ending: int, starting: int) -> None:
        """What a host has decided is done only when it was removed, and others have what it had."""
        await self._end_removals()
        await self.run_many(names[0], starting)
        client = self.host(names[0]).client
        if client is not None:
            client.sends.clear()
        await self.end(names[0], ending, oldest=False)
        await asyncio.sleep(0.12)
        await self.run_many(names[0], starting)
        await asyncio.sleep(0.05)
        await self._begin_removal(self.host(names[0]).name, force=True, at=99)
        await self._look()
        for _ in range(3):
            for name in names[1:]:
                await self.run_many(name, 3)
        if client is not None:
            client.sends.set()

    async def replace(self, names: list[str]) -> None:
        """A host is removed, others take all that it had, and it joins again."""
        await self._end_removals()
        await self.run_many(names[0], 3)
        await self._remove(names[0], force=True, at=99)
        for _ in range(5):
            for name in names[1:]:
                await self.run_many(name, 2)
        await self._again(names[0])

    async def _begin_removal(self, called: str, *, force: bool, at: int) -> bool:
        """Begin one, and wait until it stands still or is done; whether it was begun."""
        with suppress(EtcdError):
            await self._suspect_start_of(called)
            client = await self._stack.enter_async_context(self.played.client())
            client.pause = at
            stands = client.stands

            async def work() -> None:
                try:
                    await remove_host(client, Keys(self.played.prefix), called, force=force)
                except (StillAlive, NoSuchHost, EtcdError):
                    pass
                finally:
                    stands.set()

            self._removed = True
            self._removal = called, client, asyncio.create_task(work())
            self._stands_at = at
            await stands.wait()
            return True
        return False

    async def _end_removals(self) -> None:
        """What of a removal is left to do, is done."""
        if self._removal is not None:
            called, client, work = self._removal
            if not work.done():
                with suppress(EtcdError):
                    await self._suspect_start_of(called)
            self._removal = None
            client.sends.set()
            await work

    async def _suspect_start_of(self, called: str) -> None:
        """Suspect who is in etcd by that name, or was so when a removal began."""
        incarnations: set[object] = set()
        if called == self._removing[0] and self._removal is not None:
            incarnations = self._removing[1]
        if not incarnations or not self._stands_at:  # the host's key is still to be removed
            record = (await self.read()).values.get(f"hosts/{called}", {})
            all_of_them = {self.holdings.of(name).incarnation for name in self.played.hosts}
            incarnations |= {record.get("incarnation")} if isinstance(record, dict) else all_of_them
        self._removing = called, incarnations
        for name, host in self.played.hosts.items():
            if host.name == called and self.holdings.of(name).incarnation in incarnations:
                self.holdings.suspects.add(name)
        self.holdings.check()
