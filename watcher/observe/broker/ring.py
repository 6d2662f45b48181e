"""The last events, by number, as many as have room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS: Final = 8192
BYTES: Final = 4 << 20
"""How many events are kept, and how many bytes of them with the lines that they replaced."""


class Ring:
    """The lines of the last events.

    Args:
        forget: called with the number of each event that has no room any more.

    Attributes:
        first: the number of the oldest event in it.
        next: the number of the event that comes next.
    """

    def __init__(self, forget: Callable[[int], object]) -> None:
        self._forget = forget
        self._lines: dict[int, bytes] = {}
        self._sizes: dict[int, int] = {}
        self._size = 0
        self.first = self.next = 0

    def restart(self, seq: int) -> None:
        """Be empty; the event `seq` comes next."""
        self._lines.clear()
        self._sizes.clear()
        self._size = 0
        self.first = self.next = seq

    def add(self, line: bytes, replaced: int) -> None:
        """Add the next event, because of which `replaced` bytes are kept elsewhere."""
        size = len(line) + replaced
        self._lines[self.next] = line
        self._sizes[self.next] = size
        self._size += size
        self.next += 1
        while self._size > BYTES or len(self._lines) > EVENTS:
            self._size -= self._sizes.pop(self.first)
            del self._lines[self.first]
            self._forget(self.first)
            self.first += 1

    def since(self, seq: int, most: int | None = None) -> list[bytes]:
        """The events from `seq` on, at the most `most`. The ring has that event, or it is next."""
        end = self.next if most is None else min(self.next, seq + most)
        return [self._lines[number] for number in range(seq, end)]
