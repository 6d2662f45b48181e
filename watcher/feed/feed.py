"""The feed: facts become events, with numbers, for the broker and for the history.

With a broker, an event is on its way before the gate answers. Without one, nothing is made of a
fact by then but a number. The history is written behind the answer.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from watcher import __version__
from watcher.feed.events import event_of, kind_of
from watcher.feed.lines import VERSION, Event, Now, Ready, State, encoded
from watcher.feed.outlet import Outlet
from watcher.feed.totals import Counts
from watcher.model.errors import WatcherError

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Iterable, Iterator

    from watcher.facts.kinds import Fact
    from watcher.feed.history import History
    from watcher.feed.lines import FailureLine, Line, SandboxLine
    from watcher.feed.records import Records

SLICE: Final = 0.0004
"""Seconds of a pass until other work of the loop has its turn; a page more may be added."""

BEHIND: Final = 0.01
"""Seconds from an event until it is written to the history."""

BATCH: Final = 32
"""The most events of one write to the history, some tenths of a millisecond."""

OTHERS: Final = 1.0
"""Seconds to wait until another process has told its changes of the lease store."""

_SHARE: Final = 20
"""The pause after a pass is at least this many times as long as the pass."""

ANSWERS: Final = 0.1
"""Seconds between two answers to the broker, at least."""


class Feed:
    """Numbers and counts events, and passes them on. One thread uses it, at last that of the loop.

    Before :meth:`serve`, facts are only kept.
    """

    def __init__(self) -> None:
        self._counts = Counts()
        self._early: list[tuple[Fact, str, float]] = []
        self._service = uuid.uuid4().hex
        self._seq = 0
        self._unwritten: deque[Event | tuple[Fact, str, int, float]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outlet: Outlet | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._pass: Iterator[list[SandboxLine | FailureLine]] | None = None
        self._next: asyncio.Handle | None = None
        self._planned: asyncio.TimerHandle | None = None
        self._began = self._not_before = 0.0
        self._version = (-1, -1)
        self._answered = 0.0
        self._answering: asyncio.TimerHandle | None = None

    def serve(
        self,
        loop: asyncio.AbstractEventLoop,
        records: Records,
        history: History,
        now: Callable[[], Iterable[Line]],
        *,
        ended: Callable[[], object],
        first: Callable[[], object],
    ) -> None:
        """Take facts and events from now on, in the thread of `loop`.

        Args:
            loop: the event loop.
            records: what the lease store has.
            history: where events are written to.
            now: the lines of what changes without an event, but for the totals.
            ended: called if the broker does not read any more.
            first: called before work that nobody waits for; answers those who wait.
        """
        self._loop = loop
        self._records = records
        self._history = history
        self._now = now
        self._ended = ended
        self._first = first
        self._seq = history.last_seq
        early, self._early = self._early, []
        for fact, kind, at in early:
            self._take(fact, kind, at)

    def note(self, fact: Fact) -> None:
        """Take a fact; a subscriber."""
        kind = kind_of(fact)
        self._counts.note(fact, kind)
        if kind is None:
            return
        if self._loop is None:
            self._early.append((fact, kind, time.time()))
        else:
            self._take(fact, kind, time.time())

    def note_told(self, event: Event) -> None:
        """Take an event of another process, with the keys of what it has changed in `unset`.

        What the lines with these keys are by now is read here: since then they may have changed
        again.
        """
        self._counts.note_told(event)
        self._seq += 1
        lines: tuple[SandboxLine | FailureLine, ...] = ()
        gone: tuple[str, ...] = ()
        if self._is_read:
            try:
                lines, gone = self._records.with_keys(event.unset)
            except WatcherError:  # a sync makes it anew, and a pass follows
                gone = ()
        event = replace(event, seq=self._seq, set=lines, unset=gone)
        self._send(event)
        self._write_soon(event)
        self._look_for_others()

    def began(self, end: socket.socket) -> None:
        """Tell the broker at `end` everything from now on."""
        assert self._loop is not None
        self._socket = end
        self._outlet = Outlet(self._loop, end, self._drained, self._ended)
        self._loop.add_reader(end, self._asked)
        self._not_before = 0.0
        self._begin_pass()

    def ended(self) -> None:
        """There is no broker any more."""
        if self._outlet is None or self._loop is None:
            return
        self._outlet.close()
        self._outlet = None
        self._loop.remove_reader(self._socket)
        self._pass = None
        for timer in (self._planned, self._answering):
            if timer is not None:
                timer.cancel()
        self._planned = self._answering = None

    def close(self) -> None:
        """Write what is left to the history, and take no more."""
        self.ended()
        if self._writing is not None:
            self._writing.cancel()
        while self._unwritten:
            self._write_some()
        self._loop = None

    @property
    def _is_read(self) -> bool:
        """Whether there is a broker that gets every line."""
        return self._outlet is not None and not self._outlet.behind

    def _take(self, fact: Fact, kind: str, at: float) -> None:
        self._seq += 1
        if self._is_read:
            event = event_of(fact, kind, self._seq, at)
            self._send(event)
            self._write_soon(event)
        else:
            self._write_soon((fact, kind, self._seq, at))

    def _send(self, line: Line) -> None:
        if self._outlet is not None:
            self._outlet.send(encoded(line))

    def _write_soon(self, event: Event | tuple[Fact, str, int, float]) -> None:
        self._unwritten.append(event)
        if self._writing is None:
            assert self._loop is not None
            self._writing = self._loop.call_later(BEHIND, self._write)

    def _write(self) -> None:
        assert self._loop is not None
        self._writing = None
        self._first()
        self._write_some()
        if self._unwritten:
            self._writing = self._loop.call_later(0, self._write)
        else:
            self._look_for_others()

    def _write_some(self) -> None:
        some = [self._unwritten.popleft() for _ in range(min(BATCH, len(self._unwritten)))]
        self._history.write(e if isinstance(e, Event) else event_of(*e) for e in some)

    def _look_for_others(self) -> None:
        """Plan a pass if another process has changed the lease store, or it is another one."""
        if self._outlet is None or self._pass is not None:
            return
        try:
            changed = self._records.version() != self._version
        except WatcherError:
            changed = True
        if changed:
            self._plan_pass(OTHERS)

    def _plan_pass(self, seconds: float) -> None:
        assert self._loop is not None
        if self._planned is None:
            when = max(self._loop.time() + seconds, self._not_before)
            self._planned = self._loop.call_at(when, self._begin_pass)

    def _begin_pass(self) -> None:
        """Tell the broker everything anew, in slices, with what happens meanwhile in between."""
        assert self._loop is not None
        if self._planned is not None:
            self._planned.cancel()
            self._planned = None
        self._began = self._loop.time()
        try:
            self._version = self._records.version()
        except WatcherError:
            self._pass = None
            self._plan_pass(OTHERS)
            return
        self._send(State(VERSION, __version__, self._service, datetime.now(UTC)))
        self._pass = self._records.pages()
        self._go_on()

    def _go_on(self) -> None:
        if self._next is None:
            assert self._loop is not None
            self._next = self._loop.call_soon(self._slice)

    def _slice(self) -> None:
        """Send a part of the pass, as far as the broker reads it."""
        self._next = None
        if self._outlet is None or self._loop is None or self._pass is None:
            return
        self._first()
        until = time.perf_counter() + SLICE
        try:
            while self._outlet.idle:
                for line in next(self._pass):
                    self._send(line)
                if time.perf_counter() >= until:
                    break
        except StopIteration:
            self._end_pass()
        except WatcherError:  # it is made anew, or the next pass fails as well
            self._pass = None
            self._plan_pass(OTHERS)
        else:
            if self._outlet.idle:
                self._go_on()

    def _end_pass(self) -> None:
        assert self._loop is not None
        self._pass = None
        self._send(Ready(self._seq))
        now = self._loop.time()
        self._not_before = now + _SHARE * (now - self._began)
        self._look_for_others()

    def _drained(self) -> None:
        """The broker has read everything that waited for it."""
        assert self._outlet is not None
        assert self._loop is not None
        if self._outlet.behind:
            self._outlet.behind = False
            self._begin_pass()
        elif self._pass is not None:
            self._go_on()

    def _asked(self) -> None:
        """The broker wants to know what changes without an event, or has gone."""
        assert self._loop is not None
        try:
            asked = self._socket.recv(1 << 12)
        except BlockingIOError:
            return
        except OSError:
            asked = b""
        if not asked:
            self._loop.remove_reader(self._socket)
            self._ended()
        elif self._answering is None:
            when = max(self._loop.time(), self._answered + ANSWERS)
            self._answering = self._loop.call_at(when, self._answer)

    def _answer(self) -> None:
        assert self._loop is not None
        self._answering = None
        self._first()
        self._answered = self._loop.time()
        for line in self._now():
            self._send(line)
        self._send(self._counts.totals(self._history.lost))
        self._send(Now())
        self._look_for_others()
