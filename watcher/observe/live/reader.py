"""One connection to the events socket, and what its lines make.

Lines are taken in slices, between which the process serves others. Each state makes something of
its own, which counts once it is complete. In the state, the networks come after the sandboxes; here
the sandboxes are kept until the networks are known, because nobody can do without.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import MsgspecError

from watcher.feed.lines import Event, Missed, Ready, SandboxLine, State

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from watcher.feed.lines import AnyLine, NetworkLine
    from watcher.observe.stream import Stream

SLICE: Final = 0.001
"""Seconds of one slice."""

PART: Final = 1 << 14
"""Bytes of lines that are decoded at once: half a millisecond, with the objects that they are."""


class _Complete:
    """In place of a line: all lines of the state have been taken."""


class Known(Protocol):
    """What the lines make."""

    @property
    def networks(self) -> Mapping[str, NetworkLine]:
        """The networks that it was told, by name."""

    @property
    def sandboxes(self) -> int:
        """How many sandboxes are known."""

    def take(self, line: AnyLine) -> bool:
        """Take a line; whether a sandbox may be new."""

    def empty(self, most: int) -> bool:
        """Forget `most` sandboxes; whether there are more."""


class Owner[K: Known](Protocol):
    """Whose connection it is: it hears what the connection tells."""

    def complete(self, reader: Reader[K], known: K) -> None:
        """A state is complete; `known` changes with every event from now on."""

    def learned(self, reader: Reader[K]) -> None:
        """Sandboxes were told of, after the state was complete."""

    def reloaded(self, reader: Reader[K]) -> None:
        """The service has taken a changed configuration, after the state was complete."""

    def networks(self) -> Iterable[NetworkLine]:
        """The networks of before. A service that is too busy tells none; docs/events.md."""

    def missed(self, reader: Reader[K], count: int) -> None:
        """So many events have not come; the state comes again."""

    def ended(self, reader: Reader[K]) -> None:
        """The connection has ended."""


class Reader[K: Known]:
    """See the module's docstring.

    Args:
        stream: the connection; reading it may not wait.
        make: what the lines of a state make, from nothing.
        owner: hears what the lines say.
        after: called after each slice.
    """

    def __init__(
        self,
        stream: Stream,
        make: Callable[[], K],
        loop: asyncio.AbstractEventLoop,
        owner: Owner[K],
        after: Callable[[], object],
    ) -> None:
        self._stream = stream
        self._make = make
        self._loop = loop
        self._owner = owner
        self._after = after
        self._lines: deque[AnyLine | _Complete] = deque()
        self._known: K | None = None
        self._next: K | None = None
        self._gathering = False
        self._gathered: list[SandboxLine] = []
        self._closed = False
        loop.add_reader(stream.fileno(), self._readable)

    def close(self) -> None:
        """Read no more."""
        if not self._closed:
            self._closed = True
            self._lines.clear()
            self._loop.remove_reader(self._stream.fileno())
            self._stream.close()

    def _readable(self) -> None:
        try:
            lines = self._stream.received()
        except BlockingIOError:
            return
        except (OSError, MsgspecError):  # not a service of this version, or a broken connection
            lines = None
        if lines is None:
            self.close()
            self._owner.ended(self)
        elif lines:
            self._lines.extend(lines)
            self._loop.remove_reader(self._stream.fileno())
            self._take_some()

    def _take_some(self) -> None:
        """Take lines for the length of a slice."""
        end, new = perf_counter() + SLICE, False
        while self._lines:
            new = self._take(self._lines.popleft()) or new
            if perf_counter() >= end:
                break
        if new and not self._closed:
            self._owner.learned(self)
        self._after()
        if self._closed:
            return
        if self._lines:
            self._loop.call_soon(self._take_some)
        else:
            self._loop.add_reader(self._stream.fileno(), self._readable)

    def _take(self, line: AnyLine | _Complete) -> bool:
        """Take a line; whether a sandbox may be new in what is in use."""
        match line:
            case State():
                self._next, self._gathering = self._make(), True
                self._gathered.clear()
            case Missed(count=count):
                self._owner.missed(self, count)
            case Ready():
                self._take_gathered()
            case _Complete():
                assert self._next is not None
                self._known, self._next = self._next, None
                self._owner.complete(self, self._known)
                return True
            case SandboxLine() if self._next is not None and self._gathering:
                self._gathered.append(line)
            case _ if self._next is not None:
                self._next.take(line)
            case _ if self._known is not None:
                new = self._known.take(line)
                if isinstance(line, Event) and line.kind == "reloaded":
                    self._owner.reloaded(self)
                return new
            case _:
                pass
        return False

    def _take_gathered(self) -> None:
        """All of the state has come: take what was kept of it next, before all else."""
        if self._next is None:
            return
        self._gathering = False
        if not self._next.networks:
            for network in self._owner.networks():
                self._next.take(network)
        self._lines.appendleft(_Complete())
        self._lines.extendleft(reversed(self._gathered))
        self._gathered.clear()
