"""What an answer of the name service opens, and which ports of an address a name stands for.

A *profile* is all that one address is opened for: protocols, and the ports of each. The firewall
knows it by a number, so that an open address is one element, however many ports it is open for.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.model.policy.boxes import Box, Ports, united

if TYPE_CHECKING:
    from watcher.model.address import Address

type Profile = tuple[tuple[tuple[int, int], Ports], ...]
"""Ranges of protocols, none of which overlap, each with its ranges of ports; sorted."""

_KIND: Final = "ports "


class Opening(Struct, frozen=True):
    """An address that is open to all who are held to a list, because a name of it leads there.

    Attributes:
        number: stands for the list.
        name: the host name that was asked for.
        address: the address that it has.
        profile: what of it is open.
        seconds: how long, from now on.
    """

    number: int
    name: str
    address: Address
    profile: Profile
    seconds: int


class OpenAddress(Struct, frozen=True):
    """An address that is open at present.

    Attributes:
        address: the address.
        names: the host names that lead there; the first ones, if they are many.
        seconds: how long it stays open, unless it is asked for again.
    """

    address: Address
    names: tuple[str, ...]
    seconds: int


def profile(boxes: Iterable[Box]) -> Profile:
    """All that any of `boxes`, which are of one address, lets pass."""
    return _made((box.protocols, (box.ports,)) for box in boxes)


def both(one: Profile, other: Profile) -> Profile:
    """What either lets pass."""
    return _made((*one, *other))


def _made(parts: Iterable[tuple[tuple[int, int], Ports]]) -> Profile:
    """The same without overlaps, which two names may have that stand for different protocols."""
    some = list(parts)
    edges = sorted({low for (low, _), _ in some} | {high + 1 for (_, high), _ in some})
    found: list[tuple[tuple[int, int], Ports]] = []
    for low, after in pairwise(edges):
        each = (ports for (first, last), ports in some if first <= low <= last)
        ports = united(chain.from_iterable(each))
        if found and found[-1][0][1] == low - 1 and found[-1][1] == ports:
            found[-1] = (found[-1][0][0], after - 1), ports
        elif ports:
            found.append(((low, after - 1), ports))
    return tuple(found)


def document(some: Profile) -> str:
    """The text for which the lease store keeps a number."""
    return _KIND + " ".join(
        f"{_text(protocols)}:{','.join(map(_text, ports))}" for protocols, ports in some
    )


def parsed(text: str) -> Profile:
    """The profile of a text that :func:`document` has returned; else none, which opens nothing."""
    if not text.startswith(_KIND):
        return ()
    parts = (part.partition(":") for part in text.removeprefix(_KIND).split())
    return tuple((_span(p), tuple(map(_span, ports.split(",")))) for p, _, ports in parts)


def _text(span: tuple[int, int]) -> str:
    return f"{span[0]}-{span[1]}"


def _span(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last)
