"""What happens to hosts that agree by a real etcd, and what must hold after each step of that.

- At each change of a lease store: no address is leased twice, nor can it be (:class:`Holdings`).
- After each step: what a host leases from is its own in etcd.
- After etcd was restored: each host that reaches it puts back what it had.
- In the end, when all is well: each host has what etcd has for it, nothing of anybody else is left
  there, each address of the subnet can be leased, and claimed by another host.

Hosts are excused that may not have heard yet that what they have is not theirs any more, in the
histories that docs/cluster.md names; so are the containers that they had then.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.support.agreeing import PREFIX, Faulty, Played, PlayedHost, network, place_of
from tests.support.etcd import Etcd as RealEtcd
from tests.support.holdings import BLOCK, Holdings
from tests.support.waiting import PATIENCE
from watcher.cluster.etcd.errors import EtcdError
from watcher.cluster.etcd.requests import delete, put
from watcher.cluster.registry.keys import Keys
from watcher.cluster.registry.removal import NoSuchHost, StillAlive, remove_host
from watcher.model.cluster import block_at, blocks_in
from watcher.model.errors import InvalidRequest
from watcher.store.room import capacity

NAMES: Final = ("a", "b", "c")
TWIN: Final = "twin"
"""Another machine that is called `a`."""
CLONE: Final = "clone"
"""A copy of one of them, once there was one."""

SUBNET: Final = IPv4Network("10.9.0.0/27")
BLOCKS: Final = blocks_in(SUBNET, BLOCK)
FIXED: Final = tuple(f"10.9.0.{n}" for n in (6, 9, 14, 19, 25))

HOLD: Final = 30
"""Longer than a history: it ends when that says so."""
HELD_FOR: Final = 2
"""Steps after which that is."""

_numbers: Final = itertools.count(1)


class Registry(msgspec.Struct, frozen=True):
    """What etcd has.

    Attributes:
        values: of all keys below the prefix and the version, if they are JSON.
        leases: of the keys that have one.
        own: the name and incarnation of who has each block, and each claim that counts.
        asked: of who has each claim that does not.
    """

    values: Mapping[str, object]
    leases: Mapping[str, int]
    own: Mapping[str, tuple[str, str]]
    asked: Mapping[str, tuple[str, str]]

    @property
    def marked(self) -> bool:
        """Whether etcd was restored a moment ago, and a host has noticed that."""
        return "restored" in self.values


class History:
    """Hosts, what is done to them, and what must hold.

    Args:
        real: etcd.
        directory: for the hosts' files.
        rng: draws what depends on what there is.
    """

    def __init__(self, real: RealEtcd, directory: Path, rng: random.Random) -> None:
        self.real = real
        self.random = rng
        self.played = Played(real, directory, f"{PREFIX}/model{next(_numbers)}", HOLD)
        small = network(SUBNET)
        for name in NAMES:
            self.played.add(name, small)
        self.played.add(TWIN, small, host="a")
        self.played.add(CLONE, small, host="a")
        self.holdings = Holdings(SUBNET)
        self.failure: BaseException | None = None
        for name, host in self.played.hosts.items():
            host.changed = self._noting(name)
        self._etcd: Faulty
        self._ids = itertools.count(1)
        self._snapshot: Path | None = None
        self._removed = False
        """Whether a host was removed since the snapshot."""
        self._held_for = 0
        """Steps since etcd was restored."""
        self._garbage: set[str] = set()
        """Blocks and claims whose keys were overwritten."""
        self._restored = False
        """Whether etcd was restored, and what must not be taken then is still not taken."""
        self._removal: tuple[str, Faulty, asyncio.Task[None]] | None = None
        self._network = b""
        """What etcd had of the network in the beginning."""
        self._there: set[tuple[str, str]] = set()
        """Names and incarnations of hosts, when that was looked at last."""
        self._own: Mapping[str, tuple[str, str]] = {}
        """What each had then."""
        self._removing: tuple[str, set[object]] = "", set()
        self._stands_at = 0
        """The transaction before which that removal stands."""

    def _noting(self, name: str) -> Callable[[PlayedHost], None]:
        def note(host: PlayedHost) -> None:
            try:
                self.holdings.put(name, host)
            except AssertionError as error:
                self.failure = self.failure or error

        return note

    def _note(self, _: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """Note what a callback has raised."""
        error = context.get("exception")
        self.failure = self.failure or error or AssertionError(str(context["message"]))

    @property
    def up(self) -> bool:
        """Whether etcd runs."""
        return self.real.members[0].runs

    def host(self, name: str) -> PlayedHost:
        """That host."""
        return self.played.hosts[name]

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

    async def step(self, work: Awaitable[None], pause: float) -> None:
        """Do it, let time pass, and see what must hold."""
        await work
        await asyncio.sleep(pause)
        if self.up:
            await self._look()
        self._raise()

    def _raise(self) -> None:
        if self.failure is not None:
            raise self.failure

    # --- what must hold ---------------------------------------------------------------------------

    async def read(self) -> Registry:
        """What etcd has now."""
        keys = Keys(self.played.prefix)
        values: dict[str, object] = {}
        leases: dict[str, int] = {}
        own: dict[str, tuple[str, str]] = {}
        asked: dict[str, tuple[str, str]] = {}
        found = await self._etcd.read_all(keys.all)
        for kv in found.kvs:
            key = kv.key.removeprefix(keys.all)
            try:
                value: object = msgspec.json.decode(kv.value)
            except (msgspec.DecodeError, UnicodeDecodeError):
                value = None
            values[key] = value
            if kv.lease:
                leases[key] = kv.lease
            if isinstance(value, dict) and key.startswith(("blocks/", "claims/")):
                waits = key.startswith("claims/") and not value.get("lent")
                (asked if waits else own)[place_of(key)] = value["host"], value["incarnation"]
        return Registry(values, leases, own, asked)

    async def _until(
        self, condition: Callable[[Registry], object], what: str, *, patience: float = PATIENCE
    ) -> None:
        """Wait until it holds of what etcd has."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        problem: object = ""
        while loop.time() < end:
            self._raise()
            try:
                if condition(await self.read()):
                    return
            except (AssertionError, EtcdError) as error:
                problem = error
            await asyncio.sleep(0.01)
        raise AssertionError(f"{what}: not within {patience} s: {problem}")

    def _all_have_blocks(self, registry: Registry) -> bool:
        self._network = msgspec.json.encode(registry.values.get("networks/net"))
        return all(self.holdings.of(name).held for name in NAMES)

    def _foreign(self, registry: Registry, name: str) -> set[str]:
        """What a host leases from, and etcd does not have for it.

        In a snapshot a claim may not have counted yet: after the hold, it is lent once more.
        """
        has = self.holdings.of(name)
        me = (self.host(name).name, has.incarnation)
        return {
            place for place in has.held
            if registry.own.get(place) != me and registry.asked.get(place) != me
        }  # fmt: skip

    async def _look(self) -> None:
        """See that each host leases from what is its own; forget suspicions that are over."""
        before = {name: self.holdings.of(name) for name in self.played.hosts}
        try:
            registry = await self.read()
        except EtcdError:
            return
        self._see_makers(registry)
        if registry.marked or self._restored:
            self._held_for += 1
            if self._held_for > HELD_FOR:
                await self._end_hold()
            return
        self._garbage -= registry.own.keys()
        foreign = {
            name: places for name, has in before.items()
            if (places := self._foreign(registry, name) & has.held - self._garbage)
        }  # fmt: skip
        wrong = foreign.keys() - self.holdings.suspects
        assert not wrong, f"{foreign} is not theirs, of {dict(registry.own)}"
        for name in list(self.holdings.suspects):
            copies = [
                other for other in self.played.hosts
                if other != name and self.holdings.of(other).held
                and self.holdings.are_copies(name, other)
            ]  # fmt: skip
            if name not in foreign and not copies:
                self.holdings.suspects.discard(name)

    def _see_makers(self, registry: Registry) -> None:
        """See that only who is in the cluster has taken a block since the last time."""
        there = {
            (key.removeprefix("hosts/"), value["incarnation"])
            for key, value in registry.values.items()
            if key.startswith("hosts/") and isinstance(value, dict)
        }
        unread = any(registry.values[k] is None for k in registry.values if k.startswith("hosts/"))
        if not unread and not registry.marked and not self._restored:
            blocks = {place: of for place, of in registry.own.items() if place.endswith("/30")}
            for place, of in blocks.items():
                assert of in there | self._there or self._own.get(place) == of, (
                    f"{of} is not in the cluster, and has taken {place}"
                )
        self._there, self._own = there, registry.own

    def _suspect_all(self) -> None:
        self.holdings.suspects |= self.played.hosts.keys()
        self.holdings.check()

    def _takes_part(self, name: str) -> bool:
        """Whether a host is in the cluster, and hears and does all at once."""
        host = self.host(name)
        client = host.client
        able = client is not None and client.kill is None and not client.away
        able = able and client is not None and client.sends.is_set() and client.hears.is_set()
        takes = host.agent is not None and host.agent._me is not None
        return able and takes and not host.killed and host.store is not None

    async def _end_hold(self) -> None:
        """End the time in which nothing is taken because etcd was restored."""
        able = {name for name in self.played.hosts if self._takes_part(name)}
        holders = {name for name in self.played.hosts if self.holdings.of(name).held}
        if not able:
            self._suspect_all()
            return
        if self._removed or self.holdings.suspects or holders - able:
            self._suspect_all()
        else:
            await self._until(
                lambda now: not any(self._foreign(now, name) for name in able),
                "each has put back what it had",
            )
        registry = await self.read()
        if registry.marked and "restored" in registry.leases:
            await self._etcd.revoke(registry.leases["restored"])
        self._held_for, self._restored = 0, False

    # --- containers -------------------------------------------------------------------------------

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

    # --- faults -----------------------------------------------------------------------------------

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

    # --- etcd is restored -------------------------------------------------------------------------

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

    # --- in the end -------------------------------------------------------------------------------

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

    async def _write(self, key: str, value: bytes) -> None:
        await self._etcd.txn([], [put(f"{self.played.prefix}/v1/{key}", value)])

    async def _delete(self, key: str) -> None:
        await self._etcd.txn([], [delete(f"{self.played.prefix}/v1/{key}")])

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
