"""How far the changes of keys were told, and whether etcd still has those that were.

Etcd may be restored from an older snapshot while nobody watches it, and have had as many changes
since. Then its revision tells nothing. So the latest change that is known has to come first once
more, whichever member goes on, and nothing may lie between it and what is new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.cluster.etcd.errors import Compacted, EtcdError, Failed, Replaced
from watcher.cluster.etcd.words import Batch, Event, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from watcher.cluster.etcd import wire
    from watcher.cluster.etcd.words import KeyValue

_MAX_PENDING: Final = 100_000
"""The most changes that one revision may have; etcd's `--max-txn-ops` is 128."""

type Change = tuple[Kind, str, int, bytes]
"""Kind, key, revision and value of a change."""


def _change(event: Event) -> Change:
    return event.kind, event.kv.key, event.kv.modified, event.kv.value


def _kept(kv: KeyValue) -> Change:
    return Kind.PUT, kv.key, kv.modified, kv.value


class Followed:
    """See the module's docstring. It outlives each watch: the next one goes on with it.

    Args:
        revision: the first one that is to be told.
        cluster_id: which etcd it is; 0: not known yet.
        latest: of the keys that were read at the revision before, the one that was changed last.

    Attributes:
        next: the first revision that has not been told.
        cluster_id: as above.
    """

    def __init__(self, revision: int, cluster_id: int = 0, latest: KeyValue | None = None) -> None:
        self.next = revision
        self.cluster_id = cluster_id
        self._latest = None if latest is None else _kept(latest)
        self._whole = latest is None
        """Whether nothing has changed between `latest` and `next`. A read does not tell: keys may
        have been deleted."""
        self._oldest = 0
        """etcd has compacted what was before."""
        self._pending: list[Event] = []
        self._expected: Change | None = None
        self._known = range(0)
        """The revisions of which no change may come any more."""

    def begin(self) -> None:
        """Another member tells now; what one before has begun to tell, this one tells anew."""
        self._pending.clear()
        latest, self._expected, self._known = self._latest, None, range(0)
        if latest is None:
            return
        if latest[2] >= self._oldest:
            self._expected = latest
        if self._whole:
            self._known = range(latest[2] + 1, self.next)

    @property
    def start(self) -> int:
        """The revision from which it is to be told."""
        if self._latest is None:
            return self.next
        return min(max(self._latest[2], self._oldest), self.next)

    @property
    def well(self) -> bool:
        """Whether the latest change has come once more, if it has to."""
        return self._expected is None

    def settle(self) -> None:
        """Note that a member tells nothing more for now: nothing before `next` is to come."""
        self._whole = True

    def add(self, line: wire.Told) -> Batch | None:
        """The changes of a line; those of a revision of which more follows are told with it.

        Raises:
            Failed: a revision has changes without an end.
            Compacted, Replaced: these are other changes than those that are known.
        """
        events = [*self._pending, *line.read()]
        self._pending = []
        if line.fragment and events:
            last = events[-1].kv.modified
            self._pending = [event for event in events if event.kv.modified == last]
            events = [event for event in events if event.kv.modified != last]
        if len(self._pending) > _MAX_PENDING:
            raise Failed("it tells changes without an end")
        was_well = self.well
        if events:
            self._compare(line.header.revision, line.header.cluster_id, events)
        new = [event for event in events if event.kv.modified >= self.next]
        if new:
            self.next = max(event.kv.modified for event in new) + 1
        elif not line.events:  # progress: nothing before it is still to come
            if self._expected is not None:
                raise self.missed(line.header.revision, line.header.cluster_id)
            self.settle()
            self.next = max(self.next, line.header.revision + 1)
        elif was_well or not self.well:
            return None
        self._whole = self._whole or bool(new)
        return self.batch(new)

    def _compare(self, revision: int, cluster_id: int, events: Sequence[Event]) -> None:
        """Compare the first changes with what is known, and remember the last one."""
        if any(event.kv.modified in self._known for event in events):
            raise Replaced(revision, cluster_id)
        if self._expected is not None and self._expected not in map(_change, events):
            raise self.missed(revision, cluster_id)
        self._expected = None
        last = max(event.kv.modified for event in events)
        if self._latest is None or last >= self._latest[2]:
            self._latest = next(_change(event) for event in events if event.kv.modified == last)

    def missed(self, revision: int, cluster_id: int) -> EtcdError:
        """The error if the latest change does not come once more.

        Before 3.5.16, etcd forgot a deletion when it compacted the history up to just there.
        """
        if self.key is None:
            return Compacted()
        return Replaced(revision, cluster_id)

    @property
    def key(self) -> str | None:
        """The key of the latest change; `None`: it was deleted then, or no change is known."""
        if self._latest is None or self._latest[0] is Kind.DELETE:
            return None
        return self._latest[1]

    def is_same(self, found: Sequence[KeyValue]) -> bool:
        """Whether that key, as it was found, is as it was then."""
        return [_kept(kv) for kv in found] == [self._latest]

    def forget(self, oldest: int) -> bool:
        """Note that etcd has compacted what was before; whether all that is to come is there."""
        enough = self.start < oldest <= self.next
        self._oldest = oldest if enough else self._oldest
        return enough

    def batch(self, events: Iterable[Event] = ()) -> Batch:
        """What has been told."""
        return Batch(self.next - 1, self.cluster_id, events=tuple(events))
