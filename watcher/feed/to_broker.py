"""Tells the broker: everything once in small parts, events as they happen, and what it asks for."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from watcher import __version__
from watcher.feed.lines import VERSION, Now, Ready, State, encoded
from watcher.feed.outlet import Outlet
from watcher.model.errors import WatcherError

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Iterable, Iterator

    from watcher.feed.lines import FailureLine, Line, SandboxLine
    from watcher.feed.records import Records

SLICE: Final = 0.0004
"""Seconds of a pass until other work of the loop has its turn; a page more may be added."""

OTHERS: Final = 1.0
"""Seconds to wait until another process has told its changes of the lease store."""

_SHARE: Final = 20
"""The pause after a pass is at least this many times as long as the pass."""

ANSWERS: Final = 0.1
"""Seconds between two answers to the broker, at least."""


class ToBroker:
    """What is told to one broker after the other. One thread uses it, that of the loop.

    Args:
        loop: the event loop.
        records: what the lease store has.
        last: the number of the last event.
        now: the lines of what changes without an event.
        lost: called if the broker does not read any more.
        hangs: called if the broker is there, but has read nothing for long.
        first: called before work that nobody waits for; answers those who wait.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        records: Records,
        last: Callable[[], int],
        now: Callable[[], Iterable[Line]],
        *,
        lost: Callable[[], object],
        hangs: Callable[[], object],
        first: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._records = records
        self._last = last
        self._now = now
        self._lost = lost
        self._hangs = hangs
        self._first = first
        self._service = uuid.uuid4().hex
        self._outlet: Outlet | None = None
        self._pass: Iterator[list[SandboxLine | FailureLine]] | None = None
        self._next: asyncio.Handle | None = None
        self._planned: asyncio.TimerHandle | None = None
        self._began = self._not_before = 0.0
        self._version = (-1, -1)
        self._answered = 0.0
        self._answering: asyncio.TimerHandle | None = None

    @property
    def is_read(self) -> bool:
        """Whether there is a broker that gets every line."""
        return self._outlet is not None and not self._outlet.behind

    def send(self, line: Line) -> None:
        """Send a line to the broker, if there is one."""
        if self._outlet is not None:
            self._outlet.send(encoded(line))

    def began(self, end: socket.socket) -> None:
        """Tell the broker at `end` everything from now on."""
        self._socket = end
        self._outlet = Outlet(self._loop, end, self._drained, self._lost, self._hangs)
        self._loop.add_reader(end, self._asked)
        self._begin_pass()

    def ended(self) -> None:
        """There is no broker any more."""
        if self._outlet is None:
            return
        self._outlet.close()
        self._outlet = None
        self._loop.remove_reader(self._socket)
        self._pass = None
        for timer in (self._planned, self._answering):
            if timer is not None:
                timer.cancel()
        self._planned = self._answering = None

    def look_for_others(self) -> None:
        """Plan a pass if another process has changed the lease store, or it is another one."""
        if self._outlet is None or self._pass is not None or self._planned is not None:
            return
        try:
            changed = self._records.version() != self._version
        except WatcherError:
            changed = True
        if changed:
            self._plan_pass()

    def _plan_pass(self) -> None:
        if self._planned is None:
            when = max(self._loop.time() + OTHERS, self._not_before)
            self._planned = self._loop.call_at(when, self._begin_pass)

    def _begin_pass(self) -> None:
        """Tell the broker everything anew, in slices, with what happens meanwhile in between."""
        if self._planned is not None:
            self._planned.cancel()
            self._planned = None
        self._began = self._loop.time()
        try:
            self._version = self._records.version()
        except WatcherError:
            self._pass = None
            self._plan_pass()
            return
        self.send(State(VERSION, __version__, self._service, datetime.now(UTC)))
        self._pass = self._records.pages()
        self._go_on()

    def _go_on(self) -> None:
        if self._next is None:
            self._next = self._loop.call_soon(self._slice)

    def _slice(self) -> None:
        """Send a part of the pass, as far as the broker reads it."""
        self._next = None
        if self._outlet is None or self._pass is None:
            return
        self._first()
        until = time.perf_counter() + SLICE
        try:
            while self._outlet.idle:
                for line in next(self._pass):
                    self.send(line)
                if time.perf_counter() >= until:
                    break
        except StopIteration:
            self._end_pass()
        except WatcherError:  # a sync makes it anew, or the next pass fails as well
            self._pass = None
            self._plan_pass()
        else:
            if self._outlet.idle:
                self._go_on()

    def _end_pass(self) -> None:
        self._pass = None
        self.send(Ready(self._last()))
        now = self._loop.time()
        self._not_before = now + _SHARE * (now - self._began)
        self.look_for_others()

    def _drained(self) -> None:
        """The broker has read everything that waited for it."""
        assert self._outlet is not None
        if self._outlet.behind:
            self._outlet.behind = False
            self._begin_pass()
        elif self._pass is not None:
            self._go_on()

    def _asked(self) -> None:
        """The broker wants to know what changes without an event, or has gone."""
        try:
            asked = self._socket.recv(1 << 12)
        except BlockingIOError:
            return
        except OSError:
            asked = b""
        if not asked:
            self._loop.remove_reader(self._socket)
            self._lost()
        else:
            self.answer()

    def answer(self) -> None:
        """Tell the broker soon what changes without an event, whether or not it has asked."""
        if self._outlet is not None and self._answering is None:
            when = max(self._loop.time(), self._answered + ANSWERS)
            self._answering = self._loop.call_at(when, self._answer)

    def _answer(self) -> None:
        self._answering = None
        self._first()
        self._answered = self._loop.time()
        for line in self._now():
            self.send(line)
        self.send(Now())
        self.look_for_others()
