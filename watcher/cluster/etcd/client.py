"""The client of etcd: what the registry is kept by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import suppress
from typing import Final, Self

from watcher.cluster.etcd import wire
from watcher.cluster.etcd.errors import EtcdError, Failed, NoLease, Replaced, TooLarge
from watcher.cluster.etcd.followed import Followed
from watcher.cluster.etcd.members import Members
from watcher.cluster.etcd.requests import Compare, Json, Operation, ranged, under
from watcher.cluster.etcd.session import Session
from watcher.cluster.etcd.transport import Transport
from watcher.cluster.etcd.watch import watch
from watcher.cluster.etcd.words import TIMES, Batch, KeyValue, Range, Snapshot, Status, Times
from watcher.cluster.etcd.words import Tls as Tls
from watcher.cluster.etcd.words import Txn as Txn
from watcher.log.logger import Log

PAGE: Final = 1000
"""Keys that are read at a time."""


class Etcd:
    """etcd, by whichever of its members answers; an asynchronous context manager.

    Each request has a deadline. Reads are linearizable: a member that is cut off from the others
    does not answer, and the next one is asked. No request waits before it is made: who repeats one
    that failed pauses in between, longer each time (`watcher.model.pauses`).

    All methods raise:
        Unavailable: no member answers.
        Refused: the user, its password or a certificate does not count.
        EtcdError: anything else that etcd does not do.

    Args:
        endpoints: the members' URLs.
        tls: the files for `https://`; none: the system's certificates.
        user, password_file: who asks; empty: nobody in particular.

    Raises:
        UsageError: an endpoint is no URL.
    """

    def __init__(
        self,
        endpoints: Iterable[str],
        tls: Tls | None,
        user: str,
        password_file: str,
        log: Log,
        times: Times = TIMES,
    ) -> None:
        self._members = Members(endpoints)
        self._tls = tls or Tls()
        self._user = user
        self._password_file = password_file
        self._log = log
        self._times = times
        self._transport: Transport | None = None
        self._opened: Session | None = None

    async def __aenter__(self) -> Self:
        self._transport = Transport(self._tls, self._times)
        self._opened = Session(
            self._transport, self._members, self._user, self._password_file, self._log
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._transport is not None
        await self._transport.close()
        self._transport = self._opened = None

    @property
    def _session(self) -> Session:
        assert self._opened is not None, "it is not entered"
        return self._opened

    async def range(
        self,
        first: str,
        end: str = "",
        *,
        limit: int = 0,
        revision: int = 0,
        keys_only: bool = False,
    ) -> Range:
        """The key `first`, or the keys from it on and before `end`, in their order.

        Args:
            limit: how many at the most; 0: all.
            revision: as they were then; 0: as they are.

        Raises:
            Compacted: etcd does not know that revision any more.
            Replaced: etcd does not know that revision yet.
        """
        body: Json = ranged(first, end) | {"limit": str(limit), "revision": str(revision)}
        if keys_only:
            body["keys_only"] = True
        return await self._session.anywhere("/v3/kv/range", body, wire.read_range, repeatable=True)

    async def pages(self, prefix: str, *, page: int = PAGE) -> AsyncIterator[Range]:
        """All keys with a prefix, all of them at the revision of the first page.

        Raises:
            Compacted: reading took too long.
            Replaced: another etcd answers in between.
        """
        first, end = under(prefix)
        revision = cluster_id = 0
        while True:
            try:
                answer = await self.range(first, end, limit=page, revision=revision)
            except TooLarge:
                if page == 1:
                    raise
                page = max(1, page // 8)
                continue
            if revision and answer.cluster_id != cluster_id:
                raise Replaced(answer.revision, answer.cluster_id)
            revision, cluster_id = revision or answer.revision, answer.cluster_id
            yield Range(revision, cluster_id, kvs=answer.kvs, more=answer.more)
            if not answer.more or not answer.kvs:
                return
            first = answer.kvs[-1].key + "\0"

    async def read_all(self, prefix: str, *, page: int = PAGE) -> Snapshot:
        """All keys with a prefix at one revision.

        Raises:
            Compacted, Replaced: as :meth:`pages`.
        """
        kvs: list[KeyValue] = []
        revision = cluster_id = 0
        async for answer in self.pages(prefix, page=page):
            kvs += answer.kvs
            revision, cluster_id = answer.revision, answer.cluster_id
        return Snapshot(revision, cluster_id, kvs=tuple(kvs))

    async def txn(
        self,
        compares: Sequence[Compare],
        then: Sequence[Operation],
        otherwise: Sequence[Operation] = (),
    ) -> Txn:
        """Does `then` if all of `compares` hold, or else `otherwise`; at once, or not at all.

        It takes 128 operations at the most (etcd's `--max-txn-ops`), and no key twice.

        Raises:
            Uncertain: it may have been done, or not: read again.
        """
        body = {
            "compare": [compare.written() for compare in compares],
            "success": [operation.written() for operation in then],
            "failure": [operation.written() for operation in otherwise],
        }
        return await self._session.anywhere("/v3/kv/txn", body, wire.read_txn, repeatable=False)

    async def grant(self, ttl: int) -> int:
        """The number of a new lease, which lapses `ttl` seconds after it was last kept alive."""
        body = {"TTL": str(ttl)}
        answer = await self._session.anywhere(
            "/v3/lease/grant", body, wire.read_granted, repeatable=True
        )
        if not answer.lease:
            raise EtcdError("etcd gives a lease without a number", "see etcd's log")
        return answer.lease

    async def keep_alive(self, lease: int) -> int:
        """The seconds until a lease lapses, from now on; 0: it has."""
        try:
            answer = await self._session.anywhere(
                "/v3/lease/keepalive", {"ID": str(lease)}, wire.read_alive, repeatable=True
            )
        except NoLease:
            return 0
        return answer.ttl

    async def revoke(self, lease: int) -> None:
        """Ends a lease, and deletes the keys that have it; nothing if it has lapsed."""
        with suppress(NoLease):
            await self._session.anywhere(
                "/v3/lease/revoke", {"ID": str(lease)}, wire.read_nothing, repeatable=True
            )

    def watch(
        self,
        prefix: str,
        revision: int = 1,
        cluster_id: int = 0,
        *,
        followed: Followed | None = None,
    ) -> AsyncGenerator[Batch]:
        """The changes of all keys with a prefix, from that revision on, each once and in order.

        It goes on at the next member if one fails. While nothing changes, a batch without events
        comes about every `times.quiet` seconds: etcd is there. Close it when it is not used up:
        `contextlib.aclosing`.

        Args:
            cluster_id: which etcd that revision is of; 0: whichever answers first.
            followed: what is known of a read or a watch before, in place of both; it is kept.

        Raises:
            Unavailable: no member has told anything, in a row.
            Compacted: the history does not go back so far, or may be another one.
            Replaced: etcd is another one, or was restored.
        """
        followed = followed or Followed(revision, cluster_id)
        return watch(self._session, prefix, followed, self._times)

    async def statuses(self) -> dict[str, Status | str]:
        """What each member tells of itself, or why it does not, by their URLs; raises nothing."""
        members = sorted(self._members)
        return dict(zip(members, await asyncio.gather(*map(self._status, members)), strict=True))

    async def _status(self, member: str) -> Status | str:
        try:
            return await self._session.at(member, "/v3/maintenance/status", {}, wire.read_status)
        except Failed as failed:
            return failed.why
        except EtcdError as error:
            return error.what
