"""The broker's loop: the feed in, the readers out."""

from __future__ import annotations

import errno
import select
import signal
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Final

from msgspec import MsgspecError
from msgspec.structs import replace

from handlers.kernel import descriptors
from watcher.feed.credentials import user_of
from watcher.feed.lines import Missed, Readers, Ready, encoded
from watcher.feed.names import FEED, LISTENER
from watcher.observe.broker.confine import confine, give_way
from watcher.observe.broker.measures import Measures
from watcher.observe.broker.pictures import Pictures
from watcher.observe.broker.places import Places
from watcher.observe.broker.reader import Reader, Stage
from watcher.observe.broker.source import Source
from watcher.observe.broker.traffic import TrafficLines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from watcher.feed.lines import State

LINGER: Final = 300.0
"""Seconds without a reader after which the broker ends: a scrape a minute does not restart it."""
MOST_READERS: Final = 4096
"""Each may take 64 KiB of the kernel's memory."""

_OTHER_DESCRIPTORS: Final = 32
_MOST_READY: Final = 64
"""How many descriptors have their turn between two looks at the feed."""
_LINES: Final = 128
"""How many lines a reader gets at once; about as many as its socket's buffer takes."""
_TURN: Final = 4
"""How often a reader gets some in its turn."""
_PAUSE: Final = 0.2
"""Seconds until the next try after the kernel could not accept a connection."""


