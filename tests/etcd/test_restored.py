"""etcd that was restored while no watch was there, and has had as many changes since."""

from __future__ import annotations

import base64
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from tests.etcd.test_hostile import GOOD, PATIENT, asked
from tests.support.played_etcd import HEADER, Staying, http, streamed, told
from watcher.cluster.etcd import wire
from watcher.cluster.etcd.client import Etcd
from watcher.cluster.etcd.errors import Compacted, Failed, Replaced, Unavailable
from watcher.cluster.etcd.followed import Followed
from watcher.cluster.etcd.words import Event, KeyValue, Kind

LATER = {"header": HEADER | {"revision": "30"}}
READ = KeyValue("a", b"old", 4, 4, 1, 0)
"""What was changed last, at revision 4, of what was read at revision 9."""


def kv(revision: int, key: str = "a", value: bytes = b"old") -> dict[str, Any]:
    return {
        "key": base64.b64encode(key.encode()).decode(),
        "value": base64.b64encode(value).decode(),
        "mod_revision": str(revision),
    }


def put(revision: int, key: str = "a", value: bytes = b"old") -> dict[str, Any]:
    return {"kv": kv(revision, key, value)}


def deleted(revision: int, key: str = "a") -> dict[str, Any]:
    return {"type": "DELETE", "kv": kv(revision, key, b"")}


def changes(*events: dict[str, Any]) -> bytes:
    return told(events=list(events), **LATER)


def found(*kvs: dict[str, Any]) -> bytes:
    """An answer to a read."""
    return http(msgspec.json.encode(LATER | {"kvs": kvs}))


def follows(
    *connections: list[bytes], found: bytes = GOOD, stays: bool = False
) -> tuple[list[int], list[int]]:
    """Follows etcd since a read, until a change at revision 30 or an error.

    Args:
        connections: the lines of each; then it ends, unless it `stays`. Further ones tell as the
            last one does.
        found: the answer to a read.

    Returns the revisions that were told, and those from which a watch was begun.
    """
    begun: list[int] = []
    revisions: list[int] = []

    def answer(path: str, body: Any) -> bytes:
        if path != "/v3/watch":
            return found
        begun.append(int(body["create_request"]["start_revision"]))
        lines = connections[min(len(begun), len(connections)) - 1]
        told_then = streamed(told(created=True, **LATER), *lines)
        return Staying(told_then) if stays else told_then

    async def work(client: Etcd) -> None:
        batches = client.watch("/watcher/", followed=Followed(10, 7, READ))
        async with aclosing(batches):
            async for batch in batches:
                revisions.extend(event.kv.modified for event in batch.events)
                if 30 in revisions:
                    break

    asked(answer, work, PATIENT)
    return revisions, begun


END = changes(put(30, "z"))


def test_the_latest_change_of_a_read_has_to_come_once_more() -> None:
    assert follows([changes(put(4)), END]) == ([30], [4])
    assert follows([changes(put(4))], [changes(put(4)), END]) == ([30], [4, 4])


@pytest.mark.parametrize(
    "other", [put(4, "b"), put(4, value=b"new"), put(5), deleted(4), put(30, "z")]
)
def test_another_change_in_its_place_is_another_history(other: dict[str, Any]) -> None:
    with pytest.raises(Replaced):
        follows([changes(other), END])


def test_no_change_in_its_place_is_another_history() -> None:
    with pytest.raises(Replaced):
        follows([told(**LATER)])
    with pytest.raises(Replaced):
        follows([], found=found(kv(12, value=b"new")), stays=True)


def test_a_member_that_does_not_tell_it_is_left() -> None:
    """A proxy in front of it keeps the lines: the key is as it was."""
    with pytest.raises(Unavailable, match="does not tell the changes"):
        follows([], found=found(kv(4)), stays=True)


def test_what_a_read_cannot_tell_is_learned() -> None:
    """Keys that were deleted before it."""
    lines = [changes(put(4), put(6, "b"), deleted(7, "b"))]
    assert follows(lines, [changes(deleted(7, "b")), END]) == ([30], [4, 7])
    with pytest.raises(Compacted):  # etcd may have forgotten it
        follows(lines, [END])


def test_nothing_comes_between_the_latest_change_and_what_is_new() -> None:
    lines = [changes(put(4)), told(header=HEADER | {"revision": "12"})]
    assert follows(lines, [changes(put(4)), END]) == ([30], [4, 4])
    for between in (put(5, "b"), deleted(12, "b")):
        with pytest.raises(Replaced):
            follows(lines, [changes(put(4), between), END])


