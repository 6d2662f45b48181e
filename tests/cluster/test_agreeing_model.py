"""Whatever happens to hosts, etcd and the processes between them: no address is leased twice.

Random histories of a few hosts by a real etcd. After each step, no two hosts have leased one
address, but in the histories that docs/cluster.md names. In the end all is well again by itself,
and each host has exactly the blocks that etcd has for it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support import traffic
from tests.support.agreeing import PREFIX, Played, PlayedHost, network, until
from tests.support.etcd import Etcd as RealEtcd
from tests.support.host.machine import Machine
from watcher.cluster.registry.removal import NoSuchHost, StillAlive
from watcher.model.address import Address
from watcher.model.errors import InvalidRequest

pytestmark = pytest.mark.accident

EXAMPLES: Final = int(os.environ.get("WATCHER_MODEL_EXAMPLES", "0"))
"""0 is CI's few, always the same ones; `make soak` has many, and others each time."""

STEPS: Final = 40 if EXAMPLES else 25
NAMES: Final = ("a", "b", "c")
TWIN: Final = "twin"
"""Another machine that is called `a`."""

SUBNET: Final = IPv4Network("10.9.0.0/27")
BLOCKS: Final = 8
FIXED: Final = tuple(f"10.9.0.{n}" for n in (6, 9, 14, 19, 25))
PAUSES: Final = (0.0, 0.01, 0.05, 0.2)

_numbers: Final = itertools.count(1)
hosts: Final = st.sampled_from((*NAMES, *NAMES, TWIN))
pauses: Final = st.sampled_from(PAUSES)


