"""What is to be changed in the registry, and what the service is to know. It is only worked out.

:func:`look` compares what the service has told with a picture of the registry. Whatever was cut off
before, the next look sees what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from watcher.cluster.agent.finder import AT_ONCE, Finder
from watcher.cluster.agent.rows import Map, put_back, told
from watcher.cluster.agent.standing import Situation, Standing, live, standing
from watcher.cluster.registry.changes import Unmark

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from watcher.cluster.agent.tables import Place, Service
    from watcher.cluster.protocol import Row
    from watcher.cluster.registry.changes import Change, Self
    from watcher.cluster.registry.picture import Picture
    from watcher.cluster.registry.records import AliveRecord


class Look(Struct, frozen=True):
    """What a look has found.

    Attributes:
        standing: how this host stands.
        rows: what the service is to know; `None`: what it knows stays.
        more: what it is to know beside that.
        changes: what is to be changed in the registry, apart from what needs a lease.
        mark: whether all hosts are to be kept from what is new, because etcd was restored.
        live: what is to be told of this host while it lives, if etcd does not have it yet.
        full: networks of which this host wants a block, and none is free.
        due: places that this host tries to get.
        prolong: the lease of the mark that etcd was restored, if that is to stay for now.
    """

    standing: Standing
    rows: list[Row] | None
    changes: list[Change]
    mark: bool = False
    live: AliveRecord | None = None
    full: tuple[str, ...] = ()
    due: frozenset[Place] = frozenset()
    more: tuple[Row, ...] = ()
    prolong: int = 0


def look(
    picture: Picture,
    service: Service,
    now: Situation,
    trying: Mapping[Place, float],
    rng: random.Random,
) -> Look:
    """Compare.

    Args:
        picture: the registry.
        service: what the service has told, all of it.
        now: what else is known.
        trying: seconds since this host has tried to get each of `due` of the looks before.
    """
    how = standing(picture, now)
    marked = picture.restored
    if marked is not None and not marked.lease:  # it would never end
        return Look(how, None, [Unmark(marked.modified)])
    if now.restored and not now.marked and marked is None:
        return Look(how, None, [], mark=True)
    if how.kind in ("joining", "undecided"):
        # One that has started again since the snapshot has to put back what it has before others
        # take that. Only its earlier start is known, which counts for `ttl` more.
        lease = marked.lease if marked is not None and how.kind == "undecided" else 0
        return Look(how, None, [] if how.join is None else [how.join], prolong=lease)
    map_ = Map(picture, how, service)
    rows: list[Row] | None = None
    more: tuple[Row, ...] = ()
    if marked is None or how.other:
        rows = told(map_, how, service, trying)
    else:
        more = tuple(put_back(map_, service, marked.modified))
    if how.kind != "in" or how.me is None:
        return Look(how, rows, [], more=more)
    finder = Finder(map_, service, how.me, now.numbers, rng)
    changes = list(finder.changes() if marked is None else finder.back())
    return Look(
        how,
        rows,
        ([] if how.join is None else [how.join]) + changes[:AT_ONCE],
        live=_live(picture, how.me, now),
        full=tuple(finder.full),
        due=frozenset(finder.due),
        more=more,
    )


def _live(picture: Picture, me: Self, now: Situation) -> AliveRecord | None:
    record = live(now)
    entry = picture.alive.get(me.name)
    told = entry is not None and entry.lease and entry.record == record and not entry.damaged
    return None if told else record
