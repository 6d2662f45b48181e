"""One connection to `hosts.sock`. Between slices of its lines, questions are answered.

The lines of a state are taken into what was known before. What the state does not have is dropped
once it is complete.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import MsgspecError

from watcher.cluster.endpoints.lines import (
    VERSION,
    EndpointLine,
    Gone,
    HostLine,
    Ready,
    State,
    StatusLine,
)
from watcher.observe.live.reader import SLICE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from watcher.cluster.endpoints.lines import AnyLine
    from watcher.cluster.endpoints.reading import HostsStream
    from watcher.names.zone.remote import Remote

PART: Final = 1 << 14
"""Bytes of lines that are decoded at once: half a millisecond."""


_DROPPED: Final = 8
"""Endpoints that are dropped between two looks at the clock."""


class Owner(Protocol):
    """Whose connection it is."""

    def complete(self) -> None:
        """A state is complete."""

    def unknown(self) -> None:
        """There is no state yet, and nobody knows when there will be."""

    def ended(self, *, foreign: bool) -> None:
        """The connection has ended; `foreign`: because it tells what is not understood."""


class HostsReader:
    """See the module's docstring.

    Args:
        stream: the connection; reading it may not wait.
        remote: takes what it tells.
        owner: hears how it goes.
        after: called after each slice.
    """

    def __init__(
        self,
        stream: HostsStream,
        remote: Remote,
        loop: asyncio.AbstractEventLoop,
        owner: Owner,
        after: Callable[[], object],
    ) -> None:
        self._stream = stream
        self._remote = remote
        self._loop = loop
        self._owner = owner
        self._after = after
        self._lines: deque[AnyLine] = deque()
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
        foreign = False
        try:
            lines = self._stream.received()
        except BlockingIOError:
            return
        except MsgspecError:
            lines, foreign = None, True
        except OSError:
            lines = None
        if lines is None:
            self._end(foreign=foreign)
        elif lines:
            self._lines.extend(lines)
            self._loop.remove_reader(self._stream.fileno())
            self._take_some()

    def _end(self, *, foreign: bool) -> None:
        self.close()
        self._owner.ended(foreign=foreign)

    def _take_some(self) -> None:
        """Take lines for the length of a slice."""
        end = perf_counter() + SLICE
        while self._lines:
            self._take(self._lines.popleft())
            if perf_counter() >= end:
                break
        self._after()
        if self._closed:
            return
        if self._lines:
            self._loop.call_soon(self._take_some)
        else:
            self._loop.add_reader(self._stream.fileno(), self._readable)

    def _take(self, line: AnyLine) -> None:
        match line:
            case State(version=version):
                if version != VERSION:
                    self._end(foreign=True)
                else:
                    self._remote.begin()
            case Ready(known=False):  # what the process before has told is all that there is
                self._owner.unknown()
            case Ready():
                if self._remote.drop_some(_DROPPED):
                    self._lines.appendleft(line)  # once more
                else:
                    self._owner.complete()
            case HostLine():
                with suppress(ValueError):  # a prefix that is none
                    self._remote.host(line)
            case EndpointLine():
                with suppress(OSError):  # an address that is none
                    self._remote.endpoint(line)
            case Gone(host=host, id=""):
                self._remote.host_gone(host)
            case Gone(host=host, id=id_):
                self._remote.endpoint_gone(host, id_)
            case StatusLine():
                """Nothing follows from it: what etcd had last stays."""
