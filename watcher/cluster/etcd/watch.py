"""A watch: the changes of keys, by whichever member of etcd tells them.

A watch by HTTP 1.1 cannot ask for progress: the gateway answers when the request is complete (seen
with etcd 3.5.16). So a member that is silent is asked for a key in between. That read is
linearizable: a member that hears its leader, but is not heard by it, tells nothing, answers by its
own knowledge, and does not say that it has no leader (seen where packets in one direction are
dropped). A member that has lost its leader ends the watch itself, as it is asked to (`hasleader`);
the kernel ends a connection whose other end is gone.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Final

from watcher.cluster.etcd import wire
from watcher.cluster.etcd.errors import Compacted, Failed, Replaced, Silent, Unavailable
from watcher.cluster.etcd.meanings import meaning_of_end
from watcher.cluster.etcd.requests import Json, ranged, under
from watcher.cluster.etcd.session import Session
from watcher.cluster.etcd.transport import Stream
from watcher.cluster.etcd.words import Batch, Event, Kind, Range, Times
from watcher.model.pauses import longer

_MAX_PENDING: Final = 100_000
"""The most changes that one revision may have; etcd's `--max-txn-ops` is 128."""


async def watch(
    session: Session, prefix: str, revision: int, cluster_id: int, times: Times
) -> AsyncGenerator[Batch]:
    """See :meth:`watcher.cluster.etcd.client.Etcd.watch`."""
    told = _Told(revision, cluster_id)
    failing: dict[str, str] = {}  # since one has told anything
    pause = 0.0
    retried = False
    while True:
        member, began = session.members.first, time.monotonic()
        heard, why = False, "it has ended the watch"
        try:
            async with aclosing(_at(session, member, prefix, told, times)) as batches:
                async for batch in batches:
                    heard = True
                    yield batch
        except Compacted:
            if not told.forget():
                raise
            continue
        except Failed as failed:
            why = failed.why
            if failed.stale and not heard and not retried:
                retried = True
                continue
        retried = False
        session.members.failed(member)
        if not heard:
            failing[member] = why
            if len(failing) == len(session.members):
                raise Unavailable(tuple(failing.items()))
            continue
        failing.clear()
        if time.monotonic() - began > times.quiet:
            pause = 0.0
            continue
        pause = longer(pause, times.pauses)  # it accepts a watch and ends it at once
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - not for secrets


type _Change = tuple[Kind, str, int, bytes]
"""Kind, key, revision and value of the first change of a revision."""


def _change(event: Event) -> _Change:
    return event.kind, event.kv.key, event.kv.modified, event.kv.value


class _Told:
    """How far the changes have been told, whatever member did.

    Attributes:
        next: the first revision that has not been.
        cluster_id: which etcd it is; 0: not known yet.
    """

    def __init__(self, revision: int, cluster_id: int) -> None:
        self.next = revision
        self.cluster_id = cluster_id
        self._pending: list[Event] = []
        self._latest: _Change | None = None
        self._expected: _Change | None = None

    def begin(self) -> None:
        """Another member tells now; what one before has begun to tell, this one tells anew.

        The latest change that was told is to come first, once more. If another one does, or none,
        etcd was restored meanwhile, and has had as many changes since.
        """
        self._pending.clear()
        self._expected = self._latest

    @property
    def start(self) -> int:
        """The revision from which it is told."""
        return self.next if self._expected is None else self._expected[2]

    @property
    def unknown(self) -> bool:
        """Whether the latest change has still to come once more."""
        return self._expected is not None

    def forget(self) -> bool:
        """Expect no change once more, as etcd has compacted it; returns whether one was."""
        expected, self._latest = self._expected, None
        return expected is not None

    def add(self, line: wire.Told) -> Batch | None:
        """The changes of a line; those of a revision of which more follows are told with it.

        Raises:
            Failed: a revision has changes without an end.
        """
        read = line.read()
        if self._expected is not None and read:
            if _change(read[0]) != self._expected:
                raise Replaced(line.header.revision, line.header.cluster_id)
            self._expected = None
        events = self._pending + [e for e in read if e.kv.modified >= self.next]
        self._pending = []
        if line.fragment and events:
            last = events[-1].kv.modified
            self._pending = [event for event in events if event.kv.modified == last]
            events = [event for event in events if event.kv.modified != last]
        if len(self._pending) > _MAX_PENDING:
            raise Failed("it tells changes without an end")
        if events:
            self.next = max(event.kv.modified for event in events) + 1
            first = next(event for event in events if event.kv.modified == self.next - 1)
            self._latest = _change(first)
        elif line.events:
            return None
        else:  # progress: nothing before it is still to come
            self.next = max(self.next, line.header.revision + 1)
        return self.batch(events)

    def batch(self, events: Iterable[Event] = ()) -> Batch:
        """What has been told."""
        return Batch(self.next - 1, self.cluster_id, events=tuple(events))


async def _at(
    session: Session, member: str, prefix: str, told: _Told, times: Times
) -> AsyncGenerator[Batch]:
    """What one member tells, until it fails."""
    told.begin()
    create: Json = ranged(*under(prefix)) | {
        "start_revision": str(told.start),
        "progress_notify": True,
        "fragment": True,
    }
    async with session.lines(member, "/v3/watch", {"create_request": create}) as stream:
        async for line in _lines(session, stream, member, prefix, times):
            if line is None:
                if told.unknown:
                    raise Replaced(told.next - 1, told.cluster_id)
                yield told.batch()
                continue
            _check_end(session, line)
            if line.created:
                await _check_same(session, line, member, prefix, told)
                yield told.batch()
            elif batch := told.add(line):
                yield batch


async def _lines(
    session: Session, stream: Stream, member: str, prefix: str, times: Times
) -> AsyncIterator[wire.Told | None]:
    """The lines; `None` where there was none for a while and the member is there."""
    created = False
    while True:
        try:
            async with asyncio.timeout(times.quiet if created else times.answer):
                lines = await stream.next()
        except TimeoutError:
            if not created:
                raise Silent(f"no answer within {times.answer:g} s") from None
            await _ping(session, member, prefix)
            yield None
            continue
        if not lines:
            raise Failed("it has ended the watch")
        created = True
        for line in lines:
            yield wire.read_told(line)


async def _ping(session: Session, member: str, prefix: str) -> Range:
    """Asks a member what only one knows that is joined to the others. Raises: Failed."""
    body = ranged(under(prefix)[0], "") | {"keys_only": True}
    return await session.at(member, "/v3/kv/range", body, wire.read_range)


def _check_end(session: Session, line: wire.Told) -> None:
    """Raises: why the watch has ended, if it has."""
    if line.compact_revision:
        raise Compacted(line.compact_revision)
    if line.canceled and not line.cancel_reason:
        raise Failed("it has ended the watch")
    if line.canceled:
        raise session.ended(meaning_of_end(line.cancel_reason))


async def _check_same(
    session: Session, line: wire.Told, member: str, prefix: str, told: _Told
) -> None:
    """Raises: Replaced: this etcd has less than has been told; it would stay silent."""
    cluster_id, revision = line.header.cluster_id, line.header.revision
    if revision < told.next - 1:  # a member that lags has less, too: have it catch up
        answer = await _ping(session, member, prefix)
        cluster_id, revision = answer.cluster_id, answer.revision
    told.cluster_id = told.cluster_id or cluster_id
    if told.cluster_id != cluster_id or revision < told.next - 1:
        raise Replaced(revision, cluster_id)
