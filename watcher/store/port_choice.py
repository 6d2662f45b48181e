"""Chooses host ports for port maps that name none.

A few random ports are tried first: each costs an index lookup and a question to the kernel, however
many ports are published. Only if nearly all are taken, or very many are wanted, all are looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from watcher.model.container import Container
from watcher.model.request import PortMap, Protocol

if TYPE_CHECKING:
    import sqlite3

type Ranges = tuple[tuple[int, int], ...]
"""Port numbers: the first and the last of each range."""

DYNAMIC: Final[Ranges] = ((49152, 65535),)
"""The ports that are nobody's by agreement (RFC 6335, section 6)."""

TRIES: Final = 16
"""Random ports to try. If half of them are taken, all tries fail once in 65,536 times."""

FEW: Final = 4
"""So many ports are tried for; if more are wanted at once, all are looked at."""


def _nobody(_: Protocol, low: int, high: int) -> Collection[int]:  # noqa: ARG001
    return ()


class Choice(Struct, frozen=True):
    """Which host ports may be chosen.

    Attributes:
        ranges: they are in these.
        in_use: given a protocol and a first and last port, those of them that the host uses.
    """

    ranges: Ranges = DYNAMIC
    in_use: Callable[[Protocol, int, int], Collection[int]] = _nobody


type Choices = Callable[[Container], Choice]
"""The choice that a container has."""


ANYWHERE: Final = Choice()
"""The choice where neither limits nor the host matter."""


def anywhere(_: Container) -> Choice:
    """:data:`ANYWHERE`."""
    return ANYWHERE


class NoneLeft(Exception):
    """No host port is free for the port map `wanted`."""

    def __init__(self, wanted: PortMap) -> None:
        super().__init__(wanted)
        self.wanted = wanted


def choose(db: sqlite3.Connection, wanted: Sequence[PortMap], choice: Choice) -> list[PortMap]:
    """`wanted`, each with a host port that no sandbox has and that the host does not use.

    Raises:
        NoneLeft: there are not so many.
    """
    chosen: dict[PortMap, PortMap] = {}
    for protocol in dict.fromkeys(port.protocol for port in wanted):
        same = [port for port in wanted if port.protocol == protocol]
        taken: set[int] = set()
        for port in same if len(same) <= FEW else ():
            number = _tried(db, protocol, choice, taken)
            if number is None:
                break
            taken.add(number)
            chosen[port] = replace(port, host_port=number)
        rest = [port for port in same if port not in chosen]
        if rest:
            chosen |= _searched(db, protocol, rest, choice, taken)
    return [chosen[port] for port in wanted]


def _tried(
    db: sqlite3.Connection, protocol: Protocol, choice: Choice, taken: Collection[int]
) -> int | None:
    """A free port found by chance, if any; not one of `taken`."""
    sizes = [high - low + 1 for low, high in choice.ranges]
    for _ in range(TRIES):
        place = _random(sum(sizes))
        for size, (low, _) in zip(sizes, choice.ranges, strict=True):
            if place < size:
                number = low + place
                break
            place -= size
        if number in taken or _claimed(db, protocol, number):
            continue
        if number not in choice.in_use(protocol, number, number):
            return number
    return None


def _searched(
    db: sqlite3.Connection,
    protocol: Protocol,
    wanted: Sequence[PortMap],
    choice: Choice,
    taken: Collection[int],
) -> dict[PortMap, PortMap]:
    """Free ports out of all that there are; none of `taken`."""
    free = {number for low, high in choice.ranges for number in range(low, high + 1)}
    free.difference_update(taken)
    claims = db.execute("SELECT host_port, length FROM claim WHERE protocol = ?", (protocol,))
    for first, length in claims:
        free.difference_update(range(first, first + length))
    for low, high in choice.ranges:
        free.difference_update(choice.in_use(protocol, low, high))
    left = sorted(free)
    found = {}
    for port in wanted:
        if not left:
            raise NoneLeft(port)
        place = _random(len(left))
        found[port] = replace(port, host_port=left[place])
        left[place] = left[-1]
        left.pop()
    return found


_CLAIMED: Final = (
    "SELECT 1 FROM (VALUES (1), (16), (256), (4096), (65536)) AS sizes CROSS JOIN claim"
    " ON protocol = ?1 AND size = sizes.column1 AND host_port > ?2 - sizes.column1"
    " AND host_port <= ?2 AND host_port + length > ?2 LIMIT 1"
)
"""See `_OVERLAPS` in :mod:`watcher.store.port_claims`."""


def _claimed(db: sqlite3.Connection, protocol: Protocol, number: int) -> bool:
    """Whether any sandbox has the host port, on whatever address."""
    return db.execute(_CLAIMED, (protocol, number)).fetchone() is not None


def _random(count: int) -> int:
    """A random number below `count`; :mod:`random` takes long to import."""
    return int.from_bytes(os.urandom(8)) % count
