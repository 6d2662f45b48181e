"""The rules of nftables, as libnftables lists them (libnftables-json(5))."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any, Final

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

type Look = Callable[[Packet], list[Any] | None]
"""The values of an expression for a packet, several for flags; `None` if such a packet does not
have the field, so that nothing matches."""

type Sets = Mapping[str, list[Any]]
"""The elements of each named set of a table."""

_VERDICTS: Final = frozenset(("accept", "drop", "return", "jump", "goto"))
_UNDECIDED: Final = frozenset(("xt", "limit", "quota", "ct count", "connlimit", "meter"))
"""Statements with an unpredictable outcome."""


def read(objects: list[dict[str, Any]]) -> Table | None:
    """The table that `objects` list; `None` if they list none."""
    table = next((o["table"] for o in objects if "table" in o), None)
    if table is None:
        return None
    sets: dict[str, list[Any]] = {}
    chains: dict[str, Chain] = {}
    rules: dict[str, list[Rule]] = {}
    for object_ in objects:
        if "set" in object_:
            sets[object_["set"]["name"]] = object_["set"].get("elem", [])
        elif "map" in object_:
            sets[object_["map"]["name"]] = object_["map"].get("elem", [])
        elif "chain" in object_:
            chain = object_["chain"]
            chains[chain["name"]] = Chain(
                chain["name"], (), chain.get("hook", ""), chain.get("policy", "accept")
            )
        elif "rule" in object_:
            found = object_["rule"]
            rules.setdefault(found["chain"], []).append(_rule(found["expr"], sets))
    for name, chain_rules in rules.items():
        chains[name] = replace(chains[name], rules=tuple(chain_rules))
    return Table(table["family"], table["name"], chains)


def _rule(expressions: list[dict[str, Any]], sets: Sets) -> Rule:
    conditions: list[Condition] = []
    for expression in expressions:
        for kind, value in expression.items():
            if kind == "match":
                conditions.append(_match(value, sets))
            elif kind in _VERDICTS:
                return rule(conditions, Verdict(kind, (value or {}).get("target", "")))  # type: ignore[arg-type]
            elif kind == "reject":
                return rule(conditions, Verdict("drop"))
            elif kind == "queue":  # a userspace program decides
                return rule(conditions, Verdict("accept", certain=False))
            elif kind == "vmap":
                return _by_map(conditions, value, sets)
            elif kind == "xt" and value:
                if value.get("type") == "target":
                    return _of_target(conditions, value.get("name", ""))
                if value.get("name") != "comment":
                    conditions.append(_unknown)
            elif kind in _UNDECIDED:
                conditions.append(_unknown)
    return rule(conditions, None)


def _of_target(conditions: list[Condition], name: str) -> Rule:
    return rule(conditions, Verdict("drop") if name == "REJECT" else None)


def _by_map(conditions: list[Condition], value: dict[str, Any], sets: Sets) -> Rule:
    """A rule that looks up its verdict in a map."""
    data = value["data"]
    entries = data["set"] if isinstance(data, dict) else sets.get(data.removeprefix("@"), [])
    rules = []
    for key, verdict in entries:
        match = {"op": "==", "left": value["key"], "right": key}
        rules.append(_rule([{"match": match}, verdict], sets))

    def apply(packet: Packet) -> Verdict | None:
        if any(condition(packet) is False for condition in conditions):
            return None
        found = next((verdict for r in rules if (verdict := r(packet)) is not None), None)
        if found is not None and any(condition(packet) is None for condition in conditions):
            return replace(found, certain=False)
        return found

    return apply


def _unknown(_: Packet) -> None:
    """The condition for an expression that this program does not understand."""


def _match(value: dict[str, Any], sets: Sets) -> Condition:
    left, right, operator = value["left"], value["right"], value["op"]
    see = _seen(left)
    if see is None or operator not in ("==", "!=", "in"):
        return _unknown
    candidates = list(_candidates(right, sets))

    def apply(packet: Packet) -> bool | None:
        seen = see(packet)
        if seen is None:
            return False
        answers = [_is(one, candidate) for one in seen for candidate in candidates]
        if True not in answers and None in answers:
            return None
        return (True in answers) is (operator != "!=")

    return apply


def _seen(left: Any) -> Look | None:
    """How to read the values of the expression `left` from a packet; `None` if unknown."""
    match left:
        case {"meta": {"key": str(key)}}:
            return _META.get(key)
        case {"ct": {"key": "state"}}:
            return lambda packet: [packet.state]
        case {"ct": {"key": "status"}}:
            return lambda packet: ["dnat"] if packet.dnat else []
        case {"payload": {"protocol": "ip" | "ip6" as family, "field": "saddr"}}:
            return lambda packet: _address(packet.source, family)
        case {"payload": {"protocol": "ip" | "ip6" as family, "field": "daddr"}}:
            return lambda packet: _address(packet.target, family)
        case {"payload": {"protocol": "ip" | "ip6", "field": "protocol" | "nexthdr"}}:
            return lambda packet: [packet.protocol]
        case {"payload": {"protocol": str(protocol), "field": "dport" | "sport" as field}}:
            return lambda packet: _port(packet, protocol, field)
        case {"payload": {"protocol": "icmp" | "icmpv6" | "dccp" | "arp"}}:
            return lambda _: None
        case {"payload": {"protocol": "udp" | "sctp" as protocol}}:
            return lambda packet: [_ANYTHING] if packet.protocol == protocol else None
    return None


_META: Final[dict[str, Look]] = {
    "iif": lambda packet: [packet.iif],
    "iifname": lambda packet: [packet.iif],
    "oif": lambda packet: [packet.oif],
    "oifname": lambda packet: [packet.oif],
    "l4proto": lambda packet: [packet.protocol],
    "nfproto": lambda packet: [f"ipv{packet.source.version}"],
    "protocol": lambda packet: ["ip" if packet.source.version == 4 else "ip6"],
}
"""How to read the value of a `meta` expression from a packet, by its key."""


_ANYTHING: Final = object()
"""The value of a field that packets here do not have; whether it matches is unknown."""


def _port(packet: Packet, protocol: str, field: str) -> list[Any] | None:
    if protocol not in (packet.protocol, "th"):
        return None
    return [packet.dport if field == "dport" else packet.sport]


def _address(address: Any, family: str) -> list[Any] | None:
    return [address] if address.version == (4 if family == "ip" else 6) else None


def _candidates(right: Any, sets: Sets) -> Iterator[Any]:
    """The values that `right` stands for."""
    match right:
        case str() if right.startswith("@"):
            for element in sets.get(right[1:], [None]):
                yield from _candidates(element, {})
        case list():
            for element in right:
                yield from _candidates(element, sets)
        case {"set": elements}:
            yield from _candidates(elements, sets)
        case {"elem": {"val": value}}:
            yield from _candidates(value, sets)
        case _:
            yield right


def _is(seen: Any, candidate: Any) -> bool | None:
    """Whether a packet's value matches that of a rule; `None` if unknown."""
    if isinstance(seen, str):
        if not isinstance(candidate, str):
            return None
        return names_match(candidate, seen, "*")
    if seen is _ANYTHING:
        return None
    if isinstance(seen, int):
        match candidate:
            case int():
                return seen == candidate
            case {"range": [int(low), int(high)]}:
                return low <= seen <= high
        return None
    match candidate:
        case str():
            try:
                return bool(seen in ip_network(candidate, strict=False))
            except ValueError:
                return None
        case {"prefix": {"addr": address, "len": length}}:
            return bool(seen in ip_network((address, length), strict=False))
        case {"range": [low, high]}:
            return bool(ip_address(low) <= seen <= ip_address(high))
    return None
