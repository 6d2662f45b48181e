"""Tells the kernel's counters of host ends as lines."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from handlers.kernel.counters import Counters
from watcher.feed.lines import Counted, Traffic, encoded
from watcher.model.naming import HOST_NAME

if TYPE_CHECKING:
    from handlers.kernel.counters import Counts

_WHEN: Final = "4"
"""The key of the line that tells when they were counted; it comes before theirs."""


class TrafficLines:
    """The lines of all host ends in the network namespace of this process.

    Attributes:
        busy: whether they are being counted anew.
        lines: as they were last counted, by keys in the order of the links' indices.
    """

    def __init__(self) -> None:
        self._counters = Counters()
        self._new: dict[str, bytes] = {}
        self._when = encoded(Counted(datetime.now(UTC)))
        self._names: dict[int, str] = {}
        self._seen: set[int] = set()
        self.busy = False
        self.lines: dict[str, bytes] = {}

    def fileno(self) -> int:
        """The descriptor, readable when :meth:`read` has something to do."""
        return self._counters.fileno()

    def ask(self) -> None:
        """Count anew, unless that is under way. What the kernel refuses is not counted."""
        if not self.busy:
            self._counters.ask()
            self._when = encoded(Counted(datetime.now(UTC)))
            self.busy = True

    def read(self) -> None:
        """Take a part of the kernel's answer."""
        try:
            part = self._counters.read()
        except OSError:
            self.busy, self.lines = False, {}
            return
        if part.anew:
            self._new = {}
            self._seen.clear()
        names, drops = self._names, self._counters.drops
        for index, counts in part.links:
            name = names.get(index) or self._host_end(index)
            if name:
                self._seen.add(index)
                self._new[f"4 {index:010}"] = encoded(_line(name, counts, drops.get(index, 0)))
        if part.last:
            self.busy, self.lines, self._new = False, {_WHEN: self._when, **self._new}, {}
            self._names = {index: names[index] for index in self._seen}
            self._seen.clear()

    def _host_end(self, index: int) -> str:
        """The name of the link `index`, kept as long as that exists; empty if it is no host end."""
        name = self._counters.name(index)
        if not HOST_NAME.fullmatch(name):
            return ""
        self._names[index] = name
        return name


def _line(name: str, counts: Counts, dropped: int) -> Traffic:
    """What the host end `name` counts, as its sandbox sees it: received is what that one sent."""
    (
        sent_packets, received_packets, sent_bytes, received_bytes,
        sent_errors, received_errors, sent_dropped, received_dropped,
    ) = counts  # fmt: skip
    return Traffic(
        name, received_bytes, received_packets, received_dropped, received_errors,
        sent_bytes, sent_packets, sent_dropped, sent_errors, dropped,
    )  # fmt: skip
