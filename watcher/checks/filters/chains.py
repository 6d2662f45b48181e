"""Packets and packet filters as data.

The modules `nftables` and `iptables` read rules. If they do not understand a part of a rule, its
verdict is uncertain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from watcher.model.address import Address

type Family = Literal["ip", "ip6", "inet", "bridge"]
type Hook = Literal["forward", "input"]

_VERSIONS: Final = {"inet": (4, 6), "ip": (4,), "ip6": (6,)}
"""The versions of IP that tables of a family see; tables of other families see none."""

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
        bridged: whether it is a frame that a bridge forwards from one port to another.
    """

    iif: str
    oif: str
    source: Address
    target: Address
    state: Literal["new", "established"] = "new"
    dnat: bool = False
    bridged: bool = False

    @property
    def hook(self) -> Hook:
        """The hook at which the kernel calls base chains for it."""
        return "forward" if self.oif else "input"


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

    def sees(self, packet: Packet) -> bool:
        """Whether the kernel calls chains of this family for `packet`."""
        if packet.bridged:
            return self.family == "bridge"
        return packet.source.version in _VERSIONS.get(self.family, ())


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


def names_match(pattern: str, name: str, wildcard: str) -> bool:
    """Whether the interface `name` is meant by `pattern`, which may end in a `wildcard`."""
    if pattern.endswith(wildcard):
        return name.startswith(pattern.removesuffix(wildcard))
    return name == pattern
