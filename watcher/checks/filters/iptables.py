"""The rules of iptables, as `iptables-save` prints them (iptables(8), iptables-extensions(8))."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final, Literal

from watcher.checks.filters.chains import (
    Chain,
    Condition,
    Packet,
    Rule,
    Table,
    Verdict,
    names_match,
    rule,
)

if TYPE_CHECKING:
    from watcher.checks.filters.chains import Family

_HOOKS: Final = {
    "PREROUTING": "prerouting",
    "FORWARD": "forward",
    "INPUT": "input",
    "OUTPUT": "output",
}
_PROTOCOLS: Final = {"tcp": "6", "udp": "17", "sctp": "132"}
_VERDICTS: Final[dict[str, Literal["accept", "drop", "return"]]] = {
    "ACCEPT": "accept",
    "DROP": "drop",
    "REJECT": "drop",
    "RETURN": "return",
}
_PLAIN: Final = frozenset(
    (
        "comment",
        "conntrack",
        "state",
        "tcp",
        "udp",
        "sctp",
        "icmp",
        "icmp6",
        "multiport",
        "addrtype",
    )
)
"""Modules that match nothing but by their options."""

_IGNORED: Final = frozenset(("--comment", "-c", "--set-counters"))


def read(text: str, family: Family, command: str) -> list[Table]:
    """The tables in `text`; `command` is the program that changes them."""
    tables: list[Table] = []
    chains: dict[str, Chain] = {}
    rules: dict[str, list[Rule]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            chains, rules = {}, {}
            tables.append(Table(family, line[1:].strip(), chains, command))
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            hook = "" if policy == "-" else _HOOKS.get(name, "")
            chains[name] = Chain(name, (), hook, "drop" if policy == "DROP" else "accept")
        elif line.startswith("-A "):
            words = shlex.split(line)
            rules.setdefault(words[1], []).append(_rule(words[2:], chains))
        elif line.strip() == "COMMIT":
            for name, found in rules.items():
                if name in chains:
                    chains[name] = replace(chains[name], rules=tuple(found))
    return tables


def _rule(words: list[str], chains: dict[str, Chain]) -> Rule:
    conditions: list[Condition] = []
    verdict: Verdict | None = None
    for option, values, negated in _options(words):
        if option in ("-j", "-g", "--jump", "--goto"):
            verdict = _verdict(option, values[0] if values else "", chains)
            break  # the rest are options of the target
        if option in _IGNORED or (option in ("-m", "--match") and _PLAIN.issuperset(values)):
            continue
        condition = _condition(option, values)
        conditions.append(_negated(condition) if negated else condition)
    return rule(conditions, verdict)


def _options(words: list[str]) -> Iterator[tuple[str, list[str], bool]]:
    """Each option with its values, and whether `!` precedes it."""
    negated = False
    option, values = "", list[str]()
    for word in words:
        if word == "!" or (word.startswith("-") and len(word) > 1 and not word[1].isdigit()):
            if option:
                yield option, values, negated
                option, values, negated = "", [], False
            if word == "!":
                negated = True
            else:
                option = word
        else:
            values.append(word)
    if option:
        yield option, values, negated


def _verdict(option: str, target: str, chains: dict[str, Chain]) -> Verdict | None:
    if target in _VERDICTS:
        return Verdict(_VERDICTS[target])
    if target in chains:
        return Verdict("goto" if option in ("-g", "--goto") else "jump", target)
    if target in ("QUEUE", "NFQUEUE"):  # a userspace program decides
        return Verdict("accept", certain=False)
    return None  # LOG, MARK and the like continue


def _condition(option: str, values: list[str]) -> Condition:
    value = values[0] if values else ""
    if option in ("-i", "--in-interface"):
        return lambda packet: names_match(value, packet.iif, "+")
    if option in ("-o", "--out-interface"):
        return lambda packet: names_match(value, packet.oif, "+")
    if option in ("-s", "--source"):
        return lambda packet: packet.source in ip_network(value, strict=False)
    if option in ("-d", "--destination"):
        return lambda packet: packet.target in ip_network(value, strict=False)
    if option in ("-p", "--protocol"):
        return lambda packet: value in (packet.protocol, _PROTOCOLS[packet.protocol], "all", "0")
    if option in ("--dport", "--dports"):
        return lambda packet: _is_among(packet.dport, value)
    if option in ("--sport", "--sports"):
        return lambda packet: _is_among(packet.sport, value)
    if option == "--ports":
        return lambda p: _is_among(p.dport, value) or _is_among(p.sport, value)
    if option == "--dst-type":
        return lambda packet: _is_of_type(packet, value)
    if option in ("--ctstate", "--state"):
        return lambda packet: _has_state(packet, value.split(","))
    return lambda _: None


def _has_state(packet: Packet, states: list[str]) -> bool:
    return packet.state.upper() in states or (packet.dnat and "DNAT" in states)


def _is_of_type(packet: Packet, types: str) -> bool | None:
    """Whether the target has one of `types`; all packets here are to one machine."""
    if packet.hook == "prerouting":
        return None
    return ("LOCAL" if packet.hook == "input" else "UNICAST") in types.split(",")


def _is_among(port: int, listed: str) -> bool:
    """Whether `port` is one of those `listed` with commas, in which there may be ranges."""
    for part in listed.split(","):
        low, colon, high = part.partition(":")
        if int(low or 0) <= port <= int((high or 65535) if colon else low):
            return True
    return False


def _negated(condition: Condition) -> Condition:
    def apply(packet: Packet) -> bool | None:
        answer = condition(packet)
        return None if answer is None else not answer

    return apply
