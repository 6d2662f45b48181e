"""Whatever happens to hosts, etcd and the processes between them: no address is leased twice.

Random histories of a few hosts by a real etcd. After each step, no two hosts have leased one
address, but in the histories that docs/cluster.md names. In the end all is well again by itself,
and each host has exactly the blocks that etcd has for it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import ExitStack
from ipaddress import IPv4Network
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

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

STEPS: Final = 30
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
GARBAGE_KEYS: Final = st.sampled_from(
    ("hosts/a", "alive/b", "networks/net", "claims/net/4/0a090006", "x")
)
GARBAGE: Final = st.sampled_from(("", "{", "null", '{"host": "b", "incarnation": "0"}', "\\xff"))


class Model:
    """Hosts, what is done to them, and what must hold."""

    def __init__(self, real: RealEtcd) -> None:
        self.real = real
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

    def begin(self) -> None:
        async def start() -> None:
            for name in NAMES:
                self.host(name).start()
            await until(lambda: all(self.host(name).blocks() for name in NAMES), "all have joined")

        self.do(start())

    async def _again(self, host: PlayedHost, kill: int | None = None, *, after: bool) -> None:
        await host.kill_agent()
        host.start_agent(kill, after=after)

    def start(self, name: str, pause: float) -> None:
        async def work() -> None:
            host = self.host(name)
            if host.store is None:
                host.start_service()
            if host.killed or host.agent is None:
                await self._again(host, after=False)

        self.do(work(), pause)

    def kill_agent_at(self, name: str, kill: int, after: bool, pause: float) -> None:
        self.do(self._again(self.host(name), kill, after=after), pause)

    def kill_agent(self, name: str, pause: float) -> None:
        self.do(self.host(name).kill_agent(), pause)

    def kill_service(self, name: str, pause: float, back: bool) -> None:
        async def work() -> None:
            self.host(name).kill_service()
            if back:
                self.host(name).start_service()

        self.do(work(), pause)

    def reboot(self, name: str, pause: float) -> None:
        self.do(self.host(name).reboot(), pause)

    def cut_off(self, name: str, pause: float) -> None:
        async def work() -> None:
            if self.host(name).client is not None:
                self.host(name).cut_off()

        self.do(work(), pause)

    def heal(self, pause: float) -> None:
        """All is there again."""

        async def work() -> None:
            if not self.up:
                self.real.start()
            for host in self.played.hosts.values():
                if host.client is not None:
                    host.cut_off(away=False)

        self.do(work(), pause)
        for name in NAMES:
            self.start(name, 0.0)

    def run(self, name: str, ip: str, pause: float, tries: int) -> None:
        self.do(self._run(name, ip, tries if ip else 1), pause)

    async def _run(self, name: str, ip: str, tries: int) -> None:
        host = self.host(name)
        id_ = f"c{next(self.ids)}"
        for _ in range(tries):
            if host.store is None:
                return
            try:
                host.run(id_, ip=ip)
            except InvalidRequest:
                await asyncio.sleep(0.15)
            else:
                return

    def run_many(self, name: str, count: int, pause: float) -> None:
        self.do(self._run_many(name, count), pause)

    async def _run_many(self, name: str, count: int) -> None:
        host = self.host(name)
        for _ in range(count):
            if host.store is None:
                return
            try:
                host.run(f"c{next(self.ids)}")
            except InvalidRequest:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.01)

    def race(self, names: list[str], ip: str, pause: float) -> None:
        """One claims an address while others take blocks, or the same address."""

        async def work() -> None:
            first, *others = names
            await asyncio.gather(
                self._run(first, ip, 3),
                *(self._run_many(name, 4) for name in others),
                self._run(others[0], ip, 2),
            )

        self.do(work(), pause)

    def change_hands_and_restore(self, names: list[str], pause: float) -> None:
        """What a host has had at the time of a snapshot becomes another's, and etcd is restored."""
        first, second, _ = names
        self.take_snapshot(0.0)
        self.end(first, 99, 0.2)
        self.run_many(second, 6, 0.1)
        self.run(second, FIXED[0], 0.1, 3)
        self.restore(pause)
        self.run_many(first, 6, 0.1)
        self.run_many(second, 3, 0.1)

    def end(self, name: str, count: int, pause: float) -> None:
        async def work() -> None:
            host = self.host(name)
            if host.store is not None:
                for sandbox in host.store.sandboxes()[:count]:
                    host.end(sandbox.id)
                    self.excused.discard((name, sandbox.id))

        self.do(work(), pause)

    def lapse(self, name: str, pause: float) -> None:
        """It is not heard of for longer than `ttl`."""

        async def work() -> None:
            key = f"{self.played.prefix}/v1/alive/{self.host(name).name}"
            async with self.played.client() as client:
                for kv in (await client.range(key)).kvs:
                    await client.revoke(kv.lease)

        self.do(work(), pause)

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

    def etcd_away(self, pause: float) -> None:
        async def work() -> None:
            self.real.members[0].kill()

        self.do(work(), pause)

    def compact(self, pause: float) -> None:
        async def work() -> None:
            self.real.put(f"{PREFIX}/other", "")  # the same revision is compacted only once
            self.real.compact()

        self.do(work(), pause)

    def take_snapshot(self, pause: float) -> None:
        """For :meth:`restore`."""
        self.snapshot, self.removed = self.real.snapshot(), False
        self.do(asyncio.sleep(0), pause)

    def restore(self, pause: float) -> None:
        if self.snapshot is not None:
            self._restore(pause)

    def _restore(self, pause: float) -> None:
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

    def garbage(self, key: str, value: str, pause: float) -> None:
        async def work() -> None:
            path = f"{self.played.prefix}/v1/{key}"
            if key == "x" or self.real.get(path) is None:
                self.real.put(path, value)
                await asyncio.sleep(0.1)
                self.real.delete(path)

        self.do(work(), pause)

    # --- in the end -----------------------------------------------------------------------------

    def end_well(self) -> None:
        """All is well again, by itself."""
        try:
            self.loop.run_until_complete(self._settle())
            self.check()
        except BaseException as error:
            self.tell(error)
            raise
        finally:
            self.close()

    def tell(self, error: BaseException) -> None:
        """Add to an error what each host has, and has logged."""
        for name, host in self.played.hosts.items():
            error.add_note(f"{name}: {host.blocks_told()}\n" + "\n".join(map(str, host.lines)))

    def close(self) -> None:
        """It ends."""
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


