"""Packets and packet filters as data.

The modules `nftables` and `iptables` read rules. A rule that they only partly understand has an
uncertain verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from watcher.model.address import Address

type Family = Literal["ip", "ip6", "inet", "bridge"]
type Hook = Literal["prerouting", "forward", "input", "output"]

_VERSIONS: Final = {"inet": (4, 6), "ip": (4,), "ip6": (6,)}
"""The IP versions that tables of a family see; other families see none."""

PORT: Final = 65533
"""The port of a packet to or from nobody in particular; hardly any rule names it."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet at one hook.

    Attributes:
        iif: the interface that it came in by; empty if the host itself sends it.
        oif: the interface that it leaves by; empty if it is for the host itself, or if that is
            not decided yet.
        source, target: its addresses, of one family.
        state: its state in connection tracking.
        dnat: whether its connection is to a published port.
        bridged: whether it is a frame that a bridge forwards between its ports.
        protocol: `tcp`, `udp` or `sctp`.
        sport, dport: its ports.
        arriving: whether it has just come, and is to be rewritten and routed yet.
    """

    iif: str
    oif: str
    source: Address
    target: Address
    state: Literal["new", "established"] = "new"
    dnat: bool = False
    bridged: bool = False
    protocol: str = "tcp"
    sport: int = PORT
    dport: int = PORT
    arriving: bool = False

    @property
    def hook(self) -> Hook:
        """The hook whose base chains it passes."""
        if self.arriving:
            return "prerouting"
        if not self.iif:
            return "output"
        return "forward" if self.oif else "input"


type Condition = Callable[[Packet], bool | None]
"""Whether a packet matches; `None` if unknown."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a rule; `chain` is the target of a `jump` or `goto`."""

    kind: Literal["accept", "drop", "return", "jump", "goto"]
    chain: str = ""
    certain: bool = True


type Rule = Callable[[Packet], Verdict | None]
"""The verdict of a rule on a packet; `None` if it has none."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain. `hook` is empty unless it is a base chain; `policy` is `accept` or `drop`."""

    name: str
    rules: tuple[Rule, ...] = ()
    hook: str = ""
    policy: str = "accept"


@dataclass(frozen=True, slots=True)
class Table:
    """Chains by name, and their owner.

    Attributes:
        family, name: as in nftables.
        chains: all its chains.
        command: the program that changes it: `nft`, `iptables`, `ip6tables`, `iptables-legacy`, …
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
    """A rule with one verdict, reached if all `conditions` hold."""
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
    """Whether `pattern`, which may end in a `wildcard`, matches the interface `name`."""
    if pattern.endswith(wildcard):
        return name.startswith(pattern.removesuffix(wildcard))
    return name == pattern
