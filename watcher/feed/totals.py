"""Counts of what has happened since the service started, for the metrics."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from watcher.facts.kinds import Attached, Detached, Failed, Released
from watcher.feed.lines import Histogram, Totals

if TYPE_CHECKING:
    from watcher.facts.kinds import Fact
    from watcher.feed.lines import Event

BOUNDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""The upper bounds of the buckets, in seconds."""


class Durations:
    """Durations, counted in buckets of `BOUNDS`."""

    __slots__ = ("_counts", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration; a bound is part of its bucket, as Prometheus' `le` says."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._sum += seconds

    def histogram(self) -> Histogram:
        """What was counted so far."""
        return Histogram(BOUNDS, tuple(self._counts), self._sum)


class Counts:
    """Counts facts and events."""

    def __init__(self) -> None:
        self._since = time.time()
        self._events: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._attach, self._detach, self._hold = Durations(), Durations(), Durations()

    def note(self, fact: Fact, kind: str | None) -> None:
        """Count `fact`, which is an event of `kind`, if it is one."""
        match fact:
            case Attached(seconds=seconds):
                self._attach.add(seconds)
            case Detached(seconds=seconds):
                self._detach.add(seconds)
            case Released(seconds=seconds):
                self._hold.add(seconds)
            case Failed(cause=cause):
                self._failures[cause] += 1
        if kind is not None:
            self._events[kind] += 1

    def note_told(self, event: Event) -> None:
        """Count an `event` of another process."""
        self._events[event.kind] += 1
        if event.cause:
            self._failures[event.cause] += 1
        if event.kind == "attached":
            self._attach.add(event.seconds)
        elif event.kind == "detached":
            self._detach.add(event.seconds)

    def totals(self, history_lost: int = 0) -> Totals:
        """All counts as a line."""
        return Totals(
            datetime.fromtimestamp(self._since, UTC), dict(self._events), dict(self._failures),
            self._attach.histogram(), self._detach.histogram(), self._hold.histogram(),
            history_lost,
        )  # fmt: skip