class Action(NamedTuple):
    """What may be done.

    Attributes:
        weight: how often, beside the others.
        name: the method of the model.
        arguments: what it is given, beside `pause`.
        up: whether etcd has to be there.
    """

    weight: int
    name: str
    arguments: Mapping[str, st.SearchStrategy[Any]] = MappingProxyType({})
    up: bool = False


ACTIONS: Final = (
    Action(8, "run_many", {"name": hosts, "count": st.integers(1, 6)}),
    Action(6, "end", {"name": hosts, "count": st.integers(1, 8)}),
    Action(4, "run", {"name": hosts, "ip": st.sampled_from(FIXED), "tries": st.integers(1, 9)}),
    Action(8, "race", {"names": st.permutations(NAMES), "ip": st.sampled_from(FIXED)}),
    Action(6, "kill_agent_at", {"name": hosts, "kill": st.integers(0, 9), "after": st.booleans()}),
    Action(2, "kill_agent", {"name": hosts}),
    Action(2, "kill_service", {"name": hosts, "back": st.booleans()}),
    Action(6, "start", {"name": hosts}),
    Action(2, "reboot", {"name": hosts}),
    Action(2, "cut_off", {"name": hosts}),
    Action(8, "heal"),
    Action(2, "lapse", {"name": hosts}, up=True),
    Action(2, "remove", {"name": hosts, "force": st.booleans()}, up=True),
    Action(1, "etcd_away"),
    Action(1, "compact", up=True),
    Action(1, "take_snapshot", up=True),
    Action(1, "restore"),
    Action(3, "change_hands_and_restore", {"names": st.permutations(NAMES)}, up=True),
    Action(2, "garbage", {"key": GARBAGE_KEYS, "value": GARBAGE}, up=True),
)

type Step = tuple[Action, dict[str, Any]]


def _step(action: Action) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(action), st.fixed_dictionaries({**action.arguments, "pause": pauses}))


steps: Final = st.sampled_from([a for a in ACTIONS for _ in range(a.weight)]).flatmap(_step)


def play(real: RealEtcd, history: list[Step]) -> None:
    """Play a history to its end."""
    model = Model(real)
    done = []
    try:
        model.begin()
        for action, arguments in history:
            if model.up or not action.up:
                done.append(f"{action.name} {arguments}")
                getattr(model, action.name)(**arguments)
    except BaseException as error:
        error.add_note("\n".join(done))
        model.tell(error)
        model.close()
        raise
    try:
        model.end_well()
    except BaseException as error:
        error.add_note("\n".join(done))
        raise


@pytest.fixture(scope="module")
def real() -> Iterator[RealEtcd]:
    with Machine() as machine:
        yield RealEtcd((machine.here, "192.0.2.2"))


@pytest.mark.timeout(0 if EXAMPLES else 300)
def test_no_address_is_leased_twice(real: RealEtcd) -> None:
    @settings(
        max_examples=EXAMPLES or 6,
        derandomize=not EXAMPLES,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(st.lists(steps, min_size=STEPS, max_size=STEPS))
    def all_of_them(history: list[Step]) -> None:
        play(real, history)

    all_of_them()
