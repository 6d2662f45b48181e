"""A bound on what others can have told again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


class Seldom:
    """Lets each entry of an owner pass once in a while, and few different ones of it.

    Args:
        seconds: how long the same entry does not pass again.
        each: the most entries of one owner in as many seconds.
        most: the most entries of all owners in as many seconds.
    """

    __slots__ = ("_each", "_last", "_most", "_of", "_passed", "_seconds", "_since")

    def __init__(self, seconds: float, each: int, most: int) -> None:
        self._seconds = seconds
        self._each = each
        self._most = most
        self._since = 0.0
        self._passed = 0
        self._of: dict[Hashable, int] = {}
        self._last: dict[tuple[Hashable, Hashable], float] = {}

    def passes(self, owner: Hashable, entry: Hashable, now: float) -> bool:
        """Whether `entry` of `owner` may pass `now`; it has passed then."""
        if now >= self._since + self._seconds:
            self._since, self._passed = now, 0
            self._of.clear()
            self._last = {key: at for key, at in self._last.items() if now < at + self._seconds}
        own = self._of.get(owner, 0)
        if own >= self._each or self._passed >= self._most:
            return False
        last = self._last.get((owner, entry))
        if last is not None and now < last + self._seconds:
            return False
        self._last[owner, entry] = now
        self._of[owner] = own + 1
        self._passed += 1
        return True
