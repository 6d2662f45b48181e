"""What the words of a list of `ingress` stand for.

`network` stands for the subnets of the network, and `host` for the connections that the host itself
opens. A list that names neither has both in it, unless it is empty (`none`); `!host` and `!network`
take them out again. The host has many addresses, so no prefix stands for it, but `any` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from watcher.model.policy import boxes
from watcher.model.policy.access import MOST_ENTRIES, AccessList, size_of
from watcher.model.policy.boxes import Box
from watcher.model.policy.entries import EVERY_PORT, Entry
from watcher.model.policy.remembering import remembering

if TYPE_CHECKING:
    from watcher.model.address import Subnet

_HOST: Final = Entry(False, None, "", "host", EVERY_PORT, "")
_NETWORK: Final = replace(_HOST, word="network")


@remembering(MOST_ENTRIES, size_of)
def spelled_out(held: AccessList, subnets: tuple[Subnet, ...]) -> AccessList:
    """`held`, a list of `ingress`, with the `subnets` of its network in place of `network`.

    What it does not say about the host is said.
    """
    lists = tuple(_plain(one, subnets) for one in held.entries)
    return AccessList(held.direction, tuple(tuple(sorted(set(map(str, one)))) for one in lists))


@remembering(MOST_ENTRIES, lambda found, plain, _: len(found or ()) + size_of(plain))
def of_host(plain: AccessList, version: int) -> tuple[Box, ...] | None:
    """What the host itself may open in IP `version`; `None` if anything, and no box if nothing.

    `plain` comes from :func:`spelled_out`. The addresses of the boxes say nothing.
    """
    each = [boxes.ports_at(_about_host(one), 0, version) for one in plain.entries]
    found = tuple(boxes.boxes_of(version, (0, 0), boxes.common(each)))
    return None if found == tuple(boxes.boxes_of(version, (0, 0), _ANYTHING)) else found


def lets_in_neighbours(plain: AccessList, subnets: tuple[Subnet, ...]) -> bool:
    """Whether it lets in all that sandboxes in `subnets` may open.

    `plain` comes from :func:`spelled_out`.
    """
    return all(_lets_in(one, subnet) for one in plain.entries for subnet in subnets)


def _lets_in(one: Sequence[Entry], subnet: Subnet) -> bool:
    near = [e for e in one if not e.word and (e.prefix is None or e.prefix.overlaps(subnet))]
    return not any(e.out for e in near) and any(
        e.ports == EVERY_PORT and not e.protocol and _has(e, subnet) for e in near
    )


def _has(e: Entry, subnet: Subnet) -> bool:
    """Whether the prefix of `e` has all of `subnet`, which it overlaps."""
    return e.prefix is None or e.prefix.prefixlen <= subnet.prefixlen


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
