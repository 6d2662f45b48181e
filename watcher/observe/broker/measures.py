"""What changes without an event: networks, roots, totals, readers, counters of interfaces.

Every reader gets them behind the picture, at most a second old. They are asked for only then: the
service for its own, the kernel for its counters. All readers share the lines.
"""

from __future__ import annotations

from bisect import bisect_right
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

FRESH: Final = 1.0
"""Seconds for which they are good enough."""
PATIENCE: Final = 1.0
"""Seconds after which a reader gets what is there."""


class Counting(Protocol):
    """What counts the traffic."""

    def ask(self) -> None:
        """Begin to count anew, unless that is under way."""

    @property
    def busy(self) -> bool:
        """Whether it counts."""

    @property
    def lines(self) -> dict[str, bytes]:
        """What it has counted, by keys in the order of the links."""


class Measures:
    """The lines without a key in the state.

    They have keys here, so that a slow reader goes on where it was when they are renewed.

    Args:
        ask: asks the service for its lines.
        traffic: counts.
        readers: the line that tells of the readers.
    """

    def __init__(
        self, ask: Callable[[], object], traffic: Counting, readers: Callable[[], bytes]
    ) -> None:
        self._ask, self._traffic, self._readers = ask, traffic, readers
        self._told: dict[str, bytes] = {}
        self._telling: dict[str, bytes] = {}
        self._asked = False
        self._began: float | None = None
        self._taken = float("-inf")
        self._keys: list[str] = []
        self._lines: list[bytes] = []

    @property
    def deadline(self) -> float | None:
        """When readers have waited for long enough; `None` if there is nothing to wait for."""
        return None if self._began is None else self._began + PATIENCE

    @property
    def fresh(self) -> bool:
        """Whether they can be given to a reader."""
        return self._began is None and monotonic() < self._taken + FRESH

    def renew(self) -> None:
        """Ask for all of them, unless they are fresh or on their way."""
        if self._began is not None or self.fresh:
            return
        self._began = monotonic()
        if not self._asked:
            self._asked = True
            self._ask()
        self._traffic.ask()

    def expire(self) -> None:
        """They are not fresh any more, and what the service has told already is not for anybody."""
        self._taken = float("-inf")
        if self._began is not None and not self._asked:
            self._asked = True
            self._ask()

    def tell(self, key: str, line: bytes) -> None:
        """The service tells `line`."""
        self._telling[key] = line

    def told(self) -> None:
        """The service has told all of its lines."""
        self._told, self._telling = self._telling, {}
        self._asked = False

    def complete(self) -> bool:
        """Take what is there, if all is or the patience is at its end; whether that is so."""
        if self._began is None:
            return False
        waiting = self._asked or self._traffic.busy
        if waiting and monotonic() < self._began + PATIENCE:
            return False
        lines = {**self._told, "3": self._readers(), **self._traffic.lines}
        self._keys = sorted(lines)
        self._lines = [lines[key] for key in self._keys]
        self._began, self._taken = None, monotonic()
        return True

    def part(self, after: str, most: int) -> tuple[list[str], list[bytes]]:
        """At most `most` keys behind `after`, and their lines."""
        start = bisect_right(self._keys, after)
        return self._keys[start : start + most], self._lines[start : start + most]
