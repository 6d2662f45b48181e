"""A connection whose lines are taken in slices, between which the event loop serves others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import MsgspecError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

SLICE: Final = 0.001
"""Seconds of one slice."""

PART: Final = 1 << 14
"""Bytes of lines that are decoded at once: half a millisecond, with the objects that they are."""


class Lines[L](Protocol):
    """A connection that tells lines; reading it may not wait."""

    def fileno(self) -> int:
        """The descriptor, readable when there are lines."""

    def close(self) -> None:
        """Close the connection."""

    def received(self) -> Sequence[L] | None:
        """What has come as whole lines, perhaps none; `None` at the end.

        Raises:
            BlockingIOError: nothing has come.
            OSError: the connection is broken.
            MsgspecError: it tells what is not understood.
        """


class SlicedReader[L](ABC):
    """Reads all of it, and nothing new before the lines of before are taken.

    Args:
        stream: the connection.
        loop: in whose thread all of this happens.
        after: called after each slice.

    Attributes:
        _lines: what is to be taken, the next one first.
        _closed: whether nothing is read any more.
    """

    def __init__(
        self, stream: Lines[L], loop: asyncio.AbstractEventLoop, after: Callable[[], object]
    ) -> None:
        self._stream = stream
        self._loop = loop
        self._after = after
        self._lines: deque[L] = deque()
        self._closed = False
        loop.add_reader(stream.fileno(), self._readable)

    def close(self) -> None:
        """Read no more."""
        if not self._closed:
            self._closed = True
            self._lines.clear()
            self._loop.remove_reader(self._stream.fileno())
            self._stream.close()

    @abstractmethod
    def _take(self, line: L) -> None:
        """Take a line."""

    def _taken(self) -> None:
        """A slice has ended, perhaps because nothing is read any more."""
        self._after()

    @abstractmethod
    def _ended(self, *, foreign: bool) -> None:
        """The connection has ended, and is closed; `foreign`: it tells what is not understood."""

    def _end(self, *, foreign: bool) -> None:
        self.close()
        self._ended(foreign=foreign)

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

    def _take_some(self) -> None:
        """Take lines for the length of a slice."""
        end = perf_counter() + SLICE
        while self._lines:
            self._take(self._lines.popleft())
            if perf_counter() >= end:
                break
        self._taken()
        if self._closed:
            return
        if self._lines:
            self._loop.call_soon(self._take_some)
        else:
            self._loop.add_reader(self._stream.fileno(), self._readable)
