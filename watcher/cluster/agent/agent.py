"""Looks whenever something has changed, and does what is to be done."""

from __future__ import annotations

import asyncio
import random
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

from watcher import __version__
from watcher.cluster.agent.changer import Changer
from watcher.cluster.agent.journal import Journal
from watcher.cluster.agent.link import Link
from watcher.cluster.agent.look import Look, look
from watcher.cluster.agent.missed import had_given_back, misses
from watcher.cluster.agent.standing import Situation
from watcher.cluster.agent.tables import Place, service_of
from watcher.cluster.protocol import HostRow, StatusRow
from watcher.cluster.registry.changes import PutEndpoints, make
from watcher.cluster.registry.follow import Follower
from watcher.cluster.registry.keys import Keys
from watcher.model.errors import WatcherError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.cluster.agent.tables import Service
    from watcher.cluster.etcd.client import Etcd
    from watcher.cluster.registry.changes import Self
    from watcher.cluster.registry.follow import Endpoints
    from watcher.cluster.registry.picture import Picture
    from watcher.config.settings import Cluster
    from watcher.log.logger import Log

_AGAIN: Final = 0.25
"""Seconds until the next look where something depends on time."""

HOLD: Final = 30
"""Seconds after which each host that reaches etcd has noticed that it was restored."""

_REVISION_EVERY: Final = 10.0
"""Seconds after which the service is told of a new revision, if nothing else has changed."""

_REST: Final = 2.0
"""How much longer than a look the pause after it is."""

_HELD: Final = "etcd was restored from an older state: nothing new is taken for a moment"


class Observer(Protocol):
    """Who wants to know of the cluster as a whole."""

    def seen(
        self, picture: Picture | None, name: str, status: StatusRow, *, takes_part: bool
    ) -> None:
        """This is how it is now; `takes_part`: this host may write endpoints."""


class NotIn(WatcherError):
    """This host takes no part in the cluster, so that it may not write."""


