"""Keeps a picture of the registry: reads all of it at one revision, then follows each change."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Protocol

from watcher.cluster.etcd.errors import Compacted, EtcdError, Replaced
from watcher.cluster.etcd.followed import Followed
from watcher.cluster.etcd.words import Kind
from watcher.cluster.protocol import NOT_YET
from watcher.cluster.registry.picture import ENDPOINTS, Picture
from watcher.model.errors import shortened
from watcher.model.pauses import longer

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.cluster.etcd.client import Etcd
    from watcher.cluster.etcd.words import Batch, KeyValue
    from watcher.cluster.registry.keys import Keys
    from watcher.log.logger import Log

PAUSES: Final = 0.1, 5.0
"""Seconds until the next try while etcd does not answer: the first, the longest."""

REREAD: Final = 0.1, 60.0
"""Seconds until all is read again after the history was compacted: the first, the longest."""

STEADY: Final = 60.0
"""A watch that lasted so many seconds was well: the next pause is the first again."""

_OTHERS: Final = "it has keys as old as what was read before, and they were not there then"

_MOST_TOLD: Final = 1000
"""The most keys to remember whose values cannot be read."""


class Endpoints(Protocol):
    """Who wants to know what the hosts tell of their sandboxes, this one included."""

    def begin(self) -> None:
        """All follow; those from before count until :meth:`end`."""

    def put(self, host: str, id_: str, value: bytes, revision: int) -> None:
        """A host has told this of a sandbox, at that revision."""

    def gone(self, host: str, id_: str, revision: int) -> None:
        """A host tells nothing of a sandbox any more, since that revision."""

    def told_all(self, revision: int) -> None:
        """All changes up to that revision were told."""

    def end(self, revision: int) -> None:
        """All that there were at that revision were told."""


class NoEndpoints:
    """For who wants to know none."""

    def begin(self) -> None:
        """Nothing."""

    def put(self, host: str, id_: str, value: bytes, revision: int) -> None:
        """Nothing."""

    def gone(self, host: str, id_: str, revision: int) -> None:
        """Nothing."""

    def told_all(self, revision: int) -> None:
        """Nothing."""

    def end(self, revision: int) -> None:
        """Nothing."""


class Follower:
    """See the module's docstring.

    Args:
        etcd: the client, entered.
        keys: the keys of the cluster.
        log: the log.
        changed: called after the picture, or `problem`, has changed.
        endpoints: told of each endpoint.

    Attributes:
        picture: `None` until all was read once. While etcd does not answer, the last one stays.
        problem: why etcd does not answer; empty while it does.
        tried: whether that is known: it has been asked.
        replaced: whether etcd had less than it had before; whoever reads that sets it back.
    """

    def __init__(
        self,
        etcd: Etcd,
        keys: Keys,
        log: Log,
        changed: Callable[[], object],
        endpoints: Endpoints | None = None,
    ) -> None:
        self._etcd = etcd
        self._keys = keys
        self._log = log
        self._changed = changed
        self._endpoints: Endpoints = endpoints or NoEndpoints()
        self.picture: Picture | None = None
        self.problem = NOT_YET
        self.tried = self.replaced = False
        self._stale = True
        self._followed = Followed(0)
        self._told: set[str] = set()

    async def run(self) -> None:
        """Follow it until this is cancelled."""
        loop = asyncio.get_running_loop()
        away = reread = 0.0
        while True:
            began, pause = loop.time(), 0.0
            try:
                if self._stale or self.picture is None:
                    await self._read()
                await self._watch()
            except Compacted:
                self._log.warning("etcd has compacted what was not seen yet, all is read again")
                self._stale = True
            except Replaced as error:
                self._log.warning("etcd is not what it was, all is read again", reason=error.what)
                self._stale = self.replaced = True
            except EtcdError as error:
                away = pause = longer(0.0 if not self.problem else away, PAUSES)
                self._fail(error)
            if not pause:
                reread = pause = longer(0.0 if loop.time() - began > STEADY else reread, REREAD)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - not for secrets

    async def _read(self) -> None:
        picture, before = Picture(self._keys, self._bad), self.picture
        latest: KeyValue | None = None
        self._endpoints.begin()
        async for page in self._etcd.pages(self._keys.all):
            picture.revision, picture.cluster_id = page.revision, page.cluster_id
            for kv in page.kvs:
                self._put(picture, kv)
                if latest is None or kv.modified > latest.modified:
                    latest = kv
        self._endpoints.end(picture.revision)
        if before is not None and not picture.may_follow(before) and not self.replaced:
            self._log.warning("etcd is not what it was, all was read again", reason=_OTHERS)
            self.replaced = True
        self._followed = Followed(picture.revision + 1, picture.cluster_id, latest)
        self.picture, self._stale = picture, False
        self._well()

    async def _watch(self) -> None:
        """Follow the changes, from where they were followed last."""
        picture = self.picture
        assert picture is not None
        batches = self._etcd.watch(self._keys.all, followed=self._followed)
        async with aclosing(batches) as watched:
            async for batch in watched:
                if self._take(picture, batch):
                    self._changed()
                if self.problem:
                    self._well()

    def _take(self, picture: Picture, batch: Batch) -> bool:
        """Take changes; whether the picture has changed by them."""
        changed = False
        for event in batch.events:
            if event.kind is Kind.PUT:
                changed = self._put(picture, event.kv) or changed
            else:
                changed = self._remove(picture, event.kv) or changed
        picture.revision = max(picture.revision, batch.revision)
        self._endpoints.told_all(picture.revision)
        return changed

    def _put(self, picture: Picture, kv: KeyValue) -> bool:
        table, rest = self._keys.table(kv.key)
        if table != ENDPOINTS:
            return picture.put(kv)
        host, _, id_ = rest.partition("/")
        if host and id_:
            self._endpoints.put(host, id_, kv.value, kv.modified)
        return False

    def _remove(self, picture: Picture, kv: KeyValue) -> bool:
        table, rest = self._keys.table(kv.key)
        if table != ENDPOINTS:
            return picture.remove(kv.key)
        host, _, id_ = rest.partition("/")
        if host and id_:
            self._endpoints.gone(host, id_, kv.modified)
        return False

    def _well(self) -> None:
        self.problem, self.tried = "", True
        self._changed()

    def _fail(self, error: EtcdError) -> None:
        if self.problem != str(error):
            self.problem, self.tried = str(error), True
            self._changed()

    def _bad(self, key: str, reason: str) -> None:
        """Log that a value cannot be read, each once."""
        if key in self._told or len(self._told) >= _MOST_TOLD:
            return
        self._told.add(key)
        self._log.warning(
            "etcd has something that is not understood", key=shortened(key),
            reason=shortened(reason),
            remedy="see who has written it, or delete it with `etcdctl del`",
        )  # fmt: skip
