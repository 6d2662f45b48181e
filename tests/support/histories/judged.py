"""The hosts of a history, and what must hold of them at each step."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
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
from watcher.model.cluster import blocks_in

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


class Judged:
    """Hosts, and what must hold of them.

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
        self._stack: AsyncExitStack
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

    async def _write(self, key: str, value: bytes) -> None:
        await self._etcd.txn([], [put(f"{self.played.prefix}/v1/{key}", value)])

    async def _delete(self, key: str) -> None:
        await self._etcd.txn([], [delete(f"{self.played.prefix}/v1/{key}")])
