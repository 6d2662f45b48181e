"""The fate of a packet in the packet filters of the host.

A rule with an uncertain verdict makes the fate uncertain.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from watcher.checks.filters.chains import Chain, Packet, Table


@dataclass(frozen=True, slots=True)
class Fate:
    """The fate of a packet in a base chain: whether it is dropped, and if that is certain."""

    dropped: bool
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Drop:
    """A base chain that drops a packet: `chain` of `table`, and whether that is certain."""

    table: Table
    chain: Chain
    certain: bool


_DEPTH: Final = 64
"""The most nested jumps to follow; the kernel allows 16 (nft(8), `jump`)."""


def drops(table: Table, packets: Collection[Packet]) -> Iterator[Drop]:
    """Each base chain of `table` that drops one of `packets`."""
    for chain in table.chains.values():
        seen = [packet for packet in packets if packet.hook == chain.hook and table.sees(packet)]
        fates = [fate(table, chain, packet) for packet in seen]
        if any(f.dropped for f in fates):
            yield Drop(table, chain, certain=any(f.dropped and f.certain for f in fates))


def fate(table: Table, base: Chain, packet: Packet) -> Fate:
    """The fate of `packet` in `base`, a base chain of `table`."""
    kind, certain = _walk(table, base, packet, _DEPTH)
    if kind in ("accept", "drop"):
        return Fate(kind == "drop", certain)
    return Fate(base.policy == "drop", certain)


def _walk(table: Table, chain: Chain, packet: Packet, depth: int) -> tuple[str, bool]:
    """`accept`, `drop`, or `return` at the end of `chain`; and whether this is certain."""
    certain = True
    for apply in chain.rules:
        verdict = apply(packet)
        if verdict is None:
            continue
        kind = verdict.kind
        if kind in ("jump", "goto") and depth:
            there = table.chains.get(verdict.chain)
            if there is None:
                continue
            ending, sure = _walk(table, there, packet, depth - 1)
            certain = certain and sure
            if kind == "jump" and ending == "return":
                continue
            kind = "return" if ending == "return" else _as_verdict(ending)
        if verdict.certain:
            return kind, certain
        certain = False  # the rule may end the chain here, or not match
    return "return", certain


def _as_verdict(ending: str) -> Literal["accept", "drop"]:
    return "drop" if ending == "drop" else "accept"