class Model(RuleBasedStateMachine):
    """Hosts, what is done to them, and what must hold."""

    real: ClassVar[RealEtcd]

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        directory = self.stack.enter_context(TemporaryDirectory(prefix="model-"))
        self.stack.enter_context(traffic.entered(self.real.members[0].place.netns))
        self.loop = asyncio.new_event_loop()
        self.stack.callback(self.loop.close)
        self.played = Played(self.real, Path(directory), f"{PREFIX}/model{next(_numbers)}")
        small = network(SUBNET)
        for name in NAMES:
            self.played.add(name, small)
        self.played.add(TWIN, small, host="a")
        self.ids = itertools.count(1)
        self.snapshot: Path | None = None
        self.removed = False
        """Whether a host was removed since the snapshot."""
        self.suspects: set[str] = set()
        """Hosts that may not have heard yet that what they had is not theirs any more."""
        self.excused: set[tuple[str, str]] = set()
        """Containers, by their hosts, with addresses that may have become those of others."""
        self.history: list[str] = []

    @property
    def up(self) -> bool:
        """Whether etcd runs."""
        return self.real.members[0].runs

    def host(self, name: str) -> PlayedHost:
        return self.played.hosts[name]

    def do[T](self, work: Awaitable[T], pause: float = 0.0) -> T:
        """Do it, let time pass, and see what must hold."""

        async def run() -> T:
            done = await work
            await asyncio.sleep(pause)
            return done

        done = self.loop.run_until_complete(run())
        self.check()
        return done

    def check(self) -> None:
        who: dict[tuple[str, Address], tuple[str, str]] = {}
        for name, host in self.played.hosts.items():
            for place, id_ in host.leased().items():
                if name in self.suspects:
                    self.excused.add((name, id_))
                if (name, id_) in self.excused:
                    continue
                assert place not in who, f"{place} is leased to {who[place]} and {(name, id_)}"
                who[place] = (name, id_)

    # --- what is done ---------------------------------------------------------------------------

    @initialize(pause=pauses)
    def begin(self, pause: float) -> None:
        async def start() -> None:
            for name in NAMES:
                self.host(name).start()

        self.do(start(), pause)

    async def _again(self, host: PlayedHost, kill: int | None = None, *, after: bool) -> None:
        await host.kill_agent()
        host.start_agent(kill, after=after)

    @rule(name=hosts, pause=pauses)
    def start(self, name: str, pause: float) -> None:
        async def work() -> None:
            host = self.host(name)
            if host.store is None:
                host.start_service()
            if host.killed or host.agent is None:
                await self._again(host, after=False)

        self.do(work(), pause)

    @rule(name=hosts, kill=st.integers(0, 12), after=st.booleans(), pause=pauses)
    def kill_agent_at(self, name: str, kill: int, after: bool, pause: float) -> None:
        self.do(self._again(self.host(name), kill, after=after), pause)

    @rule(name=hosts, pause=pauses)
    def kill_agent(self, name: str, pause: float) -> None:
        self.do(self.host(name).kill_agent(), pause)

    @rule(name=hosts, pause=pauses, back=st.booleans())
    def kill_service(self, name: str, pause: float, back: bool) -> None:
        async def work() -> None:
            self.host(name).kill_service()
            if back:
                self.host(name).start_service()

        self.do(work(), pause)

    @rule(name=hosts, pause=pauses)
    def reboot(self, name: str, pause: float) -> None:
        self.do(self.host(name).reboot(), pause)

    @rule(name=hosts, away=st.booleans(), pause=pauses)
    def cut_off(self, name: str, away: bool, pause: float) -> None:
        async def work() -> None:
            if self.host(name).client is not None:
                self.host(name).cut_off(away=away)

        self.do(work(), pause)

    @rule(
        name=hosts, ip=st.sampled_from((*[""] * 5, *FIXED)), pause=pauses, tries=st.integers(1, 9)
    )
    def run(self, name: str, ip: str, pause: float, tries: int) -> None:
        async def work() -> None:
            host = self.host(name)
            id_ = f"c{next(self.ids)}"
            for _ in range(tries if ip else 1):
                if host.store is None:
                    return
                try:
                    host.run(id_, ip=ip)
                except InvalidRequest:
                    await asyncio.sleep(0.15)
                else:
                    return

        self.do(work(), pause)

    @rule(name=hosts, count=st.integers(2, 6), pause=pauses)
    def run_many(self, name: str, count: int, pause: float) -> None:
        async def work() -> None:
            host = self.host(name)
            for _ in range(count if host.store is not None else 0):
                try:
                    host.run(f"c{next(self.ids)}")
                except InvalidRequest:
                    return
                await asyncio.sleep(0.02)

        self.do(work(), pause)

    @rule(name=hosts, count=st.integers(1, 8), pause=pauses)
    def end(self, name: str, count: int, pause: float) -> None:
        async def work() -> None:
            host = self.host(name)
            if host.store is not None:
                for sandbox in host.store.sandboxes()[:count]:
                    host.end(sandbox.id)
                    self.excused.discard((name, sandbox.id))

        self.do(work(), pause)

    @precondition(lambda self: self.up)
    @rule(name=hosts, pause=pauses)
    def lapse(self, name: str, pause: float) -> None:
        """It is not heard of for longer than `ttl`."""

        async def work() -> None:
            key = f"{self.played.prefix}/v1/alive/{self.host(name).name}"
            async with self.played.client() as client:
                for kv in (await client.range(key)).kvs:
                    await client.revoke(kv.lease)

        self.do(work(), pause)

    @precondition(lambda self: self.up)
    @rule(name=hosts, force=st.booleans(), pause=pauses)
    def remove(self, name: str, force: bool, pause: float) -> None:
        async def work() -> None:
            called = self.host(name).name
            before = set(self.suspects)
            self.suspects |= {n for n, h in self.played.hosts.items() if h.name == called}
            try:
                await self.played.remove(called, force=force)
            except (StillAlive, NoSuchHost):
                self.suspects = before
            else:
                self.removed = True

        self.do(work(), pause)

    @rule(pause=pauses)
    def etcd_away_or_back(self, pause: float) -> None:
        async def work() -> None:
            if self.up:
                self.real.members[0].kill()
            else:
                self.real.start()

        self.do(work(), pause)

    @precondition(lambda self: self.up)
    @rule(pause=pauses)
    def compact(self, pause: float) -> None:
        async def work() -> None:
            self.real.put(f"{PREFIX}/other", "")  # the same revision is compacted only once
            self.real.compact()

        self.do(work(), pause)

    @precondition(lambda self: self.up)
    @rule()
    def take_snapshot(self) -> None:
        self.snapshot, self.removed = self.real.snapshot(), False

    @precondition(lambda self: self.snapshot is not None)
    @rule(pause=st.sampled_from((*PAUSES, 2.0)))
    def restore(self, pause: float) -> None:
        """Who cannot hear of it may go on with what others take; so may who was removed since."""

        async def work() -> None:
            assert self.snapshot is not None
            for name, host in self.played.hosts.items():
                client = host.client
                hears = client is not None and not client.away and client.kill is None
                if self.removed or not hears or host.killed or host.store is None:
                    self.suspects.add(name)
            self.real.restore(self.snapshot)

        self.do(work(), pause)

    @precondition(lambda self: self.up)
    @rule(
        key=st.sampled_from(("hosts/a", "alive/b", "networks/net", "claims/net/4/0a090006", "x")),
        value=st.sampled_from(("", "{", "null", '{"host": "b", "incarnation": "0"}', "\\xff")),
        pause=pauses,
    )
    def garbage(self, key: str, value: str, pause: float) -> None:
        async def work() -> None:
            path = f"{self.played.prefix}/v1/{key}"
            if key == "x" or self.real.get(path) is None:
                self.real.put(path, value)
                await asyncio.sleep(0.1)
                self.real.delete(path)

        self.do(work(), pause)

    # --- in the end -----------------------------------------------------------------------------

    def teardown(self) -> None:
        """All is well again, by itself."""
        try:
            self.loop.run_until_complete(self._settle())
            self.check()
        except BaseException as error:
            for name, host in self.played.hosts.items():
                error.add_note(f"{name}: {host.blocks_told()}\n" + "\n".join(map(str, host.lines)))
            raise
        finally:
            if not self.up:
                self.real.start()
            self.loop.run_until_complete(self.played.stop())
            self.stack.close()

    async def _settle(self) -> None:
        if not self.up:
            self.real.start()
        await self._remove_twin()
        for name in NAMES:
            host = self.host(name)
            await host.kill_agent()
            if host.store is None:
                host.start_service()
            host.start_agent()
        for name in NAMES:
            await until(lambda: self._is_settled(self.host(name)), f"{name} is settled")  # noqa: B023
        self.suspects.clear()
        for name in NAMES:
            host = self.host(name)
            for sandbox in list(host.known_sandboxes()):
                host.end(sandbox.id)
        self.excused.clear()
        for name in NAMES:
            await until(lambda: self._is_settled(self.host(name)), f"{name} is settled")  # noqa: B023
        for name in NAMES:
            host = self.host(name)
            if host.blocks():
                await until(lambda: host.run(f"last-{name}"), f"a container on {name}")  # noqa: B023
            self.check()

    async def _remove_twin(self) -> None:
        """Another machine has the name of a host: somebody says which is right."""
        twin = self.host(TWIN)
        await twin.stop()
        twin.start_service()
        for sandbox in list(twin.known_sandboxes()):
            twin.end(sandbox.id)
        twin.kill_service()
        record = self.played.get("hosts/a") or ""
        if f'"m-{TWIN}"' in record:
            await self.played.remove("a", force=True)

    def _is_settled(self, host: PlayedHost) -> bool:
        """Whether it has what etcd has for it, and at least one block if there is one."""
        assert self.played.agrees(host)
        assert host.blocks() or len(self.played.under("blocks")) == BLOCKS
        return True


@pytest.fixture(scope="module")
def real() -> Iterator[RealEtcd]:
    with Machine() as machine:
        yield RealEtcd((machine.here, "192.0.2.2"))


@pytest.mark.timeout(0 if EXAMPLES else 300)
def test_no_address_is_leased_twice(real: RealEtcd) -> None:
    class WithEtcd(Model):
        pass

    WithEtcd.real = real
    run_state_machine_as_test(
        WithEtcd,
        settings=settings(
            max_examples=EXAMPLES or 8,
            stateful_step_count=STEPS,
            derandomize=not EXAMPLES,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )
