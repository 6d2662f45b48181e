"""The state as it was after any of the last events, without a copy for each reader.

A reader gets the picture after one event, however slowly it reads and whatever happens meanwhile.
So for each line that an event replaced or removed, the line before is kept for as long as the ring
has the event. A reader whose picture is older than the ring begins again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from watcher.observe.broker.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterable


_FAILURE = b'{"type":"failure",'
"""How the line of a failure begins: msgspec writes the type first."""


class _Failure(Struct):
    """What makes two lines of a failure tell the same."""

    cause: str
    reason: str
    annotation: str = ""
    value: str = ""


_failure = msgspec.json.Decoder(_Failure).decode


class Pictures:
    """The lines with a key, as the feed tells them, and the events.

    The feed tells the whole state in passes, between which and during which events change it.

    Attributes:
        epoch: grows whenever every reader has to get the state again.
        whole: whether the state is known: a pass has ended, and no event was lost since.
        seq: the number of the last event.
        ring: the events that readers get.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.whole = False
        self.seq = 0
        self.ring = Ring(self._forget)
        self._keys: list[str] = []
        self._lines: dict[str, bytes] = {}
        self._before: dict[str, list[tuple[int, bytes | None]]] = {}
        self._changed: dict[int, list[str]] = {}
        self._pass: dict[str, bytes] | None = None

    def begin(self) -> None:
        """A pass begins."""
        self._pass = {}

    def tell(self, key: str, line: bytes) -> None:
        """The pass tells `line`."""
        if self._pass is not None:
            known = self._lines.get(key)
            self._pass[key] = known if known is not None and _same(known, line) else line

    def end(self, seq: int) -> None:
        """The pass ends, after the event `seq`."""
        told, self._pass = self._pass, None
        if told is None or (self.whole and seq == self.seq and told == self._lines):
            return
        self._lines = told
        self._keys = sorted(told)
        self._before.clear()
        self._changed.clear()
        self.ring.restart(seq + 1)
        self.seq = seq
        self.epoch += 1
        self.whole = True

    def change(
        self, seq: int, line: bytes, lines: Iterable[tuple[str, bytes]], gone: Iterable[str]
    ) -> None:
        """The event `seq` is `line`; because of it `lines` are new, and those of `gone` are not."""
        if self.whole and seq != self.seq + 1:
            self.whole = False  # until the end of the next pass
        self.seq = seq
        changes: list[tuple[str, bytes | None]] = [*((key, None) for key in gone), *lines]
        if self._pass is not None:
            for key, new in changes:
                if new is None:
                    self._pass.pop(key, None)
                else:
                    self._pass[key] = new
        if self.whole:
            replaced = sum(self._replace(seq, key, new) for key, new in changes)
            self.ring.add(line, replaced)

    def part(self, after: str, seq: int, most: int) -> tuple[list[str], list[bytes]]:
        """At most `most` keys behind `after` and their lines, as they were after the event `seq`.

        The ring has the event after that one, or it is next.
        """
        start = bisect_right(self._keys, after)
        if seq == self.seq and not self._before:
            keys = self._keys[start : start + most]
            return keys, [self._lines[key] for key in keys]
        keys, lines = [], []
        for key in islice(self._keys, start, None):
            line = self._line(key, seq)
            if line is not None:
                keys.append(key)
                lines.append(line)
                if len(lines) == most:
                    break
        return keys, lines

    def _line(self, key: str, seq: int) -> bytes | None:
        for changed, before in self._before.get(key, ()):
            if changed > seq:
                return before
        return self._lines.get(key)

    def _replace(self, seq: int, key: str, new: bytes | None) -> int:
        """Put `new` in the place of the line that `key` has; how many bytes that has."""
        before = self._lines.get(key)
        if before == new:
            return 0
        if before is None and key not in self._before:
            insort(self._keys, key)
        self._before.setdefault(key, []).append((seq, before))
        self._changed.setdefault(seq, []).append(key)
        if new is None:
            del self._lines[key]
        else:
            self._lines[key] = new
        return len(before or b"")

    def _forget(self, seq: int) -> None:
        """Keep no more what the event `seq` replaced: no picture is that old."""
        for key in self._changed.pop(seq, ()):
            kept = self._before[key]
            del kept[0]
            if not kept:
                del self._before[key]
                if key not in self._lines:
                    del self._keys[bisect_left(self._keys, key)]


def _same(known: bytes, told: bytes) -> bool:
    """Whether two lines with one key tell the same.

    An event and the store, from which passes come, have the time of a failure from two moments.
    """
    if known == told:
        return True
    return known.startswith(_FAILURE) and _failure(known) == _failure(told)
