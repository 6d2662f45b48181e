"""Reads this program's nftables table as libnftables lists it (libnftables-json(5))."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any, Final

import msgspec

from handlers.firewall import admin, elements, names, opened_elements, rejecting, remote, ruleset
from handlers.firewall.ruleset import Parts
from handlers.kernel.nft import Element
from handlers.networks.driver import Driver

NOTE: Final = "ruleset"
"""The note with the digest of the complete table."""

_OF_THE_KERNEL: Final = frozenset(
    {
        *names.ASKERS,
        *opened_elements.NAMES,
        *rejecting.COUNTED.values(),
        *rejecting.ANSWERED.values(),
    }
)
"""The sets that the kernel fills, and those of what names have opened."""


def _is_static(name: str) -> bool:
    """Whether the elements of that set are as the rules are made, and stay so."""
    return name == "bridges" or name.startswith(admin.PREFIX)


def _of_no_sandbox(name: str) -> bool:
    """Whether the elements of that set do not come with sandboxes."""
    return _is_static(name) or name in _OF_THE_KERNEL or remote.is_of_cluster(name)


def digest(
    listing: Iterable[dict[str, Any]],
    drivers: Mapping[str, Driver],
    parts: Parts,
) -> str:
    """A hash of the listed rules and of the text that those for `drivers` are made from."""
    made_of = ruleset.base(drivers.values(), parts)
    return hashlib.sha256(msgspec.json.encode([_rules(listing), made_of])).hexdigest()


def blocks(listing: Iterable[dict[str, Any]]) -> frozenset[str]:
    """The rules in `listing` that are there only if they are needed."""
    named = {of["name"] for object_ in listing for kind, of in object_.items() if kind in _SETS}
    return frozenset(block for name, block in elements.BLOCKS.items() if name in named)


_SETS: Final = ("map", "set")


def _rules(listing: Iterable[dict[str, Any]]) -> list[Any]:
    """`listing` without what changes by itself: handles, and the elements of sandboxes."""
    found = []
    for object_ in listing:
        for kind, value in object_.items():
            if kind == "metainfo":
                continue
            dropped = {"handle"} if _is_static(value.get("name", "")) else {"handle", "elem"}
            found.append([kind, {k: v for k, v in value.items() if k not in dropped}])
    return found


def elements_in(listing: Iterable[dict[str, Any]]) -> Iterator[Element]:
    """The elements of sandboxes in `listing`."""
    return _elements(listing, lambda name: not _of_no_sandbox(name))


def members_in(listing: Iterable[dict[str, Any]]) -> Iterator[Element]:
    """The elements of the cluster in `listing`."""
    return _elements(listing, remote.is_of_cluster)


def _elements(
    listing: Iterable[dict[str, Any]], wanted: Callable[[str], bool]
) -> Iterator[Element]:
    for object_ in listing:
        for kind, value in object_.items():
            if kind in ("set", "map") and wanted(value["name"]):
                for entry in value.get("elem", []):
                    key, found = entry if kind == "map" else (entry, None)
                    yield Element(
                        value["family"],
                        value["name"],
                        _parts(key, value["type"]),
                        () if found is None else _parts(found, ()),
                    )


def _parts(expression: Any, types: Any) -> tuple[str, ...]:
    """The parts of a key or a value; a statement of an element is in the text of the last one."""
    if isinstance(expression, dict) and "elem" in expression:
        count = expression["elem"]["ct count"]["val"]
        *first, last = _parts(expression["elem"]["val"], types)
        return (*first, f"{last} ct count over {count}")
    several = isinstance(expression, dict) and "concat" in expression
    parts = expression["concat"] if several else [expression]
    kinds = types if isinstance(types, list) else [types]
    text = list(map(_part, parts))
    for at, kind in enumerate(kinds):
        if kind == "inet_proto" and text[at] == "ip":  # the name of protocol 0, and no word of ours
            text[at] = "0"
    return (f'"{text[0]}"', *text[1:]) if kinds[0] == "ifname" else tuple(text)


def _part(part: Any) -> str:
    """A part of a key or a value as nft(8) writes it; ranges and prefixes are objects in JSON."""
    if not isinstance(part, dict):
        return str(part)
    if "prefix" in part:
        prefix = ip_network(f"{part['prefix']['addr']}/{part['prefix']['len']}")
        return f"{prefix.network_address}-{prefix.broadcast_address}"
    return f"{part['range'][0]}-{part['range'][1]}"
