"""The lists that a sandbox is held to in a network, and what follows from all of them together."""

from __future__ import annotations

from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.model.errors import BadValue
from watcher.model.policy import boxes
from watcher.model.policy.boxes import Box
from watcher.model.policy.entries import EVERY_PORT, Direction, Entry, entry
from watcher.model.policy.remembering import remembering

if TYPE_CHECKING:
    from watcher.model.address import Address
    from watcher.model.network import Network
    from watcher.model.policy.limits import SandboxLimits

MAX_BOXES: Final = 2048
"""The most boxes of one IP version: what the kernel keeps and searches for one list.

A list with more is refused. If one becomes so while a sandbox runs, as its network's list was
changed, the rest does not pass.
"""

MOST_ENTRIES: Final = 200_000
"""The most entries of lists to remember, some 100 MB if all are long names."""

_MOST_BOXES: Final = 300_000
"""The most boxes to remember, some 50 MB."""

_OTHER_RESOLVERS: Final = tuple(map(entry, ("!any:53", "!any:853")))
"""Who is held to names asks the name service alone: DNS, and DNS over TLS or QUIC (RFC 7858)."""


class AccessList(Struct, frozen=True, dict=True):
    """All the lists that count; a connection has to pass each of them.

    Attributes:
        direction: which side opens the connections.
        lists: the entries of each list (:func:`watcher.model.policy.entries.checked`).
    """

    direction: Direction
    lists: tuple[tuple[str, ...], ...]

    @cached_property
    def document(self) -> str:
        """Its text, the same for all that say the same; a number stands for it."""
        return f"{self.direction} {' & '.join(','.join(one) for one in self.lists)}"

    @cached_property
    def entries(self) -> tuple[tuple[Entry, ...], ...]:
        """The entries of each list."""
        found = tuple(tuple(map(entry, one)) for one in self.lists)
        if any(e.name for one in found for e in one):
            found = tuple((*one, *_OTHER_RESOLVERS) for one in found)
        return found

    def boxes(self, version: int) -> tuple[Box, ...]:
        """What passes, in IP `version`, without what names open."""
        return _up_to_one_more(self, version)[:MAX_BOXES]

    @cached_property
    def named(self) -> bool:
        """Whether any of the lists has a name; then no other name may be asked for."""
        return any(e.name for one in self.entries for e in one)

    def asks(self, name: str) -> bool:
        """Whether the host name `name` (lower case, no last dot) may be asked for."""
        return all(_names(one, name) for one in self._of_names if one)

    @cached_property
    def _of_names(self) -> list[list[Entry]]:
        """The entries with names of each list."""
        return [[e for e in one if e.name] for one in self.entries]

    @cached_property
    def too_large(self) -> str:
        """Why the kernel cannot keep it; empty if it can."""
        if all(len(_up_to_one_more(self, version)) <= MAX_BOXES for version in (4, 6)):
            return ""
        return f"its entries divide each other into more than {MAX_BOXES} parts"

    def opened(self, name: str, address: Address, *, rebinds: bool) -> tuple[Box, ...]:
        """What an answer opens: the boxes of `address` because `name` leads to it.

        `rebinds` says that the address is of a kind that no name opens (private, loopback, the
        host's own, …): then there is nothing that prefixes do not open already.
        """
        if rebinds:
            return ()
        version, number = address.version, int(address)
        each = []
        for one in self.entries:
            there = [e for e in one if not e.name or e.names(name)]
            each.append(boxes.ports_at(there, number, version))
        return tuple(boxes.boxes_of(version, (number, number), boxes.common(each)))


def check_size(entries: tuple[str, ...] | None, direction: Direction) -> None:
    """Raise BadValue if the kernel cannot keep a list of these entries."""
    held = None if entries is None else _access(direction, (entries,))
    if held is not None and held.too_large:
        raise BadValue(held.too_large, "write fewer ranges of ports, or fewer prefixes in others")


def access(
    direction: Direction, limits: SandboxLimits, network: Network, forced: Network | None
) -> AccessList | None:
    """What a sandbox with `limits` is held to in `network`; `None` if to nothing.

    `forced` is the network whose policy its root forces upon it.
    """
    own, usual = getattr(limits, direction), getattr(network, direction)
    if forced is None and (own is None or usual is None):  # as nearly always
        one = usual if own is None else own
        return None if one is None else _access(direction, (one,))
    lists = (usual, None if forced is None else getattr(forced, direction), own)
    return _access(direction, tuple(dict.fromkeys(one for one in lists if one is not None)))


def size_of(held: AccessList | None, *_: object) -> int:
    """About what it takes to remember a list: its entries."""
    return 1 if held is None else 1 + sum(map(len, held.lists))


@remembering(MOST_ENTRIES, size_of)
def _access(direction: Direction, lists: tuple[tuple[str, ...], ...]) -> AccessList | None:
    """One object for each, so that what follows from it is worked out once."""
    return AccessList(direction, lists) if lists else None


@remembering(_MOST_BOXES, lambda found, access, _: len(found) + size_of(access))
def _up_to_one_more(access: AccessList, version: int) -> tuple[Box, ...]:
    """The first boxes; with one more than there may be, it is too large."""
    return tuple(islice(boxes.boxes(access.entries, version), MAX_BOXES + 1))


def _names(entries: list[Entry], name: str) -> bool:
    """Whether one list lets ask for `name`: unless it is taken out with all its ports."""
    about = [e for e in entries if e.names(name)]
    whole = (e.out and e.ports == EVERY_PORT and not e.protocol for e in about)
    return any(not e.out for e in about) and not any(whole)


def text_of(version: int, span: tuple[int, int]) -> str:
    """A range of addresses as nft(8) writes it."""
    kind = IPv4Address if version == 4 else IPv6Address
    first, last = map(kind, span)
    return str(first) if first == last else f"{first}-{last}"
