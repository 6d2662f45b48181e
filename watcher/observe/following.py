"""Follows what happens: the history up to the state, then each event, without a gap or a double.

The socket's state says after which event it was taken. The history is read up to that one, and the
rest comes by the socket. The same closes the gap after this reader was too slow, and after a new
start of the service.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Final

from watcher.feed.lines import (
    ContainerPart,
    Event,
    FailureLine,
    Missed,
    Ready,
    SandboxLine,
    State,
)
from watcher.model.errors import WatcherError
from watcher.model.pauses import longer
from watcher.observe.history import HistoryReader, kept
from watcher.observe.stream import NotServed, Stream

if TYPE_CHECKING:
    from watcher.config.settings import Config
    from watcher.observe.selection import Selection
    from watcher.observe.waiting import Wait

PATIENCE: Final = 2.0
"""Seconds to wait for the history, which is written a few ms behind the events."""

ANSWERS: Final = 5.0
"""Seconds until the user is told that a service hangs. It starts a process before it answers."""

_PAUSES: Final = (0.1, 3.0)
"""Seconds until the next try if the socket was closed before the state was complete: first, most.
That is so if too many read it."""


class Follower:
    """Everything that happens, from now on or from a moment that has passed.

    Args:
        config: the configuration.
        since: from then on; `None`: from now on.
        selection: learns of the containers that there are.
        wait: waits for the socket.
        told: called with what to tell the user: that the service ended, and that it is back.
    """

    def __init__(
        self,
        config: Config,
        since: datetime | None,
        selection: Selection,
        wait: Wait,
        told: Callable[[str], object],
    ) -> None:
        self._config = config
        self._since = since
        self._selection = selection
        self._wait = wait
        self._told = told
        self._seq: int | None = None
        self._time: datetime | None = None
        self._service = ""
        self._restarted = False

    def events(self) -> Iterator[Event | Missed]:
        """Each event, and in place of those that are lost, how many they were. It has no end.

        Raises:
            WatcherError: there is no service at first.
        """
        stream, pause = Stream(self._config.run_dir), 0.0
        while True:
            complete = False
            with stream:
                for line in self._lines(stream):
                    match line:
                        case State():
                            self._begin(line)
                        case SandboxLine():
                            self._learn(line.containers)
                        case FailureLine(root=root, id=id_):
                            self._learn((ContainerPart(root, id_),))
                        case Ready(seq=seq):
                            yield from self._catch_up(seq)
                            complete, pause = True, 0.0
                        case Missed():
                            complete = False
                        case Event() if complete:
                            yield from self._live(line)
            stream = self._again()
            if not complete:
                pause = longer(pause, _PAUSES)
                self._wait.readable(None, pause)

    def _lines(self, stream: Stream) -> Iterator[object]:
        if not self._wait.readable(stream.fileno(), ANSWERS):
            self._told("the service does not answer; waiting for it")
        while self._wait.readable(stream.fileno()) and (lines := stream.received()) is not None:
            yield from lines

    def _again(self) -> Stream:
        try:
            return Stream(self._config.run_dir)
        except NotServed:
            self._told("the service has ended; waiting for it")
        stream = self._wait.for_service(self._config.run_dir)
        self._told("the service is back")
        return stream

    def _begin(self, state: State) -> None:
        self._restarted = self._restarted or self._service not in ("", state.service)
        self._service = state.service
        if self._time is None:
            self._time = state.time

    def _learn(self, containers: tuple[ContainerPart, ...]) -> None:
        if self._seq is None:
            self._selection.learn(containers)

    def _live(self, event: Event) -> Iterator[Event | Missed]:
        assert self._seq is not None
        if event.seq > self._seq:
            yield from self._pass(event)

    def _pass(self, event: Event) -> Iterator[Event | Missed]:
        """Pass `event` on, behind those that must have been lost before it."""
        if self._seq is not None and event.seq > self._seq + 1:
            yield Missed(event.seq - self._seq - 1)
        yield event
        self._seq = event.seq
        self._time = event.time if self._time is None else max(self._time, event.time)

    def _catch_up(self, upto: int) -> Iterator[Event | Missed]:
        """What has happened before the state that was taken after the event `upto`."""
        if self._seq is None:
            yield from self._first(upto)
        elif self._seq != upto or self._restarted:
            yield from self._gap(upto)
        self._restarted = False

    def _first(self, upto: int) -> Iterator[Event | Missed]:
        if self._since is None:
            self._selection.settle()
        else:
            settings, since = self._config.events, self._since
            is_kept = kept(self._config.state_dir, settings)
            settle(self._selection, self._config)
            yield from self._history(upto, lambda seq, at: at >= since and is_kept(seq, at))
        self._seq = upto

    def _gap(self, upto: int) -> Iterator[Event | Missed]:
        """The events between the last that was passed on and `upto`.

        A service that was killed may have sent events that are not in the history; the next one
        gives their numbers again, to later events.
        """
        seen, last, restarted = self._seq or 0, self._time, self._restarted

        def wanted(seq: int, at: datetime) -> bool:
            return seq > seen or (restarted and last is not None and at > last)

        with suppress(WatcherError):  # it is for root: the number is all that can be told
            yield from self._history(upto, wanted)
        assert self._seq is not None
        if self._seq < upto:
            yield Missed(upto - self._seq)
        self._seq = upto

    def _history(
        self, upto: int, wanted: Callable[[int, datetime], bool]
    ) -> Iterator[Event | Missed]:
        """The events of the history up to `upto`, once it has that one."""
        keep = self._config.events.keep
        end = time.monotonic() + (PATIENCE if keep else 0)
        with closing(HistoryReader(self._config.state_dir)) as history:
            while True:
                for event in history.read(lambda seq, at: seq <= upto and wanted(seq, at)):
                    yield from self._pass(event)
                if history.seq >= upto or time.monotonic() >= end:
                    return
                self._wait.for_history(
                    self._config.state_dir, history.has_more, end - time.monotonic()
                )


def settle(selection: Selection, config: Config) -> None:
    """Have `selection` know the containers of the history as well, and choose among all it knows.

    Raises:
        WatcherError: the history is for root, or several containers are meant.
    """
    if selection.by_container:
        with closing(HistoryReader(config.state_dir)) as history:
            for event in history.read(kept(config.state_dir, config.events)):
                selection.learn(event.containers)
    selection.settle()
