"""A bound on what others can have told again and again."""

from __future__ import annotations

from typing import Final

_MOST_OWNERS: Final = 4096


class Seldom:
    """Lets each entry of an owner pass once in a while, and few different ones of it.

    Args:
        seconds: how long an entry does not pass again.
        most: the most entries of one owner in that time.
    """

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._passed: dict[int, tuple[float, set[str]]] = {}

    def passes(self, owner: int, entry: str, now: float) -> bool:
        """Whether `entry` of `owner` may pass; it has passed then."""
        since, entries = self._passed.get(owner, (0.0, set[str]()))
        if now >= since + self._seconds:
            if len(self._passed) >= _MOST_OWNERS:
                self._passed = {
                    key: one for key, one in self._passed.items() if now < one[0] + self._seconds
                }
            if len(self._passed) >= _MOST_OWNERS:
                return False
            entries = set()
            self._passed[owner] = now, entries
        if entry in entries or len(entries) >= self._most:
            return False
        entries.add(entry)
        return True
