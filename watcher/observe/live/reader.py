"""One connection to the events socket, and what its lines make.

Each state makes something of its own, which counts once it is complete. In the state, the networks
come after the sandboxes; here the sandboxes are kept until the networks are known, because nobody
can do without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from watcher.feed.lines import AnyLine, Event, Missed, Ready, SandboxLine, State
from watcher.observe.live.slices import SlicedReader

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from watcher.feed.lines import NetworkLine
    from watcher.observe.stream import Stream


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


class Reader[K: Known](SlicedReader[AnyLine | _Complete]):
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
        super().__init__(stream, loop, after)
        self._make = make
        self._owner = owner
        self._known: K | None = None
        self._next: K | None = None
        self._gathering = False
        self._gathered: list[SandboxLine] = []
        self._new = False
        """Whether a sandbox may be new in what is in use, since the slice began."""

    def _ended(self, *, foreign: bool) -> None:  # noqa: ARG002 (not a service of this version)
        self._owner.ended(self)

    def _taken(self) -> None:
        if self._new and not self._closed:
            self._owner.learned(self)
        self._new = False
        super()._taken()

    def _take(self, line: AnyLine | _Complete) -> None:
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
                self._new = True
            case SandboxLine() if self._next is not None and self._gathering:
                self._gathered.append(line)
            case _ if self._next is not None:
                self._next.take(line)
            case _ if self._known is not None:
                if self._known.take(line):
                    self._new = True
                if isinstance(line, Event) and line.kind == "reloaded":
                    self._owner.reloaded(self)
            case _:
                pass

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
