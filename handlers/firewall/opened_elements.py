"""The elements of addresses that names have opened, as nft has them.

    map opened4   list . address : profile    with a time and the names as a comment
    set ports4    profile . protocol . port   what each profile opens

So an answer is one element for each of its addresses, found by one hash lookup, and all sandboxes
that are held to the same list have it in common. Nothing removes an element but its time.

Source: nft(8), libnftables-json(5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

from handlers.firewall.classids import classid, number_of
from handlers.firewall.matches import ip_family, span
from handlers.handler import ListStore
from handlers.kernel.nft import Nft
from watcher.model.policy import opening
from watcher.model.policy.opening import OpenAddress, Profile

NAMES: Final = ("opened4", "opened6", "ports4", "ports6")
"""Their elements come and go with answers, and not with sandboxes."""

MOST: Final = 131072
"""So many addresses may be open in all before each list gets few (:mod:`.opened`)."""

_SIZE: Final = 2 * MOST
_COMMENT: Final = 128
"""The longest comment of an element (`NFTNL_UDATA_COMMENT_MAXLEN`)."""


class Part(NamedTuple):
    """What some names have opened alike."""

    until: float
    names: tuple[str, ...]


type Key = tuple[int, int, str]
"""IP version, number of the list, and address."""

type Parts = dict[Profile, Part]
"""Names may open the same address for different ports, and for different times."""


def sets(versions: Sequence[int]) -> Iterator[str]:
    """The sets and maps, for these IP versions."""
    for v in versions:
        yield (
            f"map opened{v} {{ type classid . ipv{v}_addr : classid;"
            f" size {_SIZE}; flags timeout; }}"
        )
        yield f"set ports{v} {{ type classid . inet_proto . inet_service; flags interval; }}"


def rules(version: int, passed: str) -> Iterator[str]:
    """The rules after those for prefixes; `passed` is the verdict.

    The priority is the number of the list before, and that of a profile afterwards. No number is
    both.
    """
    ip = ip_family(version)
    yield f"    meta priority set meta priority . {ip} daddr map @opened{version}"
    yield f"    meta priority . meta l4proto . th dport @ports{version} {passed}"


class Writer:
    """Writes what is open as commands, and knows which profiles the table has.

    Args:
        numbers: numbers profiles.
        versions: returns the IP versions that there are sets for.
        made: returns what differs once any process may have made the table anew.
    """

    def __init__(
        self,
        numbers: ListStore,
        versions: Callable[[], Collection[int]],
        made: Callable[[], str | None],
    ) -> None:
        self._numbers = numbers
        self._versions = versions
        self._made = made
        self._profiles: dict[tuple[int, Profile], int] = {}
        """The number of each profile whose elements are there, by IP version."""
        self._of: str | None = None
        """The table to which the profiles belong."""

    def forget(self) -> None:
        """The table may have no profile."""
        self._profiles.clear()

    def commands(self, changes: Mapping[Key, Parts], now: float, *, replace: bool) -> str:
        """The commands for `changes`; with `replace`, there may be elements of these keys.

        `add` alone leaves the time and the value of an element as they are (before Linux 6.12).
        Both are one transaction, so no packet meets neither.
        """
        if (made := self._made()) != self._of:
            self._of = made
            self._profiles.clear()
        text = []
        for version in self._versions():
            keys: list[str] = []
            elements: list[str] = []
            for (of, number, address), parts in changes.items():
                if of == version:
                    profile = _profile(parts)
                    value = self._profiles.get((version, profile))
                    if value is None:
                        value = self._numbers.number_of(opening.document(profile))
                        text.append(_ports(version, value, profile))
                        self._profiles[version, profile] = value
                    key = f"{classid(number)} . {address}"
                    keys.append(key)
                    seconds = max(1, math.ceil(ends(parts) - now))
                    comment = _comment(parts)
                    elements.append(
                        f'{key} timeout {seconds}s comment "{comment}" : {classid(value)}'
                    )
            if keys and replace:
                text.append(
                    f"destroy element inet watcher opened{version} {{ {', '.join(keys)} }}\n"
                )
            if keys:
                text.append(
                    f"add element inet watcher opened{version} {{ {', '.join(elements)} }}\n"
                )
        return "".join(text)


def by_names(numbers: Collection[int]) -> dict[int, list[OpenAddress]]:
    """What is open at present for the lists of these `numbers`, as the kernel has it.

    Raises:
        OSError: this process may not see it.
    """
    found: dict[int, list[OpenAddress]] = {}
    nft = Nft()
    for version in (4, 6):
        for number, address, _, seconds, comment in listed(nft, version):
            if number in numbers:
                names = tuple(comment.split(",")) if comment else ()
                one = OpenAddress(ip_address(address), names, int(seconds))
                found.setdefault(number, []).append(one)
    return found


def ends(parts: Parts) -> float:
    """When the last of them ends."""
    return max(part.until for part in parts.values())


def keys_in(listing: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """The name of the map, the list and the address of each element."""
    for object_ in listing:
        map_ = object_.get("map")
        if map_ is not None and map_["name"] in NAMES:
            for key, _ in map_.get("elem", ()):
                list_, address = key["elem"]["val"]["concat"]
                yield map_["name"], list_, address


def listed(nft: Nft, version: int) -> Iterator[tuple[int, str, int, float, str]]:
    """List, address, profile, seconds left and comment of each element that the kernel has."""
    for key, value in nft.elements("inet", "map", f"opened{version}"):
        element = key["elem"]
        list_, address = element["val"]["concat"]
        yield (
            number_of(list_), address, number_of(value), element["expires"],
            element.get("comment", ""),
        )  # fmt: skip


def _profile(parts: Parts) -> Profile:
    first, *more = parts
    for other in more:
        first = opening.both(first, other)
    return first


def _comment(parts: Parts) -> str:
    """The names, as many as a comment has room for; who opens has made sure that they are names."""
    names = dict.fromkeys(name for part in parts.values() for name in part.names)
    text = ""
    for name in names:
        longer = f"{text},{name}" if text else name
        if len(longer) > _COMMENT:
            return text or name[-_COMMENT:]
        text = longer
    return text


def _ports(version: int, value: int, profile: Profile) -> str:
    elements = ", ".join(
        f"{classid(value)} . {span(protocols)} . {span(ports)}"
        for protocols, spans in profile
        for ports in spans
    )
    return f"add element inet watcher ports{version} {{ {elements} }}\n"
