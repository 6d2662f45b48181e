"""Makes the changes that looks lead to, and keeps the lease by which this host is heard of."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from watcher.cluster.etcd.errors import EtcdError
from watcher.cluster.registry.changes import Join, Live, Mark, make
from watcher.model.pauses import longer

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.cluster.agent.journal import Journal
    from watcher.cluster.agent.look import Look
    from watcher.cluster.etcd.client import Etcd
    from watcher.cluster.registry.changes import Change
    from watcher.cluster.registry.keys import Keys
    from watcher.cluster.registry.picture import Picture
    from watcher.log.logger import Log

_PAUSES: Final = 0.01, 1.0
"""Seconds until the next look after a change that was not made: the first, the longest."""

_KEPT: Final = 3
"""How often the lease is kept alive within `ttl`."""

_RETRY: Final = 1.0
"""Seconds until the lease is kept alive again after that has failed once."""


class Changer:
    """See the module's docstring.

    Args:
        etcd, keys: the client, entered, and the keys.
        ttl: seconds until a silent host is taken for gone.
        hold: seconds in which nothing new is taken after etcd was restored.
        journal: is told of each change that was made.
        again: has another look in so many seconds.
        log: the log.

    Attributes:
        lease: this host's lease; 0 if it has none.
        problem: why the last change could not be made; empty if it could, or nothing is to be made.
    """

    def __init__(
        self,
        etcd: Etcd,
        keys: Keys,
        ttl: int,
        hold: int,
        journal: Journal,
        again: Callable[[float], object],
        log: Log,
    ) -> None:
        self._etcd = etcd
        self._keys = keys
        self._ttl = ttl
        self._hold = hold
        self._journal = journal
        self._again = again
        self._log = log
        self._found: tuple[Look, Picture] | None = None
        """What is to be done, or is being done."""
        self._begin = asyncio.Event()
        self._missed = False
        """Another look has found something meanwhile."""
        self._until = 0
        """The revision of the last change that was made; a look has to know it."""
        self._restored = False
        """Whether etcd was restored since a look has found what is being done."""
        self._pause = self._rest = 0.0
        """The last pause after a failure, and until when etcd is left alone after an error."""
        self._kept = 0, 0.0
        """The lease that was granted or kept alive last, and until when it lives for certain."""
        self._prolonged = 0.0
        """When the mark that etcd was restored is to be kept alive again, if it is to stay."""
        self.lease = 0
        self.problem = ""

    def change(self, found: Look, picture: Picture) -> None:
        """Have what a look has found be done; nothing if it does not know what was changed last.

        While something is being done, it is left to the look after that.
        """
        left = self._rest - asyncio.get_running_loop().time()
        some = found.changes or found.mark or found.live or found.prolong
        if not some and self.problem and self._found is None:
            self.problem, self._pause = "", 0.0  # it was made, and only the answer did not come
            self._again(0.0)
        if not some or picture.revision < self._until:
            return
        if self._found is not None:
            self._missed = True
        elif left > 0:
            self._again(left)
        else:
            self._found, self._restored, self._missed = (found, picture), False, False
            self._begin.set()

    def restored(self) -> None:
        """Etcd was restored: it may have less than was changed last."""
        self._until, self._restored = 0, True

    async def run(self) -> None:
        """Do what is to be done, until this is cancelled. Etcd may let that wait for long."""
        while True:
            await self._begin.wait()
            self._begin.clear()
            assert self._found is not None
            await self._change(*self._found)
            self._found = None
            if self._missed:
                self._again(0.0)

    async def _change(self, found: Look, picture: Picture) -> None:
        """Make the changes one after another. What is not made is looked at again."""
        try:
            failed = await self._make_all(found, picture)
        except EtcdError as error:
            if not self.problem:
                self._log.warning("etcd does not make a change", reason=str(error))
            self.problem = str(error)
            self._pause = longer(self._pause, _PAUSES)
            self._rest = asyncio.get_running_loop().time() + self._pause
        else:
            self.problem = ""
            self._pause = longer(self._pause, _PAUSES) if failed else 0.0
        if self._pause:
            self._again(self._pause)

    async def keep_alive(self, takes_part: Callable[[], bool]) -> None:
        """Keep the lease alive for as long as this host takes part in the cluster."""
        retry = 0.0
        while True:
            pause = self._ttl / _KEPT
            if takes_part() and self.lease:
                lease = self.lease
                try:
                    lives = await self._prolong(lease)
                except EtcdError:  # the follower says what is wrong
                    retry = longer(retry, (_RETRY, pause))
                    pause = self._until_retry(lease, retry)
                else:
                    retry = 0.0
                    if not lives and self.lease == lease:
                        self.lease = 0
                        self._again(0.0)
            await asyncio.sleep(pause)

    def _until_retry(self, lease: int, pause: float) -> float:
        """The pause until a lease is kept alive again; there is another try while it lives.

        All hosts lose etcd together, and are not to ask it together when it is back.
        """
        kept, until = self._kept
        left = until - asyncio.get_running_loop().time()
        if kept == lease and left > 0:
            pause = min(pause, max(left / 2, _RETRY))
        return pause * random.uniform(0.5, 1)  # noqa: S311 - not for secrets

    async def _prolong(self, lease: int) -> bool:
        """Keep a lease alive; whether it lives."""
        asked = asyncio.get_running_loop().time()
        left = await self._etcd.keep_alive(lease)
        self._kept = lease, asked + left
        return left > 0

    async def _make_all(self, found: Look, picture: Picture) -> bool:
        """Make the changes; whether any was not made."""
        failed = False
        if found.mark:
            failed = not await self._make(Mark(await self._etcd.grant(self._hold)))
        if found.prolong and asyncio.get_running_loop().time() >= self._prolonged:
            await self._etcd.keep_alive(found.prolong)
            self._prolonged = asyncio.get_running_loop().time() + self._hold / _KEPT
        if found.live is not None:
            failed = not await self._live(found, picture) or failed
        for change in found.changes:
            if self._restored:
                return True
            if isinstance(change, Join):
                await self._lease_again()
                change = replace(change, lease=self.lease)  # noqa: PLW2901
            failed = not await self._make(change) or failed
        return failed

    async def _lease_again(self) -> None:
        """Have a lease: the one that this host has, or another one."""
        if not self.lease or not await self._prolong(self.lease):
            asked = asyncio.get_running_loop().time()
            self.lease = await self._etcd.grant(self._ttl)
            self._kept = self.lease, asked + self._ttl

    async def _live(self, found: Look, picture: Picture) -> bool:
        """Tell that this host is alive."""
        me = found.standing.me
        assert me is not None
        assert found.live is not None
        entry = picture.alive.get(me.name)
        modified = 0 if entry is None else entry.modified
        await self._lease_again()
        return await self._make(Live(me, found.live, modified, self.lease))

    async def _make(self, change: Change) -> bool:
        """Make a change; whether it was made."""
        done = await make(self._etcd, self._keys, change)
        if done.succeeded:
            if not self._restored:
                self._until = max(self._until, done.revision)
            self._journal.made(change)
        return done.succeeded
