"""A history from its beginning to its end, when all is well."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial

from tests.support.agreeing import place_of
from tests.support.histories.judged import (
    BLOCKS,
    CLONE,
    FIXED,
    NAMES,
    SUBNET,
    TWIN,
    Registry,
)
from tests.support.histories.restores import Restores
from tests.support.holdings import BLOCK
from tests.support.waiting import PATIENCE
from watcher.cluster.etcd.errors import EtcdError
from watcher.model.cluster import block_at
from watcher.model.errors import InvalidRequest
from watcher.store.room import capacity


class History(Restores):
    """Hosts, what is done to them, and what must hold."""

    async def play(self, steps: Callable[[History], Awaitable[None]]) -> None:
        """Have all hosts join, do `steps`, and see that all is well in the end."""
        asyncio.get_running_loop().set_exception_handler(self._note)
        async with AsyncExitStack() as self._stack:
            self._etcd = await self._stack.enter_async_context(self.played.client())
            try:
                for name in NAMES:
                    self.host(name).start()
                await self._until(self._all_have_blocks, "all have joined")
                await self._look()
                await steps(self)
                await self._settle()
            except BaseException as error:
                for name, host in self.played.hosts.items():
                    error.add_note(
                        f"{name}: {host.blocks_told()}\n" + "\n".join(map(str, host.lines))
                    )
                raise
            finally:
                if not self.up:
                    self.real.start()
                if self._removal is not None:
                    self._removal[2].cancel()
                await self.played.stop()

    async def _settle(self) -> None:
        """All is well again, by itself."""
        await self.heal()
        await self._end_removals()
        await self._end_of_others()
        for name in NAMES:
            host = self.host(name)
            await host.kill_agent()
            host.kill_service()
            host.start()
        await self._until_settled()
        self.holdings.suspects.clear()
        self.holdings.check()
        self._raise()
        for name in NAMES:
            self._end_all(name)
        await self._until_settled(ended=True)
        await self._fill()
        for name in NAMES:
            self._end_all(name)
        for host in self.played.hosts.values():
            assert not host.logged("unexpected error")
        for name, ip in zip(NAMES, FIXED, strict=False):
            await self._until(partial(self._starts, name, ip), f"{name} gets {ip}")

    def _starts(self, name: str, ip: str, _: Registry) -> bool:
        try:
            self.host(name).run(f"last-{name}", ip=ip)
        except InvalidRequest as error:
            raise AssertionError(str(error)) from error
        return True

    def _end_all(self, name: str) -> None:
        host = self.host(name)
        for sandbox in list(host.known_sandboxes()):
            host.end(sandbox.id)

    async def _end_of_others(self) -> None:
        """Somebody says which of two machines of a name is right, and what is garbage."""
        for name in (TWIN, CLONE):
            host = self.host(name)
            await host.stop()
            if host.path.exists():
                host.start_service()
                host.end_all()
                host.kill_service()
            self.holdings.forget(name)
        registry = await self.read()
        record = registry.values.get("hosts/a")
        if isinstance(record, dict) and record["machine"] == f"m-{TWIN}":
            await self.played.remove("a", force=True)

    async def _until_settled(self, *, ended: bool = False) -> None:
        """Each has what etcd has for it; if all have `ended`, etcd has nothing else."""
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        while True:
            self._raise()
            try:
                registry = await self.read()
                await self._help(registry)
                self._see_settled(registry, ended=ended)
            except (AssertionError, EtcdError) as error:
                if loop.time() > end:
                    raise AssertionError("it is not settled") from error
            else:
                return
            await asyncio.sleep(0.02)

    async def _help(self, registry: Registry) -> None:
        """Time passes, and somebody puts right, or deletes, what no host can read."""
        if registry.marked:
            await self._end_hold()
        self._restored = False
        for name in NAMES:
            host, alive = self.host(name), registry.values.get(f"alive/{name}")
            if isinstance(alive, dict) and alive["boot"] != host.boot:
                await self.lapse(name)
            key = f"hosts/{name}"
            if registry.values.get(key, "") is None and not host.known.identity().cluster_id:
                await self._delete(key)
        held = {place for name in NAMES for place in self.holdings.of(name).held}
        for key, value in registry.values.items():
            part = key.startswith(("blocks/", "claims/"))
            if value is None and part and place_of(key) not in held:
                await self._delete(key)
        if registry.values["networks/net"] is None:
            await self._write("networks/net", self._network)

    def _see_settled(self, registry: Registry, *, ended: bool) -> None:
        assert not registry.marked, "etcd was restored"
        for name in NAMES:
            host, has = self.host(name), self.holdings.of(name)
            mine = {place for place, of in registry.own.items() if of == (name, has.incarnation)}
            others = {place: of for place, (of, _) in registry.own.items() if of != name}
            assert has.held == mine, f"{name} has {has.held}, and etcd {mine}"
            assert not host.blocks("leaving"), f"{name} is giving back"
            assert not host.blocks("lost") or not ended, f"{name} has lost what it does not lease"
            assert host.peer_blocks() == others, f"{name} knows {host.peer_blocks()}, of {others}"
            count = sum(place.endswith("/30") for place in registry.own)
            assert has.held or count == BLOCKS, f"{name} has nothing"
        all_of_them = sum(key.startswith(("blocks/", "claims/")) for key in registry.values)
        held = sum(len(self.holdings.of(name).held) for name in NAMES)
        assert all_of_them == held or not ended, f"etcd has what is nobody's: {registry.values}"

    async def _fill(self) -> None:
        """No address has been lost: each can be leased."""
        every = sum(capacity(SUBNET, block_at(SUBNET, BLOCK, n)) for n in range(BLOCKS))

        def full(_: Registry) -> bool:
            for name in NAMES:
                with suppress(InvalidRequest):
                    while True:
                        self.host(name).run(f"c{next(self._ids)}")
            leased = sum(len(self.holdings.of(name).leases) for name in NAMES)
            assert leased == every, f"{leased} of {every} are leased"
            return True

        await self._until(full, "all addresses can be leased")
