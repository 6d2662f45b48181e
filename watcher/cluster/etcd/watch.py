"""A watch: the changes of keys, by whichever member of etcd tells them.

A watch by HTTP 1.1 cannot ask for progress: the gateway answers when the request is complete (seen
with etcd 3.5.16). So a member that is silent is asked for a key in between. That read is
linearizable: a member that hears its leader, but is not heard by it, tells nothing, answers by its
own knowledge, and does not say that it has no leader (seen where packets in one direction are
dropped). Where one URL leads to several members, another one may answer that: then the watch begins
anew, unless there is nothing to tell. A member that has lost its leader ends the watch itself, as
it is asked to (`hasleader`); the kernel ends a connection whose other end is gone.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from watcher.cluster.etcd import wire
from watcher.cluster.etcd.errors import Compacted, Failed, Replaced, Silent, Unavailable
from watcher.cluster.etcd.followed import Followed
from watcher.cluster.etcd.meanings import meaning_of_end
from watcher.cluster.etcd.requests import Json, ranged, under
from watcher.cluster.etcd.session import Session
from watcher.cluster.etcd.transport import Stream
from watcher.cluster.etcd.words import Batch, Range, Times
from watcher.model.pauses import longer


async def watch(
    session: Session, prefix: str, followed: Followed, times: Times
) -> AsyncGenerator[Batch]:
    """See :meth:`watcher.cluster.etcd.client.Etcd.watch`."""
    failing: dict[str, str] = {}  # since one has told anything
    pause = 0.0
    retried = False
    while True:
        member, began = session.members.first, time.monotonic()
        heard, why = False, "it has ended the watch"
        try:
            async with aclosing(_at(session, member, prefix, followed, times)) as batches:
                async for batch in batches:
                    heard = True
                    yield batch
        except Compacted as error:
            if not (followed.forget(error.revision) and await _is_same(session, followed)):
                raise
            heard = True
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


async def _at(
    session: Session, member: str, prefix: str, followed: Followed, times: Times
) -> AsyncGenerator[Batch]:
    """What one member tells, until it fails."""
    followed.begin()
    teller = 0
    create: Json = ranged(*under(prefix)) | {
        "start_revision": str(followed.start),
        "progress_notify": True,
        "fragment": True,
    }
    async with session.lines(member, "/v3/watch", {"create_request": create}) as stream:
        async for line in _lines(stream, times):
            if line is None:
                await _check_there(session, member, prefix, teller, followed)
                if not followed.well:
                    raise await _why_silent(session, followed)
                followed.settle()
                yield followed.batch()
                continue
            _check_end(session, line)
            if line.created:
                teller = line.header.member_id
                await _check_same(session, line, member, prefix, followed)
                if followed.well:
                    yield followed.batch()
            elif batch := followed.add(line):
                yield batch


async def _lines(stream: Stream, times: Times) -> AsyncIterator[wire.Told | None]:
    """The lines; `None` where there was none for a while."""
    created, begun = False, 0
    while True:
        try:
            async with asyncio.timeout(times.quiet if created else times.answer):
                lines = await stream.next()
        except TimeoutError:
            if not created:
                raise Silent(f"no answer within {times.answer:g} s") from None
            if stream.begun and stream.begun == begun:
                raise Failed("it has stopped within a line") from None
            begun = stream.begun
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


async def _check_there(
    session: Session, member: str, prefix: str, teller: int, followed: Followed
) -> None:
    """Raises: Failed: the member that tells may not be there, or not know what there is.

    A name of several addresses, or a proxy, may have another member answer in its stead. That one
    knows whether there is anything to tell.
    """
    answer = await _ping(session, member, prefix)
    if answer.member != teller and answer.revision >= followed.next:
        raise Failed("another member answers in its stead")


def _check_end(session: Session, line: wire.Told) -> None:
    """Raises: why the watch has ended, if it has."""
    if line.compact_revision:
        raise Compacted(line.compact_revision)
    if line.canceled and not line.cancel_reason:
        raise Failed("it has ended the watch")
    if line.canceled:
        raise session.ended(meaning_of_end(line.cancel_reason))


async def _is_same(session: Session, followed: Followed) -> bool:
    """Whether the key of the latest change is as it was then. Raises: EtcdError."""
    if followed.key is None:
        return False
    body = ranged(followed.key, "")
    answer = await session.anywhere("/v3/kv/range", body, wire.read_range, repeatable=True)
    return followed.is_same(answer.kvs)


async def _why_silent(session: Session, followed: Followed) -> Exception:
    """The error if a member does not tell the latest change once more. Raises: EtcdError."""
    if await _is_same(session, followed):
        return Failed("it does not tell the changes that there are")
    return followed.missed(followed.next - 1, followed.cluster_id)


async def _check_same(
    session: Session, line: wire.Told, member: str, prefix: str, followed: Followed
) -> None:
    """Raises: Replaced: this etcd has less than has been told; it would stay silent."""
    cluster_id, revision = line.header.cluster_id, line.header.revision
    if revision < followed.next - 1:  # a member that lags has less, too: have it catch up
        answer = await _ping(session, member, prefix)
        cluster_id, revision = answer.cluster_id, answer.revision
    followed.cluster_id = followed.cluster_id or cluster_id
    if followed.cluster_id != cluster_id or revision < followed.next - 1:
        raise Replaced(revision, cluster_id)