class Agent:
    """See the module's docstring.

    Args:
        settings: `[cluster]` of the configuration.
        run_dir: where the service's socket is.
        etcd: the client, entered.
        changing: a client for what starts may wait for, entered.
        log: the log.
        rng: draws the blocks.
        hold: seconds in which nothing new is taken after etcd was restored.
    """

    def __init__(
        self,
        settings: Cluster,
        run_dir: str,
        etcd: Etcd,
        changing: Etcd,
        log: Log,
        rng: random.Random | None = None,
        hold: int = HOLD,
    ) -> None:
        self._settings = settings
        self._etcd = etcd
        self._log = log
        self._rng = rng or random.Random()  # noqa: S311 - not for secrets
        self._loop = loop = asyncio.get_running_loop()
        self._journal = Journal(log)
        self._wake = asyncio.Event()
        self.keys = Keys(settings.prefix)
        self._link = Link(run_dir, loop, log, self._wake.set)
        self._changer = Changer(
            changing, self.keys, settings.ttl, hold, self._journal, self._again, log
        )
        self._follower: Follower
        self._observer: Observer | None = None
        self.follow(None, None)
        self._timer: asyncio.TimerHandle | None = None

        self._picture: Picture | None = None
        """The last one that was compared with what was seen before."""
        self._seen: tuple[str, int] | None = None
        """The cluster id and the revision of the last look at a picture."""
        self._restored = self._marked = False
        self._numbers: dict[str, int] = {}
        self._joined = ""
        """The incarnation with which this process was in the cluster."""
        self._removed = ""
        self._stay_out = False
        self._undecided: float | None = None
        self._trying: dict[Place, float] = {}
        self._me: Self | None = None
        self._incarnation = ""
        self._state = ("", 0)
        """The cluster id and the revision that the service is told, for that incarnation."""
        self._told_at = 0.0

    def follow(self, endpoints: Endpoints | None, observer: Observer | None) -> None:
        """Tell these of what etcd has; before :meth:`run`."""
        self._follower = Follower(self._etcd, self.keys, self._log, self._wake.set, endpoints)
        self._observer = observer

    async def run(self) -> None:
        """Do all of it until this is cancelled."""
        self._link.start()
        self._wake.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follower.run())
                group.create_task(self._changer.run())
                group.create_task(self._changer.keep_alive(lambda: self._me is not None))
                group.create_task(self._work())
        finally:
            self._link.stop()
            if self._timer is not None:
                self._timer.cancel()

    @property
    def text(self) -> str:
        """How this host stands, in a line."""
        return self._journal.text

    async def put_endpoints(self, changes: Mapping[str, bytes | None]) -> int:
        """Write endpoints of this host, up to 100 at once; returns the revision.

        Raises:
            NotIn: this host takes no part in the cluster.
            EtcdError: as the client raises it.
        """
        if self._me is None:
            raise NotIn("this host takes no part in the cluster")
        done = await make(self._etcd, self.keys, PutEndpoints(self._me, changes))
        if not done.succeeded:
            raise NotIn("this host takes no part in the cluster any more")
        return done.revision

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            began = perf_counter()
            found = self._look()
            took = perf_counter() - began
            picture = self._follower.picture
            if found is not None and picture is not None and self._link.connected:
                self._changer.change(found, picture)
            await asyncio.sleep(took * _REST)  # with very many hosts, others have their turn

    def _again(self, seconds: float) -> None:
        """Look again after a while, or sooner."""
        at = self._loop.time() + seconds
        if self._timer is not None and self._timer.when() > at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(at, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self._wake.set()

    def _look(self) -> Look | None:
        """Compare what there is, and tell the service; `None` if too little is known."""
        picture, heard = self._follower.picture, self._link.heard
        host = None if heard is None else heard.row(HostRow)
        if host is not None and host.incarnation != self._incarnation:
            self._incarnation, self._state = host.incarnation, ("", 0)
        if self._follower.tried:
            self._journal.etcd(self._follower.problem, self._loop.time())
        if picture is None or heard is None or self._follower.problem:
            self._tell(None, None)
            return None
        service = service_of(heard)
        if service.host is None:
            self._tell(None, None, "the service knows no address that other hosts reach this one"
                       " by; write `address` below [cluster]")  # fmt: skip
            return None
        self._compare(picture, service.host, service)
        now = self._loop.time()
        found = look(
            picture,
            service,
            Situation(
                service.host, __version__, self._settings.ttl, self._settings.port,
                restored=self._restored, marked=self._marked, stay_out=self._stay_out,
                numbers=self._numbers,
                undecided=0.0 if self._undecided is None else now - self._undecided,
            ),
            {place: now - since for place, since in self._trying.items()},
            self._rng,
        )  # fmt: skip
        self._note(found, service.host, picture, now)
        self._journal.looked(found, service)
        self._tell(found, service.host)
        return found

    def _compare(self, picture: Picture, host: HostRow, service: Service) -> None:
        """Notice that etcd has less than was seen: it was restored, or is another one."""
        now = (f"{picture.cluster_id:x}", picture.revision)
        before = self._seen
        if before is None and host.cluster_id:
            before = (host.cluster_id, host.revision)
        anew = picture is not self._picture
        less = before is not None and (now[0] != before[0] or now[1] < before[1])
        less = less or self._follower.replaced
        if anew and self._picture is not None:
            less = less or misses(picture, self._picture, service, host)
        elif anew:
            less = less or had_given_back(picture, service, host)
        if anew and before is not None and less:
            self._restored, self._marked = True, False
            self._changer.restored()
            self._journal.restored(before[1], now[1])
        if picture.restored is not None and picture.restored.lease:
            self._restored = self._marked = True  # this host, or another one, has noticed it
        if anew:
            self._follower.replaced = False
        self._picture, self._seen = picture, now

    def _note(self, found: Look, host: HostRow, picture: Picture, now: float) -> None:
        """Note what the next looks depend on."""
        known = {name: e.record.number for name, e in picture.networks.items() if e.record}
        self._numbers |= known
        kind, me = found.standing.kind, found.standing.me
        self._me = me if kind == "in" else None
        if kind == "in":
            self._joined, self._removed = host.incarnation, ""
            if self._marked and picture.restored is None:
                self._restored = self._marked = False
        elif kind == "removed" and not self._stay_out:
            self._removed = host.incarnation
            self._stay_out = self._joined == host.incarnation
        if kind == "undecided":
            self._undecided = now if self._undecided is None else self._undecided
        elif kind != "out":
            self._undecided = None
        self._trying = {place: self._trying.get(place, now) for place in found.due}
        alive = picture.alive.get(host.host)
        record = None if alive is None else alive.record
        if me is not None and alive is not None and record and record.boot == host.boot:
            self._changer.lease = alive.lease
        if self._trying or kind == "undecided":
            self._again(_AGAIN)

    def _tell(self, found: Look | None, host: HostRow | None, problem: str = "") -> None:
        """Tell the service what it is to know."""
        away, picture = self._follower.problem, self._follower.picture
        if found is not None and found.rows is not None and picture is not None:
            assert host is not None
            differs = self._link.set(found.rows)
            if found.standing.kind == "in" or host.cluster_id:
                self._advance(picture, differs=differs)
        out = bool(problem)
        if found is not None:
            self._link.add(found.more)
            problem = found.standing.problem or self._changer.problem or self._journal.full(found)
            out = found.standing.kind in ("out", "removed")
            if picture is not None and picture.restored is not None:
                problem, out = problem or _HELD, True
        # Before the service has told its incarnation, it is to believe nothing.
        cluster_id, revision = self._state if self._link.connected else ("", 0)
        status = StatusRow(
            connected=not away,
            problem=(away or problem)[:500],
            removed=self._removed,
            cluster_id=cluster_id,
            revision=revision,
            out=out,
        )
        self._link.tell(status)
        self._journal.status(status)
        if self._observer is not None:
            name = "" if host is None else host.host
            self._observer.seen(picture, name, status, takes_part=self._me is not None and not away)

    def _advance(self, picture: Picture, *, differs: bool) -> None:
        """Have the service note the revision with what has changed; else now and then."""
        now = self._loop.time()
        cluster_id, revision = f"{picture.cluster_id:x}", picture.revision
        due = self._told_at + _REVISION_EVERY
        if cluster_id != self._state[0] or differs or now >= due:
            self._state, self._told_at = (cluster_id, revision), now
