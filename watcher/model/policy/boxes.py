"""Makes of lists what a firewall looks up: boxes of addresses, protocols and ports.

No two boxes overlap, as nftables demands of the elements of one set. A packet passes if it passes
every list; it passes a list if an entry has it and none takes it out, whatever their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, pairwise
from typing import Final

from msgspec import Struct

from watcher.model.policy.entries import EVERY_PORT, Entry

type Ports = tuple[tuple[int, int], ...]
"""Ranges of ports, sorted, with a gap between any two."""

_ALL: Final[Ports] = (EVERY_PORT,)
NUMBERS: Final = {"tcp": 6, "udp": 17, "sctp": 132}
"""The protocols with ports (`/etc/protocols`)."""

ICMP: Final = {4: 1, 6: 58}
"""The number of the protocol by IP version."""

_BITS: Final = {4: 32, 6: 128}


class Box(Struct, frozen=True, order=True):
    """All that has an address, a protocol and a port in these ranges, whose ends belong to them.

    Attributes:
        version: the IP version.
        addresses: as numbers.
        protocols: by their numbers.
        ports: of protocols without ports, all.
    """

    version: int
    addresses: tuple[int, int]
    protocols: tuple[int, int]
    ports: tuple[int, int] = EVERY_PORT


def boxes(lists: Sequence[Sequence[Entry]], version: int) -> Iterator[Box]:
    """What passes all of `lists`, in IP `version`; entries with a name or a word count for none."""
    plain = [[e for e in one if not e.name and not e.word and _fits(e, version)] for one in lists]
    if all(plain):
        yield from _merged(_slices(plain, version), version)


def ports_at(one: Iterable[Entry], number: int, version: int) -> dict[str, Ports]:
    """By kind of protocol, the ports that one list lets pass to the address `number`."""
    there = [e for e in one if _fits(e, version) and _span(e, version)[0] <= number]
    return _passing([e for e in there if number <= _span(e, version)[1]])


def common(some: Iterable[dict[str, Ports]]) -> dict[str, Ports]:
    """What all have in common."""
    found: dict[str, Ports] | None = None
    for one in some:
        if found is None:
            found = one
        else:
            found = {kind: _both(ports, one[kind]) for kind, ports in found.items()}
    return found or {}


def boxes_of(version: int, addresses: tuple[int, int], passing: dict[str, Ports]) -> Iterator[Box]:
    """The boxes of a range of addresses."""
    whole = [kind for kind, ports in passing.items() if ports == _ALL]
    for protocols in united(chain.from_iterable(_numbers(kind, version) for kind in whole)):
        yield Box(version, addresses, protocols)
    for kind, ports in passing.items():
        if kind not in whole:
            for protocols in _numbers(kind, version):
                yield from (Box(version, addresses, protocols, span) for span in ports)


def _fits(entry: Entry, version: int) -> bool:
    return entry.prefix is None or entry.prefix.version == version


def _span(entry: Entry, version: int) -> tuple[int, int]:
    prefix = entry.prefix
    if prefix is None:
        return 0, 2 ** _BITS[version] - 1
    return int(prefix.network_address), int(prefix.broadcast_address)


def _slices(
    lists: Sequence[Sequence[Entry]], version: int
) -> Iterator[tuple[tuple[int, int], dict[str, Ports]]]:
    """Ranges of addresses for which each entry counts wholly or not at all, with what passes."""
    spans = [[(*_span(e, version), e) for e in one] for one in lists]
    starts = {0} | {low for one in spans for low, _, _ in one}
    starts |= {high + 1 for one in spans for _, high, _ in one}
    edges = sorted(starts | {2 ** _BITS[version]})
    for low, after in pairwise(edges):
        each = ([e for first, last, e in one if first <= low <= last] for one in spans)
        yield (low, after - 1), common(_passing(entries) for entries in each)


def _merged(
    slices: Iterable[tuple[tuple[int, int], dict[str, Ports]]], version: int
) -> Iterator[Box]:
    for passing, group in groupby(slices, key=lambda one: one[1]):
        spans = [addresses for addresses, _ in group]  # they are next to each other
        yield from boxes_of(version, (spans[0][0], spans[-1][1]), passing)


def _passing(entries: Sequence[Entry]) -> dict[str, Ports]:
    """What passes the entries of one list, all of which have the address."""
    return {
        kind: _without(
            united(e.ports for e in entries if not e.out and _has(e, kind)),
            united(e.ports for e in entries if e.out and _has(e, kind)),
        )
        for kind in (*NUMBERS, "icmp", "other")
    }


def _has(entry: Entry, kind: str) -> bool:
    if entry.protocol:
        return entry.protocol == kind
    return entry.ports == EVERY_PORT or kind in NUMBERS


def _numbers(kind: str, version: int) -> Iterator[tuple[int, int]]:
    icmp = ICMP[version]
    if kind == "other":
        edges = sorted((-1, icmp, *NUMBERS.values(), 256))
        yield from ((a + 1, b - 1) for a, b in pairwise(edges) if b - a > 1)
    else:
        number = icmp if kind == "icmp" else NUMBERS[kind]
        yield number, number


def united(spans: Iterable[tuple[int, int]]) -> Ports:
    """`spans` sorted, those that overlap or touch merged."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if found and low <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(high, found[-1][1])
        else:
            found.append((low, high))
    return tuple(found)


def _without(some: Ports, others: Ports) -> Ports:
    found = []
    for low, high in some:
        at = low
        for first, last in others:
            if last < at or first > high:
                continue
            if first > at:
                found.append((at, first - 1))
            at = last + 1
        if at <= high:
            found.append((at, high))
    return tuple(found)


def _both(some: Ports, others: Ports) -> Ports:
    return tuple(
        (max(a, c), min(b, d)) for a, b in some for c, d in others if max(a, c) <= min(b, d)
    )
