"""Follows the events socket, and connects again whenever that is needed.

A new state takes the place of the one in use once it is complete. While the service is away, the
last one stays in use.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Final

from watcher.feed.names import EVENTS
from watcher.model.errors import WatcherError, message_with_remedy
from watcher.model.pauses import longer
from watcher.observe.live.reader import Reader
from watcher.observe.live.slices import PART, SLICE
from watcher.observe.live.socket_watch import SocketWatch
from watcher.observe.stream import Stream

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from watcher.feed.lines import NetworkLine
    from watcher.log.logger import Log
    from watcher.observe.live.reader import Known

STALE: Final = 2.5
"""Seconds after which what a new connection tells of networks is surely new: it is at most a second
old, and the broker waits a second for the next (`watcher/observe/broker/measures.py`)."""

_PAUSES: Final = 0.01, 1.0
"""Seconds until the next try to connect: first, most."""

_EMPTIED: Final = 8
"""Sandboxes between two looks at the clock."""


class Follower[K: Known]:
    """See the module's docstring.

    Args:
        run_dir: where the socket is.
        make: what the lines of a state make, from nothing.
        loop: in whose thread all of this happens.
        log: the log.
        replaced: called with what is in use from now on.
        learned: called after sandboxes were told of.
        reloaded: called when the service has taken a changed configuration.
        after: called after each slice.

    Attributes:
        known: what is in use.
        connected: since when changes come; `None` if they do not.
    """

    def __init__(
        self,
        run_dir: str,
        make: Callable[[], K],
        loop: asyncio.AbstractEventLoop,
        log: Log,
        *,
        replaced: Callable[[K], object],
        learned: Callable[[], object],
        reloaded: Callable[[], object],
        after: Callable[[], object],
    ) -> None:
        self._run_dir = run_dir
        self._make = make
        self._loop = loop
        self._log = log
        self._replaced, self._learned = replaced, learned
        self._reloaded, self._after = reloaded, after
        self.known = make()
        self.connected: datetime | None = None
        self._live: Reader[K] | None = None
        """The connection whose state is complete."""
        self._coming: Reader[K] | None = None
        """One that takes its place once its state is complete."""
        self._unused: deque[K] = deque()
        self._pause = 0.0
        self._problem = ""
        self._watch = SocketWatch(run_dir, EVENTS, loop, self.start)
        self._connecting: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Connect, now or as soon as that can be."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._coming is not None:
            self._coming.close()
            self._coming = None
        try:
            stream = Stream(self._run_dir, timeout=0, part=PART)
        except (WatcherError, OSError) as error:
            self._tell(message_with_remedy(error))
            self._connect_later()
        else:
            self._watch.end()
            self._coming = Reader(stream, self._make, self._loop, self, self._after)

    def stop(self) -> None:
        """Follow it no more."""
        for timer in (self._connecting, self._looking):
            if timer is not None:
                timer.cancel()
        self._watch.end()
        for reader in (self._live, self._coming):
            if reader is not None:
                reader.close()

    def anew(self) -> None:
        """Get the whole state again; what is in use stays so, and changes, until then."""
        self._pause = 0.0
        self.start()

    def look_again(self) -> None:
        """Do so once it is sure that what is told of networks is new."""
        if self._looking is not None:
            self._looking.cancel()
        self._looking = self._loop.call_later(STALE, self.anew)

    # What a connection tells:

    def complete(self, reader: Reader[K], known: K) -> None:
        """A state is complete: it is in use from now on."""
        if reader is self._coming:
            if self._live is not None:
                self._live.close()
            self._live, self._coming = reader, None
        old, self.known = self.known, known
        self._pause = 0.0
        if self.connected is None:
            self.connected = datetime.now(UTC)
            self._log.info("the service tells who is called what", sandboxes=known.sandboxes)
        self._problem = ""
        self._replaced(known)
        self._unused.append(old)
        self._loop.call_soon(self._empty_some)

    def learned(self, reader: Reader[K]) -> None:
        """Sandboxes were told of."""
        if reader is self._live:
            self._learned()

    def reloaded(self, reader: Reader[K]) -> None:
        """The service has taken a changed configuration."""
        if reader is self._live:
            self._reloaded()

    def networks(self) -> Iterable[NetworkLine]:
        """The networks of before; those that there are now are looked for soon."""
        self.look_again()
        return self.known.networks.values()

    def missed(self, reader: Reader[K], count: int) -> None:  # noqa: ARG002 (all are alike)
        """Events have not come; the state comes again."""
        self._log.warning("events were missed, the state comes again", count=count)

    def ended(self, reader: Reader[K]) -> None:
        """A connection has ended: the service or its broker has, or they have too many readers."""
        if reader is self._live:
            self._live = self.connected = None
            self._log.info("the service is away, what it told last stays in use")
            if self._coming is not None:
                return
        else:
            self._coming = None
        if self._pause:
            self._connect_later()
        else:
            self._pause = _PAUSES[0]
            self.start()

    def _connect_later(self) -> None:
        self._watch.begin()
        self._pause = longer(self._pause, _PAUSES)
        self._connecting = self._loop.call_later(self._pause, self.start)

    def _empty_some(self) -> None:
        """Empty what is no longer in use, in slices: to free all at once takes long."""
        end = perf_counter() + SLICE / 2
        while self._unused:
            if not self._unused[0].empty(_EMPTIED):
                self._unused.popleft()
            if perf_counter() >= end:
                self._loop.call_soon(self._empty_some)
                return

    def _tell(self, problem: str) -> None:
        """Log why there is nothing to hear, once."""
        if problem != self._problem and self._live is None:
            self._problem = problem
            self._log.warning("the service does not tell who is called what", reason=problem)