class Broker:
    """All of it together.

    Args:
        feed: the connection to the service.
        listener: the socket that readers connect to.
        linger: as :data:`LINGER`.
        most: the most readers.
    """

    def __init__(
        self, feed: socket.socket, listener: socket.socket, linger: float, most: int
    ) -> None:
        self._linger = linger
        self._places = Places(most)
        self._pictures = Pictures()
        self._source = Source(feed, self)
        self._traffic = TrafficLines()
        self._measures = Measures(self._source.ask, self._traffic, self._readers_line)
        self._listener = listener
        self._listener.setblocking(False)
        self._state: State | None = None
        self._readers: dict[int, Reader] = {}
        self._live: set[Reader] = set()
        self._waiting: set[Reader] = set()
        self._sent = 0
        self._total = self._missed = 0
        self._alone_since = monotonic()
        self._paused_until: float | None = None
        self._epoll = select.epoll()
        for one in (self._source, self._traffic, self._listener):
            self._epoll.register(one.fileno(), select.EPOLLIN)

    def run(self) -> None:
        """Serve until the feed ends, or nobody has read for a while."""
        feed, traffic, listener = (
            self._source.fileno(), self._traffic.fileno(), self._listener.fileno(),
        )  # fmt: skip
        while True:
            ready = self._epoll.poll(self._timeout(), _MOST_READY)
            if len(ready) == _MOST_READY:
                ready.append((feed, select.EPOLLIN))
            for descriptor, events in ready:
                if descriptor == feed:
                    if not self._hear_feed():
                        return
                elif descriptor == traffic:
                    self._traffic.read()
                elif reader := self._readers.get(descriptor):
                    self._serve(reader, events)
            if any(descriptor == listener for descriptor, _ in ready):
                self._accept()  # last, for a new reader may get the descriptor of one that has gone
            if self._measures.complete():
                self._wake()
            if self._paused_until is not None and monotonic() >= self._paused_until:
                self._paused_until = None
                self._epoll.modify(self._listener.fileno(), select.EPOLLIN)
            if not self._readers and monotonic() >= self._alone_since + self._linger:
                return

    def _timeout(self) -> float | None:
        """Seconds until something has to be done that no descriptor tells."""
        times = [time for time in (self._measures.deadline, self._paused_until) if time is not None]
        if not self._readers:
            times.append(self._alone_since + self._linger)
        return max(0.0, min(times) - monotonic()) if times else None

    # The feed tells:

    def begin(self, state: State) -> None:
        """A pass begins."""
        self._state = state
        self._pictures.begin()

    def tell(self, key: str, line: bytes) -> None:
        """The pass tells a line."""
        self._pictures.tell(key, line)

    def end(self, seq: int) -> None:
        """The pass has ended. If that changes the state, everybody gets it again."""
        self._pass_on()
        epoch = self._pictures.epoch
        self._pictures.end(seq)
        if self._pictures.epoch != epoch:
            self._sent = self._pictures.ring.next
            self._wait(self._live)
            self._wake()

    def change(
        self, seq: int, line: bytes, lines: list[tuple[str, bytes]], gone: tuple[str, ...]
    ) -> None:
        """The event `seq` has happened."""
        self._pictures.change(seq, line, lines, gone)

    def outdated(self) -> None:
        """What the service was asked for has changed: the next reader gets it anew."""
        self._measures.expire()

    def measure(self, key: str, line: bytes) -> None:
        """The service tells a line that it was asked for."""
        self._measures.tell(key, line)

    def measured(self) -> None:
        """The service has told all that it was asked for."""
        self._measures.told()

    def _hear_feed(self) -> bool:
        more = self._source.read()
        self._pass_on()
        return more

    def _pass_on(self) -> None:
        """Send the events that are new to all readers that have those before."""
        ring = self._pictures.ring
        first, self._sent = self._sent, ring.next
        if first < ring.first:  # so large that the ring has no room for all of them
            self._wait(self._live)
            self._wake()
            return
        lines = ring.since(first)
        if not lines:
            return
        whole = b"".join(lines)
        for reader in tuple(self._live):
            try:
                reader.next += reader.send(lines, whole)
            except OSError:
                self._close(reader)
                continue
            if reader.blocked:
                self._live.discard(reader)
                self._want(reader, select.EPOLLOUT)

    # The readers:

    def _accept(self) -> None:
        for _ in range(_MOST_READY):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in (errno.ECONNABORTED, errno.EINTR):
                    self._paused_until = monotonic() + _PAUSE
                    self._epoll.modify(self._listener.fileno(), 0)
                return
            user = user_of(connection)
            if not self._places.take(user):
                connection.close()
                continue
            reader = Reader(connection, user)
            self._readers[connection.fileno()] = reader
            self._total += 1
            self._epoll.register(connection.fileno(), 0)
            self._advance(reader)

    def _serve(self, reader: Reader, events: int) -> None:
        if events & (select.EPOLLHUP | select.EPOLLERR):
            self._close(reader)
            return
        if events & select.EPOLLIN:
            try:
                stays = reader.hear()
            except OSError:
                stays = False
            if not stays:
                self._close(reader)
                return
            self._want(reader, reader.events)
        if events & select.EPOLLOUT:
            self._advance(reader)

    def _advance(self, reader: Reader) -> None:
        """Give `reader` its turn: some of what it lacks."""
        try:
            reader.flush()
            for _ in range(_TURN):
                if reader.blocked:
                    break
                if not self._send_some(reader):
                    self._want(reader, 0)
                    return
        except OSError:
            self._close(reader)
        else:
            self._want(reader, select.EPOLLOUT)

    def _send_some(self, reader: Reader) -> bool:
        """Send `reader` some of what it lacks; whether it may lack more that is there."""
        pictures = self._pictures
        if reader.epoch != pictures.epoch or reader.next < pictures.ring.first:
            return self._begin(reader)
        match reader.stage:
            case Stage.PICTURE:
                keys, lines = pictures.part(reader.after, reader.next - 1, _LINES)
                if not self._send(reader, keys, lines):
                    reader.stage, reader.after = Stage.MEASURES, ""
            case Stage.MEASURES:
                if not reader.after and not self._measures.fresh:
                    self._measures.renew()
                    self._waiting.add(reader)
                    return False
                keys, lines = self._measures.part(reader.after, _LINES)
                if not self._send(reader, keys, lines):
                    reader.stage = Stage.EVENTS
                    reader.put(encoded(Ready(reader.next - 1)))
            case Stage.EVENTS:
                lines = pictures.ring.since(reader.next, _LINES)
                if not lines:
                    self._live.add(reader)
                    return False
                reader.next += reader.send(lines)
        return True

    def _send(self, reader: Reader, keys: Sequence[str], lines: Sequence[bytes]) -> bool:
        """Send `reader` some of `lines`, and note how far it has got; whether there are any."""
        if lines and (taken := reader.send(lines)):
            reader.after = keys[taken - 1]
        return bool(lines)

    def _begin(self, reader: Reader) -> bool:
        """Begin the state for `reader`; whether that can be."""
        pictures = self._pictures
        if not pictures.whole or self._state is None:
            self._waiting.add(reader)
            return False
        head = encoded(replace(self._state, time=datetime.now(UTC)))
        if reader.epoch:
            missed = pictures.seq + 1 - reader.next
            self._missed += missed
            head = encoded(Missed(missed)) + head
        reader.epoch, reader.next = pictures.epoch, pictures.seq + 1
        reader.stage, reader.after = Stage.PICTURE, ""
        self._measures.renew()
        reader.put(head)
        return True

    def _wait(self, readers: set[Reader]) -> None:
        """Let `readers` wait for :meth:`_wake`."""
        self._waiting |= readers
        readers.clear()

    def _wake(self) -> None:
        """Give a turn to all readers that wait."""
        waiting, self._waiting = self._waiting, set()
        for reader in waiting:
            self._advance(reader)

    def _want(self, reader: Reader, events: int) -> None:
        """Have epoll tell when `reader` sends something or, if EPOLLOUT, can be sent more."""
        events = events & select.EPOLLOUT | (select.EPOLLIN if reader.hears else 0)
        if events != reader.events:
            reader.events = events
            self._epoll.modify(reader.connection.fileno(), events)

    def _close(self, reader: Reader) -> None:
        del self._readers[reader.connection.fileno()]
        self._places.give_back(reader.user)
        self._live.discard(reader)
        self._waiting.discard(reader)
        reader.connection.close()
        if not self._readers:
            self._alone_since = monotonic()

    def _readers_line(self) -> bytes:
        return encoded(Readers(len(self._readers), self._total, self._missed))


def main(arguments: Iterable[str]) -> int:
    """Run the broker; its exit status."""
    (linger,) = (*map(float, arguments), LINGER)[:1]
    # The service ends it by the end of the feed, also where both get the terminal's Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    give_way()
    try:
        most = min(MOST_READERS, descriptors.raise_limit() - _OTHER_DESCRIPTORS)
        feed, listener = (socket.socket(fileno=descriptor) for descriptor in (FEED, LISTENER))
        broker = Broker(feed, listener, linger, most)
        confine()
        broker.run()
    except (OSError, MsgspecError) as error:
        with suppress(OSError):
            sys.stderr.write(f"error: the events socket cannot be served: {error}\n")
        return 1
    return 0
