"""The feed: facts become events, with numbers, for the broker and for the history.

With a broker, an event is on its way before the gate answers. Without one, nothing is made of a
fact by then but a number. The history is written behind the answer.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from watcher.feed.events import event_of, kind_of
from watcher.feed.lines import Event
from watcher.feed.to_broker import ToBroker
from watcher.feed.totals import Counts
from watcher.model.errors import WatcherError

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Iterable, Iterator

    from watcher.facts.kinds import Fact
    from watcher.feed.history import History
    from watcher.feed.lines import Line
    from watcher.feed.records import Records

BEHIND: Final = 0.01
"""Seconds from an event until it is written to the history."""

BATCH: Final = 32
"""The most events of one write to the history, some tenths of a millisecond."""


class Feed:
    """Numbers and counts events, and passes them on. One thread uses it, at last that of the loop.

    Before :meth:`serve`, facts are only kept.
    """

    def __init__(self) -> None:
        self._counts = Counts()
        self._early: list[tuple[Fact, str, float]] = []
        self._seq = 0
        self._unwritten: deque[Event | tuple[Fact, str, int, float]] = deque()
        self._writing: asyncio.TimerHandle | None = None
        self._to_broker: ToBroker | None = None

    def serve(
        self,
        loop: asyncio.AbstractEventLoop,
        records: Records,
        history: History,
        now: Callable[[], Iterable[Line]],
        *,
        lost: Callable[[], object],
        hangs: Callable[[], object],
        first: Callable[[], object],
    ) -> None:
        """Pass events on from now on, in the thread of `loop`.

        Args:
            loop: the event loop.
            records: what the lease store has.
            history: where events are written to.
            now: the lines of what changes without an event, but for the totals.
            lost: called if the broker does not read any more.
            hangs: called if the broker is there, but has read nothing for long.
            first: called before work that nobody waits for; answers those who wait.
        """
        self._loop = loop
        self._records = records
        self._history = history
        self._first = first
        self._seq = history.last_seq
        self._to_broker = ToBroker(
            loop, records, lambda: self._seq, lambda: self._with_totals(now()),
            lost=lost, hangs=hangs, first=first,
        )  # fmt: skip
        early, self._early = self._early, []
        for fact, kind, at in early:
            self._take(self._to_broker, fact, kind, at)

    def note(self, fact: Fact) -> None:
        """Take a fact; a subscriber."""
        kind = kind_of(fact)
        self._counts.note(fact, kind)
        if kind is None:
            return
        if self._to_broker is None:
            self._early.append((fact, kind, time.time()))
        else:
            self._take(self._to_broker, fact, kind, time.time())

    def note_told(self, event: Event) -> None:
        """Take an event of another process, with the keys of what it has changed in `unset`.

        What the lines with these keys are by now is read here: since then they may have changed
        again.
        """
        to_broker = self._to_broker
        if to_broker is None:
            return
        self._counts.note_told(event)
        self._seq += 1
        event = replace(event, seq=self._seq, set=())
        if to_broker.is_read:
            try:
                lines, gone = self._records.with_keys(event.unset)
            except WatcherError:  # a sync makes the store anew, and a pass follows
                lines, gone = (), ()
            event = replace(event, set=lines, unset=gone)
            to_broker.send(event)
        self._write_soon(event)

    def began(self, end: socket.socket) -> None:
        """Tell the broker at `end` everything from now on."""
        assert self._to_broker is not None
        self._to_broker.began(end)

    def ended(self) -> None:
        """There is no broker any more."""
        if self._to_broker is not None:
            self._to_broker.ended()

    def look_for_others(self) -> None:
        """Tell the broker everything anew if another process has changed the lease store."""
        if self._to_broker is not None:
            self._to_broker.look_for_others()

    def prod(self) -> None:
        """Send the broker something to read, by which it shows whether it hangs."""
        if self._to_broker is not None:
            self._to_broker.answer()

    def close(self) -> None:
        """Write what is left to the history; nothing more is passed on."""
        self.ended()
        self._to_broker = None
        if self._writing is not None:
            self._writing.cancel()
        while self._unwritten:
            self._write_some()

    def _take(self, to_broker: ToBroker, fact: Fact, kind: str, at: float) -> None:
        self._seq += 1
        if to_broker.is_read:
            event = event_of(fact, kind, self._seq, at)
            to_broker.send(event)
            self._write_soon(event)
        else:
            self._write_soon((fact, kind, self._seq, at))

    def _with_totals(self, lines: Iterable[Line]) -> Iterator[Line]:
        yield from lines
        yield self._counts.totals(self._history.lost)

    def _write_soon(self, event: Event | tuple[Fact, str, int, float]) -> None:
        self._unwritten.append(event)
        if self._writing is None:
            self._writing = self._loop.call_later(BEHIND, self._write)

    def _write(self) -> None:
        self._writing = None
        self._first()
        self._write_some()
        if self._unwritten:
            self._writing = self._loop.call_later(0, self._write)
        else:
            self.look_for_others()

    def _write_some(self) -> None:
        some = [self._unwritten.popleft() for _ in range(min(BATCH, len(self._unwritten)))]
        self._history.write(e if isinstance(e, Event) else event_of(*e) for e in some)
