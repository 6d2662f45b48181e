"""Packet filters as data, and what becomes of a packet in them.

Rules are read by :mod:`watcher.checks.filters.nftables` and the module `iptables` beside it. What
they do not understand of a rule makes its verdict uncertain, and so what becomes of the packet:
nothing is said for certain that is only likely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from watcher.model.address import Address

type Family = Literal["ip", "ip6", "inet", "bridge"]
type Hook = Literal["forward", "input"]


PORT: Final = 65533
"""Both ports of a packet: what no rule names by itself."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A TCP packet from and to :data:`PORT`.

    Attributes:
        iif: the interface that it came in by.
        oif: the interface that it is to leave by; empty where it is for the host itself.
        source, target: its addresses, of one family.
        state: `new` or `established`, as connection tracking has it.
        dnat: whether its connection is to a published port.
    """

    iif: str
    oif: str
    source: Address
    target: Address
    state: Literal["new", "established"] = "new"
    dnat: bool = False


type Condition = Callable[[Packet], bool | None]
"""Whether a packet matches; `None` where that cannot be told."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says: `chain` is where a `jump` or `goto` leads."""

    kind: Literal["accept", "drop", "return", "jump", "goto"]
    chain: str = ""
    certain: bool = True


type Rule = Callable[[Packet], Verdict | None]
"""What a rule says of a packet; `None` where it says nothing."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; `hook` is empty for one that is only jumped to, `policy` says `accept` or `drop`."""

    name: str
    rules: tuple[Rule, ...] = ()
    hook: str = ""
    policy: str = "accept"


@dataclass(frozen=True, slots=True)
class Table:
    """Chains by name, and whose they are.

    Attributes:
        family, name: as nftables has them.
        chains: all of them.
        command: what changes it: `nft`, `iptables`, `ip6tables`, `iptables-legacy`, …
    """

    family: Family
    name: str
    chains: Mapping[str, Chain]
    command: str = "nft"

    def base_chains(self, hook: Hook) -> list[Chain]:
        """The chains that the kernel calls at `hook`."""
        return [chain for chain in self.chains.values() if chain.hook == hook]


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a packet in a base chain: whether it is dropped, and if that is certain."""

    dropped: bool
    certain: bool = True


def rule(conditions: Iterable[Condition], verdict: Verdict | None) -> Rule:
    """A rule with one verdict, where all of `conditions` hold."""
    conditions = tuple(conditions)

    def apply(packet: Packet) -> Verdict | None:
        if verdict is None:
            return None
        answers = [condition(packet) for condition in conditions]
        if False in answers:
            return None
        return replace(verdict, certain=False) if None in answers else verdict

    return apply


_DEPTH: Final = 64
"""Jumps within jumps that are followed: the kernel itself takes 16 (nft(8), `jump`)."""


def fate(table: Table, base: Chain, packet: Packet) -> Fate:
    """What becomes of `packet` in `base`, a base chain of `table`."""
    kind, certain = _walk(table, base, packet, _DEPTH)
    if kind in ("accept", "drop"):
        return Fate(kind == "drop", certain)
    return Fate(base.policy == "drop", certain)


def _walk(table: Table, chain: Chain, packet: Packet, depth: int) -> tuple[str, bool]:
    """`accept`, `drop`, or `return` at the end of `chain`; and whether that is certain."""
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
        certain = False  # it may end here, or go on
    return "return", certain


def _as_verdict(ending: str) -> Literal["accept", "drop"]:
    return "drop" if ending == "drop" else "accept"


def names_match(pattern: str, name: str, wildcard: str) -> bool:
    """Whether the interface `name` is meant by `pattern`, which may end in a `wildcard`."""
    if pattern.endswith(wildcard):
        return name.startswith(pattern.removesuffix(wildcard))
    return name == pattern
