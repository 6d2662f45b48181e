"""What the words of a list of `ingress` stand for.

`network` stands for the subnets of the network, and `host` for the connections that the host itself
opens. A list that does not name either has both in it, unless it is empty (`none`). `!host` and
`!network` take them out again. The host is no address: prefixes do not tell it, but `any` has it
as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from watcher.model.policy import boxes
from watcher.model.policy.access import AccessList
from watcher.model.policy.boxes import Box
from watcher.model.policy.entries import EVERY_PORT, Entry, entry

if TYPE_CHECKING:
    from watcher.model.address import Subnet

_HOST: Final = Entry(False, None, "", "host", EVERY_PORT, "")
_NETWORK: Final = replace(_HOST, word="network")


@lru_cache(maxsize=16384)
def sources(held: AccessList, subnets: tuple[Subnet, ...]) -> AccessList:
    """`held`, a list of `ingress`, with the `subnets` of its network in place of `network`.

    What it does not say about the host is said.
    """
    lists = tuple(_plain(one, subnets) for one in held.entries)
    return AccessList(held.direction, tuple(tuple(sorted(set(map(str, one)))) for one in lists))


@lru_cache(maxsize=16384)
def of_host(plain: AccessList, version: int) -> tuple[Box, ...] | None:
    """What the host itself may open in IP `version`; `None` if anything, and no box if nothing.

    `plain` comes from :func:`sources`. The addresses of the boxes say nothing.
    """
    each = [boxes.ports_at(_about_host(one), 0, version) for one in plain.entries]
    found = tuple(boxes.boxes_of(version, (0, 0), boxes.common(each)))
    return None if found == tuple(boxes.boxes_of(version, (0, 0), _ANYTHING)) else found


def lets_neighbours(one: Sequence[str]) -> bool:
    """Whether a list lets in all that sandboxes of the same network may open.

    What it says about prefixes in that network does not count.
    """
    entries = [entry(text) for text in one]
    there = [e for e in _with_words(entries) if e.word == "network"]
    return boxes.ports_at([replace(e, word="") for e in there], 0, 4) == _ANYTHING


def _plain(one: Sequence[Entry], subnets: tuple[Subnet, ...]) -> list[Entry]:
    found: list[Entry] = []
    for e in _with_words(one):
        if e.word == "network":
            found += [replace(e, word="", prefix=subnet) for subnet in subnets]
        else:
            found.append(e)
    return found


def _with_words(one: Sequence[Entry]) -> list[Entry]:
    """The entries of a list with the words that it does not say."""
    if not one or any(e.word and not e.out for e in one):
        return list(one)
    return [*one, _HOST, _NETWORK]


def _about_host(one: Sequence[Entry]) -> list[Entry]:
    return [replace(e, word="") for e in one if e.word == "host" or e.prefix is None]


_ANYTHING: Final = boxes.ports_at([replace(_HOST, word="")], 0, 4)
"""All ports of all kinds of protocols."""
