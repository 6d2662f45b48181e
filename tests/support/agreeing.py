"""Hosts that agree by a real etcd, in one process: real agents, services' sides and lease stores.

What a host lacks is the kernel: nothing becomes a link or a route. What etcd is asked can be made
to fail: :class:`Faulty`.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import msgspec
import structlog

from tests.support.etcd import Etcd as RealEtcd
from tests.support.leases import ROOT, container
from tests.support.waiting import PATIENCE
from watcher.cluster.agent.agent import Agent
from watcher.cluster.etcd.client import Etcd
from watcher.cluster.etcd.errors import EtcdError, Unavailable
from watcher.cluster.etcd.requests import Compare, Operation
from watcher.cluster.etcd.words import Batch, Range, Times, Txn
from watcher.cluster.protocol import HostRow, Row
from watcher.cluster.registry.keys import Keys
from watcher.cluster.registry.removal import GivenBack, remove_host
from watcher.clustering.agreement import Agreement
from watcher.clustering.server import Clustering
from watcher.clustering.tables import Heard
from watcher.config.settings import Cluster, Config
from watcher.facts.kinds import Attached, Detached, Fact
from watcher.facts.publisher import Publisher
from watcher.locks.lock import Busy
from watcher.log.logger import Log
from watcher.model import keys
from watcher.model.address import Address, Subnet
from watcher.model.cluster import Block, ClusterChange
from watcher.model.errors import InvalidRequest, Unclaimed
from watcher.model.network import Network
from watcher.model.request import Request
from watcher.model.sandbox import Sandbox
from watcher.store.cluster import ClusterStore
from watcher.store.leases import LeaseStore

TTL: Final = 5
HOLD: Final = 6
QUICK: Final = Times(connect=1.0, answer=2.0, quiet=1.0, pauses=(0.01, 0.2))
SUBNETS: Final = (IPv4Network("10.9.0.0/24"), IPv6Network("fd09::/64"))
PREFIX: Final = "/watcher"
CHANGES: Final = ("take", "turn", "leave", "forget", "lend", "meet", "identify", "set_number")
"""The changes of what the lease store has of the cluster."""


def network(*subnets: Subnet, name: str = "net", block: int = 4) -> Network:
    """A clustered network."""
    return Network(
        name=name, mode="routed", bridge=f"{name}0", subnets=subnets or SUBNETS, cluster=True,
        block=block,
    )  # fmt: skip


class Killed(Exception):
    """The process has ended here."""


class Faulty(Etcd):
    """The client of etcd, which can fail.

    Attributes:
        away: whether no member answers.
        kill: how many requests until the process is killed; `None`: it is not.
        after: whether it is killed after the request was made, or else before.
        loses: whether the answer to its next transaction is lost.
        sends, hears: while these are not set, its transactions wait, and so do the changes that a
            watch tells: it decides by what is no longer so.
        pause: how many transactions until `sends` is not set any more, but `stands` is; `None`: it
            stays.
    """

    away = False
    kill: int | None = None
    after = loses = False
    pause: int | None = None

    def __init__(self, *args: Any, **others: Any) -> None:
        super().__init__(*args, **others)
        self.sends, self.hears, self.stands = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.sends.set()
        self.hears.set()

    async def _step[T](self, work: Callable[[], Any]) -> T:
        if self.away:
            raise Unavailable((("http://192.0.2.9:2379", "it is cut off"),))
        if self.kill is not None:
            self.kill -= 1
            if self.kill < 0 and not self.after:
                raise Killed
        answer: T = await work()
        if self.kill is not None and self.kill < 0:
            raise Killed
        return answer

    async def range(self, first: str, end: str = "", **others: Any) -> Range:
        return await self._step(lambda: Etcd.range(self, first, end, **others))

    async def txn(
        self,
        compares: Sequence[Compare],
        then: Sequence[Operation],
        otherwise: Sequence[Operation] = (),
    ) -> Txn:
        if self.pause is not None:
            self.pause -= 1
            if self.pause < 0:
                self.sends.clear()
                self.stands.set()
                self.pause = None
        await self.sends.wait()
        done: Txn = await self._step(lambda: Etcd.txn(self, compares, then, otherwise))
        if self.loses:
            self.loses = False
            raise Unavailable((("http://192.0.2.9:2379", "no answer"),))
        return done

    async def grant(self, ttl: int) -> int:
        return await self._step(lambda: Etcd.grant(self, ttl))

    async def keep_alive(self, lease: int) -> int:
        return await self._step(lambda: Etcd.keep_alive(self, lease))

    async def watch(self, prefix: str, *args: Any, **others: Any) -> AsyncGenerator[Batch]:
        batches = Etcd.watch(self, prefix, *args, **others)
        coming: asyncio.Future[Batch] | None = None
        try:
            while True:
                coming = asyncio.ensure_future(anext(batches))
                while not coming.done():
                    await asyncio.wait({coming}, timeout=0.05)
                    if self.away and not coming.done():  # what was told is not told again
                        await self._step(lambda: None)
                await self.hears.wait()
                yield coming.result()
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
            await batches.aclose()


class _Mortal:
    """What the lease store has of the cluster, for a service that is killed before a change.

    Args:
        store: that.
        left: how many changes are made before.
        die: kills the service.
    """

    def __init__(self, store: ClusterStore, left: int, die: Callable[[], None]) -> None:
        self._store = store
        self._left = left
        self._die = die

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        return partial(self._change, method) if name in CHANGES else method

    def _change(self, method: Callable[..., Any], *args: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            asyncio.get_running_loop().call_soon(self._die)
            raise Busy(Path("the lock"), None)
        return method(*args)


class _Reconciler:
    """The part of the reconciler that the service's side of the cluster uses.

    Attributes:
        kill: how many changes of the lease store until the service is killed; `None`: it is not.
    """

    def __init__(self, host: PlayedHost, store: LeaseStore) -> None:
        self._host = host
        self._store = store
        self.networks: Mapping[str, Network] = {}
        self.kill: int | None = None

    @contextmanager
    def changing(self) -> Iterator[tuple[Any, None]]:
        store: Any = self._store
        if self.kill is not None:
            mortal, self.kill = _Mortal(store.cluster, self.kill, self._host.kill_service), None
            store = SimpleNamespace(cluster=mortal, others_version=store.others_version)
        try:
            yield SimpleNamespace(store=store, host=self), None
        finally:
            self._host.changed(self._host)

    def others_version(self) -> tuple[int, int]:
        return self._store.others_version()

    def meet(self, change: ClusterChange) -> None:
        """The kernel's side."""


