"""What servers have answered, within the time for which they say that it holds."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Hashable

    from watcher.names.counts import Counts
    from watcher.names.upstream.messages import Answer

ENTRIES: Final = 10_000
SIZE: Final = 8 << 20
"""Bytes of all answers."""
_ANSWER_AT_MOST: Final = 16_384
_OVERHEAD: Final = 600
"""Bytes that an entry takes beside its records."""
_TTL: Final = 40
"""Bytes that a number takes."""


class _Entry(Struct, frozen=True):
    answer: Answer
    came: float
    ends: float
    size: int


class Cache:
    """Answers by question; those that were not asked for longest go first."""

    def __init__(self, counts: Counts, *, entries: int = ENTRIES, size: int = SIZE) -> None:
        self._counts = counts
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._entries_at_most = entries
        self._size_at_most = size
        self._size = 0

    def get(self, key: Hashable) -> tuple[Answer, int] | None:
        """An answer, and how many seconds old it is."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = _now()
        if now >= entry.ends:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.answer, int(now - entry.came)

    def put(self, key: Hashable, answer: Answer, life: float) -> None:
        """Keep an answer for `life` seconds, if that is more than none."""
        size = _OVERHEAD + len(answer.records) + _TTL * len(answer.ttls)
        if life <= 0 or size > _ANSWER_AT_MOST:
            return
        if key in self._entries:
            self._drop(key)
        now = _now()
        self._entries[key] = _Entry(answer, now, now + life, size)
        self._size += size
        while self._size > self._size_at_most or len(self._entries) > self._entries_at_most:
            self._drop(next(iter(self._entries)))
        self._tell()

    def _drop(self, key: Hashable) -> None:
        self._size -= self._entries.pop(key).size
        self._tell()

    def _tell(self) -> None:
        self._counts.cache_entries = len(self._entries)
        self._counts.cache_bytes = self._size


def _now() -> float:
    """Seconds that also pass while the host is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
