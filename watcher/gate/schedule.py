"""The holds without an answer, in the order in which the gate itself has to answer them."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from watcher.gate.hold import LAST_WORDS

if TYPE_CHECKING:
    from watcher.gate.hold import Hold


class Schedule:
    """Has each hold with the descriptor of its event, until its answer is given.

    A hold is undecided first. Once its answer is decided, that is due :data:`LAST_WORDS` later.
    Times are those of `time.monotonic`. Every caller has the gate's lock.
    """

    def __init__(self) -> None:
        self._undecided: dict[Hold, int] = {}
        """With its event's descriptor; the first is due first."""
        self._decided: dict[Hold, tuple[float, int, bool]] = {}
        """When to answer, the event's descriptor, the answer; the first is due first."""
        self._denied_if_late: set[Hold] = set()

    def add(self, hold: Hold, fd: int) -> None:
        """Take in a hold, whose event has the descriptor `fd`."""
        last = next(reversed(self._undecided), hold)
        self._undecided[hold] = fd
        if last.deadline > hold.deadline:  # holds were longer until a moment ago
            by_deadline = sorted(self._undecided.items(), key=lambda held: held[0].deadline)
            self._undecided = dict(by_deadline)

    def take(self, hold: Hold) -> int | None:
        """Remove a hold to answer it now; `None` if it is decided or answered already."""
        self._denied_if_late.discard(hold)
        return self._undecided.pop(hold, None)

    def deny_if_late(self, hold: Hold) -> bool:
        """Have :meth:`expire` deny a hold; false if it is decided or answered already."""
        if hold not in self._undecided:
            return False
        self._denied_if_late.add(hold)
        return True

    def decide(self, hold: Hold, *, allow: bool) -> bool:
        """Decide the answer of a hold; false if it is decided or answered already."""
        if hold not in self._undecided:
            return False
        fd = self._undecided.pop(hold)
        self._denied_if_late.discard(hold)
        self._decided[hold] = (time.monotonic() + LAST_WORDS, fd, allow)
        return True

    def take_decided(self, hold: Hold) -> tuple[int, bool] | None:
        """Remove a decided hold: descriptor and answer; `None` if that has been given."""
        _, fd, allow = self._decided.pop(hold, (0.0, None, False))
        return None if fd is None else (fd, allow)

    def next_due(self) -> float | None:
        """When the next deadline or decided answer is due; `None` if there is none."""
        due = [hold.deadline for hold in itertools.islice(self._undecided, 1)]
        due += [when for when, *_ in itertools.islice(self._decided.values(), 1)]
        return min(due, default=None)

    def take_due(self, now: float) -> list[tuple[int, bool]]:
        """Remove the decided holds whose answers are due: their descriptors and answers."""
        ready = list(itertools.takewhile(lambda one: one[1][0] <= now, self._decided.items()))
        for hold, _ in ready:
            del self._decided[hold]
        return [(fd, allow) for _, (_, fd, allow) in ready]

    def expire(self, now: float, *, allow: bool) -> list[tuple[Hold, bool]]:
        """Decide the holds whose deadline has passed, and return them with their answers."""
        due = itertools.takewhile(lambda hold: hold.deadline <= now, self._undecided)
        decided = [(hold, allow and hold not in self._denied_if_late) for hold in due]
        for hold, allowed in decided:
            self.decide(hold, allow=allowed)
        return decided

    def clear(self) -> list[int]:
        """Remove all holds, and return the descriptors of their events."""
        left = [*self._undecided.values(), *(fd for _, fd, _ in self._decided.values())]
        self._undecided.clear()
        self._decided.clear()
        self._denied_if_late.clear()
        return left