class _Agreement(Agreement):
    """The service's, on a machine that a test names."""

    machine = boot = ""

    def rows(
        self, store: ClusterStore, config: Config, heard: Heard, there: Mapping[str, Network]
    ) -> list[Row]:
        rows = super().rows(store, config, heard, there)
        return [
            msgspec.structs.replace(row, machine=self.machine, boot=self.boot)
            if isinstance(row, HostRow)
            else row
            for row in rows
        ]


class PlayedHost:
    """A host without a kernel.

    Args:
        directory: for its files; another host's, or its copy, is a clone of that host.
        settings: `[cluster]`.
        machine: its identity.
        networks: those of its configuration.
        hold: seconds in which nothing new is taken after etcd was restored.

    Attributes:
        changed: called when its lease store may have changed.
        facts: what was published.
        client: its client of etcd, while it runs.
        lines: what its agent has logged.
    """

    def __init__(
        self,
        directory: Path,
        settings: Cluster,
        machine: str,
        networks: Sequence[Network],
        hold: int = HOLD,
    ) -> None:
        self.directory = directory
        self.hold = hold
        self.changed: Callable[[PlayedHost], None] = lambda _: None
        self.settings = settings
        self.machine = machine
        self.boots = 1
        self.facts: list[Fact] = []
        self.lines: list[dict[str, Any]] = []
        self.client: Faulty | None = None
        self.agent: Agent | None = None
        self.store: LeaseStore | None = None
        self.config = Config(
            state_dir=str(directory), run_dir=str(directory), cluster=settings,
            networks={one.name: one for one in networks},
        )  # fmt: skip
        self._clustering: Clustering | None = None
        self._reconciler: _Reconciler | None = None
        self._running: asyncio.Task[None] | None = None
        self._pids = 100
        self._random = random.Random(settings.host)

    def readdress(self, address: str) -> None:
        """Have another address, from the next start on."""
        self._set(msgspec.structs.replace(self.settings, address=address))

    def _set(self, settings: Cluster) -> None:
        self.settings = settings
        self.config = msgspec.structs.replace(self.config, cluster=settings)

    def become(self, other: PlayedHost) -> None:
        """Be a copy of another machine with its disk, which starts; but for the address."""
        self._set(msgspec.structs.replace(self.settings, host=other.name))
        self.machine, self.boots = other.machine, self.boots + 1000
        self.lose_store()
        with (
            closing(sqlite3.connect(other.path)) as disk,
            closing(sqlite3.connect(self.path)) as to,
        ):
            disk.backup(to)

    def lose_store(self) -> None:
        """The lease store is gone; the service does not run."""
        assert self.store is None
        for file in self.directory.glob("leases.db*"):
            file.unlink()

    @property
    def boot(self) -> str:
        """What tells this start of it from others."""
        return f"{self.machine}-{self.boots}"

    @property
    def path(self) -> Path:
        """Where its lease store is."""
        return self.directory / "leases.db"

    @property
    def name(self) -> str:
        return self.settings.host

    @property
    def log(self) -> Log:
        """What logs into :attr:`lines`."""

        def keep(_: Any, level: str, event: MutableMapping[str, Any]) -> Any:
            self.lines.append({"level": level, **event})
            raise structlog.DropEvent

        return cast("Log", structlog.wrap_logger(None, processors=[keep]))

    # --- the service -----------------------------------------------------------------------------

    def start_service(self) -> None:
        """The service runs from now on."""
        self.store = LeaseStore.open(self.path)
        self._reconciler = reconciler = _Reconciler(self, self.store)
        facts = Publisher([self.facts.append], self.log)
        self._publish = facts.publish
        clustering = Clustering(
            asyncio.get_running_loop(), self.config, cast("Any", reconciler), facts,
            lambda: None, lambda: None, self.log,
        )  # fmt: skip
        agreement = _Agreement(clustering._claims, facts.publish)
        agreement.machine, agreement.boot = self.machine, self.boot
        clustering._agreement = agreement
        self._clustering = clustering
        clustering.check()
        self.changed(self)

    def kill_service_at(self, changes: int) -> None:
        """It ends after so many of the next changes of the lease store that are made together."""
        assert self._reconciler is not None
        assert self._clustering is not None
        self._reconciler.kill = changes
        self._clustering.look()

    def kill_service(self) -> None:
        """It ends; its socket keeps its name."""
        if self._clustering is not None and self.store is not None:
            self._clustering.close()
            self.store.close()
            self._clustering = self.store = None

    # --- `watcher cluster` -----------------------------------------------------------------------

    def start_agent(self, kill: int | None = None, *, after: bool = False) -> None:
        """It runs from now on, until it is killed at a request to etcd."""
        self._running = asyncio.create_task(self._run(kill, after))

    async def _run(self, kill: int | None, after: bool) -> None:
        settings = self.settings
        client = Faulty(settings.etcd, None, settings.user, settings.password_file, self.log, QUICK)
        client.kill, client.after = kill, after
        async with client:
            self.client = client
            self.agent = Agent(
                settings, str(self.directory), client, client, self.log, self._random, self.hold
            )
            with suppress(asyncio.CancelledError):
                await self.agent.run()

    async def kill_agent(self) -> None:
        """It ends, wherever it is."""
        if self._running is not None:
            self._running.cancel()
            (ended,) = await asyncio.gather(self._running, return_exceptions=True)
            self._running = self.agent = self.client = None
            _only_killed(ended)

    @property
    def killed(self) -> bool:
        """Whether it has been killed at a request."""
        return self._running is not None and self._running.done()

    # --- all of it -------------------------------------------------------------------------------

    def start(self) -> None:
        """Both run from now on."""
        self.start_service()
        self.start_agent()

    async def stop(self) -> None:
        """Both end."""
        await self.kill_agent()
        self.kill_service()

    async def reboot(self, *, lost: bool = False) -> None:
        """The machine starts again; its containers are gone, and perhaps its lease store."""
        await self.stop()
        self.boots += 1
        if lost:
            self.lose_store()
        self.start_service()
        self.end_all()
        self.start_agent()

    def end_all(self) -> None:
        """All containers end, without that anybody is told."""
        assert self.store is not None
        for sandbox in self.store.sandboxes():
            self.store.release(sandbox.key)
        self.changed(self)

    # --- containers ------------------------------------------------------------------------------

    def run(self, id_: str, name: str = "net", ip: str = "") -> list[Address]:
        """A container starts; returns its addresses.

        Raises:
            InvalidRequest: it does not; :class:`Unclaimed`: not yet.
        """
        assert self.store is not None
        assert self._clustering is not None
        labels = {keys.IP: ip} if ip else {}
        asked = Request(addresses=tuple(map(ip_address, ip.split(",")))) if ip else Request()
        self._pids += 1
        try:
            sandbox = self.store.create_sandbox(
                container(id_, self._pids, **labels), [self.config.networks[name]], asked
            )
        except Unclaimed as wanted:
            self._clustering.claim(wanted)  # raises another if it was refused
            raise
        self.changed(self)
        self._publish(Attached(sandbox, sandbox.members, 0.0))
        return [one.ip for link in sandbox.interfaces for one in link.addresses]

    def end(self, id_: str) -> None:
        """A container ends."""
        assert self.store is not None
        sandbox = self.store.sandbox_of(ROOT, id_)
        assert sandbox is not None
        self.store.release(sandbox.key)
        self.changed(self)
        self._publish(Detached(sandbox, sandbox.members, 0.0))

    def leased(self) -> dict[tuple[str, Address], str]:
        """The id of who has each address."""
        with LeaseStore.open(self.path, read_only=True) as copy:
            return {
                (link.network, one.ip): sandbox.id
                for sandbox in copy.sandboxes()
                for link in sandbox.interfaces
                for one in link.addresses
            }

    def blocks(self, state: str = "held") -> set[str]:
        """The blocks and claims of the lease store in that state."""
        return {str(block.prefix) for block in self._blocks() if block.state == state}

    def _blocks(self) -> list[Block]:
        return self.known.blocks()

    @property
    def known(self) -> ClusterStore:
        """What its lease store has of the cluster."""
        assert self.store is not None
        return self.store.cluster

    def cut_off(self, *, away: bool = True) -> None:
        """Etcd does not answer it any more, or again."""
        assert self.client is not None
        self.client.away = away

    def sees(self, revision: int) -> bool:
        """Whether its agent has seen all of etcd up to that revision."""
        assert self.agent is not None
        picture = self.agent._follower.picture
        return picture is not None and picture.revision >= revision

    def peer_blocks(self) -> dict[str, str]:
        """Which host has what, as far as this one knows."""
        return {str(one.prefix): one.host for one in self.known.peer_blocks()}

    def known_sandboxes(self) -> list[Sandbox]:
        """The sandboxes of its lease store."""
        assert self.store is not None
        return self.store.sandboxes()

    def blocks_told(self) -> str:
        """What its lease store has, for the report of a failed test."""
        with LeaseStore.open(self.path, read_only=True) as copy:
            blocks = [f"{b.prefix} {b.state}" for b in copy.cluster.blocks()]
            theirs = [f"{b.prefix} {b.host}" for b in copy.cluster.peer_blocks()]
            return f"{copy.cluster.identity()} {blocks} {theirs}"

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log with that event."""
        return [line for line in self.lines if line["event"] == event]


def _only_killed(ended: BaseException | None) -> None:
    """Raise what ended an agent, unless it was killed."""
    if isinstance(ended, BaseExceptionGroup):
        ended = ended.split((Killed, asyncio.CancelledError))[1]
    if isinstance(ended, BaseException) and not isinstance(ended, Killed | asyncio.CancelledError):
        raise ended


class Played:
    """Hosts and the etcd by which they agree.

    Attributes:
        hosts: by name.
    """

    def __init__(self, real: RealEtcd, directory: Path, prefix: str, hold: int = HOLD) -> None:
        self.real = real
        self.prefix = prefix
        self._hold = hold
        self._directory = directory
        self.hosts: dict[str, PlayedHost] = {}

    def add(
        self,
        name: str,
        *networks: Network,
        host: str = "",
        address: str = "",
        machine: str = "",
        etcd: Sequence[str] = (),
    ) -> PlayedHost:
        """One more host, which is called `name` here, and `host` in the cluster."""
        directory = self._directory / name
        directory.mkdir(exist_ok=True)
        real = self.real
        settings = Cluster(
            etcd=tuple(etcd) or real.endpoints, user=real.user,
            password_file=real.password_file, prefix=self.prefix, host=host or name,
            address=address or f"192.0.2.{len(self.hosts) + 10}", ttl=TTL,
        )  # fmt: skip
        made = PlayedHost(
            directory, settings, machine or f"m-{name}", networks or (network(),), self._hold
        )
        self.hosts[name] = made
        return made

    def get(self, key: str) -> str | None:
        """What etcd has at a key below the prefix and the version."""
        return self.real.get(f"{self.prefix}/v1/{key}")

    def under(self, table: str) -> dict[str, str]:
        """All of a table in etcd, by the rest of the keys."""
        start = f"{self.prefix}/v1/{table}/"
        return {k.removeprefix(start): v for k, v in self.real.under(start).items()}

    def agrees(self, host: PlayedHost) -> bool:
        """Whether the lease store of a host has exactly what etcd has; for networks of blocks of 4.

        Raises:
            AssertionError: what it has, and what etcd has.
        """
        assert self.get("restored") is None
        mine, others = set[str](), dict[str, str]()
        for table in ("blocks", "claims"):
            for key, value in self.under(table).items():
                of = msgspec.json.decode(value)["host"]
                if of == host.name:
                    mine.add(place_of(f"{table}/{key}"))
                else:
                    others[place_of(f"{table}/{key}")] = of
        assert host.blocks() == mine, (host.blocks(), mine)
        assert not host.blocks("leaving")
        assert host.peer_blocks() == others, (host.peer_blocks(), others)
        return True

    def check(self) -> None:
        """No address is leased twice."""
        who: dict[tuple[str, Address], str] = {}
        for host in self.hosts.values():
            for place, id_ in host.leased().items():
                assert place not in who, f"{place} is leased to {who[place]} and {host.name}/{id_}"
                who[place] = f"{host.name}/{id_}"

    async def stop(self) -> None:
        """All end."""
        ends = [host.stop() for host in self.hosts.values()]
        errors = await asyncio.gather(*ends, return_exceptions=True)
        for error in errors:
            if error is not None:
                raise error

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Faulty]:
        """A client of etcd, of nobody in particular."""
        settings = next(iter(self.hosts.values()))
        async with Faulty(
            self.real.endpoints, None, self.real.user, self.real.password_file, settings.log, QUICK
        ) as client:
            yield client

    async def remove(self, name: str, *, force: bool = False) -> GivenBack:
        """`watcher hosts rm`."""
        async with self.client() as client:
            return await remove_host(client, Keys(self.prefix), name, force=force)


def place_of(key: str) -> str:
    """The block, of a network with blocks of four, or the address of a claim that a key is of."""
    table, _, version, first = key.split("/")
    kind, bits = (IPv4Network, 32) if version == "4" else (IPv6Network, 128)
    return str(kind((int(first, 16), bits - 2 * (table == "blocks"))))


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait until `condition` holds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE
    while True:
        try:
            if condition():
                return
            problem: object = what
        except (AssertionError, InvalidRequest, EtcdError) as error:
            problem = error
        if loop.time() > end:
            raise AssertionError(f"not within {PATIENCE} s: {problem}")
        await asyncio.sleep(0.01)