def test_the_key_tells_if_the_latest_change_was_compacted() -> None:
    compacted = told(canceled=True, compact_revision="6", **LATER)
    assert follows([compacted], [END], found=found(kv(4))) == ([30], [4, 6])
    for kvs in ([], [kv(4, value=b"new")], [kv(11)]):
        with pytest.raises(Compacted):
            follows([compacted], [END], found=found(*kvs))
    with pytest.raises(Compacted):  # what is to be told next
        follows([told(canceled=True, compact_revision="11", **LATER)], found=found(kv(4)))


# --- any history ----------------------------------------------------------------------------------


class Made(Struct, frozen=True):
    """What a revision is: a change of a key, or none of ours (`""`)."""

    key: str
    deletes: bool
    number: int


MADE = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", ""]), st.booleans()), min_size=1, max_size=8
)  # fmt: skip


def events_of(history: list[Made]) -> list[Event]:
    """The changes of a history; the key of each is deleted only if it is there."""
    there: set[str] = set()
    events = []
    for revision, made in enumerate(history, 2):
        if not made.key or (made.deletes and made.key not in there):
            continue
        (there.discard if made.deletes else there.add)(made.key)
        kind = Kind.DELETE if made.deletes else Kind.PUT
        value = b"" if made.deletes else str(made.number).encode()
        events.append(Event(kind, KeyValue(made.key, value, 0, revision, 1, 0)))
    return events


def line_of(events: list[Event], revision: int) -> wire.Told:
    return wire.Told(
        header=msgspec.convert({"revision": revision, "cluster_id": 1}, wire._Header),
        events=tuple(
            wire._Event(
                wire._Kv(event.kv.key.encode(), 0, event.kv.modified, 1, event.kv.value),
                event.kind.value.upper(),
            )
            for event in events
        ),
    )


def read(history: list[Made]) -> Followed:
    """All keys, as they are in a history."""
    there: dict[str, Event] = {}
    for event in events_of(history):
        if event.kind is Kind.PUT:
            there[event.kv.key] = event
        else:
            del there[event.kv.key]
    latest = max((event.kv for event in there.values()), key=lambda kv: kv.modified, default=None)
    return Followed(len(history) + 2, 1, latest)


def connected(followed: Followed, history: list[Made], cut: int) -> list[Event]:
    """What a member tells of a history, of which so many changes come; then the connection ends.

    If all come, it lasts until the member is silent.
    """
    followed.begin()
    coming = [event for event in events_of(history) if event.kv.modified >= followed.start]
    told_now: list[Event] = []
    for event in coming[:cut]:
        batch = followed.add(line_of([event], len(history) + 1))
        told_now += batch.events if batch else ()
    if cut >= len(coming):
        if not followed.well:
            raise followed.missed(followed.next - 1, 1)
        followed.settle()
    return told_now


@given(MADE, st.lists(st.tuples(MADE, st.integers(0, 4)), max_size=4), st.integers(0, 40), MADE)
def test_another_history_is_noticed_and_the_same_one_is_not(
    first: list[tuple[str, bool]],
    parts: list[tuple[list[tuple[str, bool]], int]],
    kept: int,
    others: list[tuple[str, bool]],
) -> None:
    number = 0

    def made(some: list[tuple[str, bool]]) -> list[Made]:
        nonlocal number
        number += len(some)
        return [Made(key, deletes, number - i) for i, (key, deletes) in enumerate(some)]

    history = made(first)
    followed = read(history)
    since = followed.next
    found = connected(followed, history, 99)
    for some, cut in parts:
        history += made(some)
        found += connected(followed, history, cut)
    assert found == [e for e in events_of(history) if since <= e.kv.modified < followed.next]
    # etcd is restored from a snapshot, and written past what was told.
    other = history[:kept]
    while len(other) + 2 < followed.next + 1:
        other += made(others)
    known = [e for e in events_of(history) if e.kv.modified < followed.next]
    now = [e for e in events_of(other) if e.kv.modified < followed.next]
    if not known or followed._latest is None:  # nothing was read, and nothing told
        return
    latest = known[-1].kv.modified
    noticed = False
    try:
        connected(followed, other, 99)
    except (Replaced, Compacted, Failed):
        noticed = True
    assert noticed == (
        [e for e in now if e.kv.modified >= latest] != [e for e in known if e.kv.modified >= latest]
    )
