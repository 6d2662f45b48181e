"""The table `arp watcher`: has the host answer questions for the gateway on a closed bridge.

Before the kernel answers ARP, it looks up a route from who asks to what is asked for, with the mark
of the question (`arp_process` in `net/ipv4/arp.c`). So without this table the bridge would be
closed for ARP as well. In IPv6, neighbours are found by packets, which table `inet watcher` marks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import partial
from typing import Final

import msgspec

from handlers.handler import Difference, Notes
from handlers.kernel.nft import Nft
from watcher.model.repair import Repair

_TABLE: Final = ("arp", "watcher")
_NOTE: Final = "arp rules"
"""The note with the digest of the complete table; it is there as long as the table should be."""


class Arp:
    """Owns the table; libnftables is opened once it is needed."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._opened: Nft | None = None

    def differences(self, bridges: Iterable[str], mark: int) -> Iterable[Difference]:
        """What is wrong with the table, which is to set `mark` on what comes by `bridges`."""
        text = _text(sorted(bridges), mark)
        noted = self._notes.noted(_NOTE)
        if not text and noted is None:
            return
        listing = self._nft.listing(*_TABLE)
        if text and (listing is None or noted != _digest(text, listing)):
            yield Difference(
                Repair("made table arp watcher", "", "it was missing or not as it should be"),
                partial(self._make, text),
            )
        elif not text:
            yield Difference(
                Repair("removed table arp watcher", "", "no sandbox needs it"), self._remove
            )

    @property
    def _nft(self) -> Nft:
        if self._opened is None:
            self._opened = Nft()
        return self._opened

    def _make(self, text: str) -> None:
        self._notes.note(_NOTE, "")  # until it is complete
        self._nft.run(text)
        self._notes.note(_NOTE, _digest(text, self._nft.listing(*_TABLE)))

    def _remove(self) -> None:
        self._nft.run("destroy table arp watcher\n")
        self._notes.erase(_NOTE)


def _text(bridges: list[str], mark: int) -> str:
    """The commands that make the table anew; nothing without bridges."""
    if not bridges:
        return ""
    rules = "".join(f'iifname "{b}" meta mark set meta mark | {mark:#x}\n' for b in bridges)
    hook = "type filter hook input priority filter; policy accept;"
    chain = f"chain input {{\n{hook}\n{rules}}}\n"
    return f"table arp watcher\ndelete table arp watcher\ntable arp watcher {{\n{chain}}}\n"


def _digest(text: str, listing: object) -> str:
    return hashlib.sha256(msgspec.json.encode([text, listing])).hexdigest()
