"""Lines by key, in the order in which each has changed last.

A reader has got so far in that order, and gets what comes behind: a line that has changed twice
meanwhile comes once. So a slow reader costs a number, and nothing is kept for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_GONE: Final = 1 << 16
"""How many lines that are gone are told to readers that have not got so far."""

_SLACK: Final = 1024
"""Outdated rows that are always allowed."""


class Row(Struct, gc=False):
    """A line in the order.

    Attributes:
        number: its place.
        line: the line; empty once another one has taken its place.
        gone: it only says that a line is there no more.
    """

    number: int
    line: bytes
    gone: bool


class Rows[K: Hashable]:
    """See the module's docstring.

    Args:
        least: the place up to which all readers have got.

    Attributes:
        last: the place of the latest change.
        forgotten: the last place of those that told of a line that is gone, and that are forgotten.
        bytes: how many the lines take.
    """

    def __init__(self, least: Callable[[], int]) -> None:
        self._least = least
        self._order: list[Row] = []
        self._rows: dict[K, Row] = {}
        self._gone = 0
        self.last = self.forgotten = self.bytes = 0

    def __len__(self) -> int:
        """How many lines there are."""
        return len(self._rows) - self._gone

    def __contains__(self, key: K) -> bool:
        """Whether there is a line with `key`."""
        row = self._rows.get(key)
        return row is not None and not row.gone

    def every_key(self) -> list[K]:
        """The keys of all lines."""
        return [key for key, row in self._rows.items() if not row.gone]

    def put(self, key: K, line: bytes) -> bool:
        """Have `line` at `key`; whether that is new."""
        row = self._rows.get(key)
        if row is not None and row.line == line:
            return False
        self._append(key, line, gone=False)
        return True

    def remove(self, key: K, gone: bytes) -> bool:
        """Have no line at `key`, which `gone` says; whether there was one."""
        if key not in self:
            return False
        self._append(key, gone, gone=True)
        return True

    def line(self, key: K) -> bytes:
        """The line at `key`; empty if there is none."""
        row = self._rows.get(key)
        return b"" if row is None or row.gone else row.line

    def after(self, number: int, most: int) -> list[Row]:
        """The next rows behind the place `number`, `most` of them."""
        found: list[Row] = []
        order = self._order
        for at in range(bisect_right(order, number, key=_number), len(order)):
            if order[at].line:
                found.append(order[at])
                if len(found) == most:
                    break
        return found

    def _append(self, key: K, line: bytes, *, gone: bool) -> None:
        before = self._rows.pop(key, None)
        if before is not None:
            self._gone -= before.gone
            self.bytes -= len(before.line)
            before.line = b""
        self.last += 1
        self._rows[key] = row = Row(self.last, line, gone)
        self._gone += gone
        self.bytes += len(line)
        self._order.append(row)
        if len(self._order) > 2 * len(self) + self._gone + _SLACK:
            self._tidy()

    def _tidy(self) -> None:
        """Drop what no reader needs: what is outdated, and what was gone long ago."""
        upto = self.last if self._gone > _MOST_GONE else self._least()
        for key, row in tuple(self._rows.items()):
            if row.gone and row.number <= upto:
                del self._rows[key]
                self._gone -= 1
                self.bytes -= len(row.line)
                self.forgotten = max(self.forgotten, row.number)
                row.line = b""
        self._order = [row for row in self._order if row.line]


_number: Final = attrgetter("number")
