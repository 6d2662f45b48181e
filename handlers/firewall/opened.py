"""The addresses that names have opened: elements with a time, for who is held to a list with names.

    map opened4   list . address : profile    with a time and the names as a comment
    set ports4    profile . protocol . port   what each profile opens

So an answer is one element for each of its addresses, found by one hash lookup, and all sandboxes
that are held to the same list have it in common. Nothing removes an element but its time.

What is open is remembered here as well, to be put back after somebody has flushed the ruleset. A
process that has not opened it reads it from the kernel.

Source: nft(8), libnftables-json(5).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

from handlers.firewall.classids import classid, number_of
from handlers.firewall.matches import ip_family, span
from handlers.handler import ListStore
from handlers.kernel.nft import Nft, NftError, NotThere
from watcher.model.policy import opening
from watcher.model.policy.opening import OpenAddress, Opening, Profile

NAMES: Final = ("opened4", "opened6", "ports4", "ports6")
"""Their elements come and go with answers, and not with sandboxes."""

MOST_OF_LIST: Final = 4096
"""The most addresses that are open for one list; names of one domain may lead anywhere."""

MOST: Final = 131072
"""With so many addresses open in all, a list gets no more than :data:`FAIR`."""

FAIR: Final = 256

LONGER: Final = 5
"""Seconds that an element stays longer than it has to, so that not every answer writes it anew."""

FULL: Final = 5.0
"""Seconds in which a list gets no more once it had too many, and what has expired is not sought."""

_SIZE: Final = 2 * MOST
_NAMES: Final = 4
"""The most names that are remembered of an address."""

_COMMENT: Final = 128
"""The longest comment of an element (`NFTNL_UDATA_COMMENT_MAXLEN`)."""

_SEEN: Final = 1000
"""More open addresses than these are not compared one by one."""


class TooMany(NftError):
    """So many addresses are open for the list that it gets no more."""


class _Part(NamedTuple):
    """What some names have opened alike."""

    until: float
    names: tuple[str, ...]


type _Key = tuple[int, int, str]
"""IP version, number of the list, and address."""

type _Parts = dict[Profile, _Part]
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


class Opened:
    """What is open at present.

    Args:
        nft: the firewall.
        numbers: numbers profiles.
        versions: returns the IP versions that there are sets for.
        made: returns what differs once any process may have made the table anew.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        nft: Nft,
        numbers: ListStore,
        versions: Callable[[], Collection[int]],
        made: Callable[[], str | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nft = nft
        self._numbers = numbers
        self._versions = versions
        self._made = made
        self._clock = clock
        self._there: dict[_Key, _Parts] = {}
        self._of_list: Counter[int] = Counter()
        self._profiles: dict[tuple[int, Profile], int] = {}
        """The number of each profile whose elements are there, by IP version."""
        self._of: str | None = None
        """The table to which the profiles belong."""
        self._full: dict[int, float] = {}
        """Until when lists that had too many get no more."""
        self._sought = -FULL
        """When was looked for what has expired."""
        self._read = False

    @property
    def few(self) -> bool:
        """Whether all is known, and so little that it may be listed without need."""
        return self._read and len(self._there) <= _SEEN

    def open(self, openings: Iterable[Opening], rebuild: Callable[[], None]) -> list[Opening]:
        """Open `openings` in one transaction; those that are open for long enough cost nothing.

        Args:
            openings: what to open.
            rebuild: makes a missing table anew, with all that is open.

        Returns:
            Those whose address was not open before by that name.

        Raises:
            TooMany: so many are open already.
            NftError: the kernel refused. Then nothing was opened.
        """
        self.read()
        versions = self._versions()
        some = [one for one in openings if one.address.version in versions]
        changes, new = self._planned(some)
        if not changes:
            return []
        count = Counter(key[1] for key in changes if key not in self._there)
        self._refuse_too_many(count)
        try:
            self._nft.run(self._text(changes, replace=True))
            self._take(changes)
        except NotThere:
            before = {key: self._there.get(key) for key in changes}
            self._take(changes)
            try:
                rebuild()
            except BaseException:
                self._take_back(before)
                raise
        return new

    def is_full(self, number: int, addresses: Iterable[str]) -> bool:
        """Whether a list had too many a moment ago, and one of `addresses` would be another.

        So nobody has to judge the addresses of names that somebody asks for without an end.
        """
        if not self._full or self._clock() >= self._full.get(number, 0.0):
            return False
        keys = ((6 if ":" in one else 4, number, one) for one in addresses)
        return any(key not in self._there for key in keys)

    def tidy(self) -> bool:
        """Forget what is open no more, and close ports that the last name for them had open.

        Returns whether anything is open.

        Raises:
            NftError: the kernel refused.
        """
        now = self._clock()
        changes: dict[_Key, _Parts] = {}
        for key, parts in list(self._there.items()):
            left = {profile: part for profile, part in parts.items() if part.until > now}
            if not left:
                self._forget(key)
            elif len(left) < len(parts):
                changes[key] = left
        if changes:
            with suppress(NotThere):  # it comes back with what is remembered
                self._nft.run(self._text(changes, replace=True))
            self._take(changes)
        return bool(self._there)

    def read(self) -> None:
        """Take over what another process has opened, once; what was opened here stays."""
        if self._read:
            return
        now = self._clock()
        profiles: dict[int, Profile] = {}
        for version in (4, 6):
            for number, address, value, seconds, comment in _listed(self._nft, version):
                if value not in profiles:
                    profiles[value] = opening.parsed(self._numbers.document_of(value))
                profile = profiles[value]
                key = (version, number, address)
                if profile and key not in self._there:
                    names = tuple(comment.split(",")) if comment else ()
                    self._take({key: {profile: _Part(now + seconds, names)}})
        self._read = True

    def commands(self) -> str:
        """The commands that put everything back into a new table."""
        self._profiles.clear()
        now = self._clock()
        living = {
            key: {profile: part for profile, part in parts.items() if part.until > now}
            for key, parts in self._there.items()
        }
        return self._text({key: parts for key, parts in living.items() if parts}, replace=False)

    def missing(self, listing: Iterable[Mapping[str, Any]]) -> str:
        """The commands that put back what `listing`, of the whole table, lacks; usually none.

        If they are many, only the one that would stay for longest is looked for. A process that
        has not read them leaves them to the service.
        """
        if not self._read:
            return ""
        now = self._clock()
        if not self.few:
            versions = self._versions()
            last = (
                (_until(parts), key) for key, parts in self._there.items() if key[0] in versions
            )
            until, key = max(last, default=(0.0, (0, 0, "")))
            if until <= now:
                return ""
            name, number, address = f"opened{key[0]}", classid(key[1]), key[2]
            try:
                self._nft.run(f"get element inet watcher {name} {{ {number} . {address} }}\n")
            except NotThere:
                return self.commands()
            return ""
        there = {
            (int(name[-1]), number_of(list_), address) for name, list_, address in _keys(listing)
        }
        lacking = {
            key: {profile: part for profile, part in parts.items() if part.until > now + 1}
            for key, parts in self._there.items()
            if key not in there
        }
        lacking = {key: parts for key, parts in lacking.items() if parts}
        if not lacking:
            return ""
        self._profiles.clear()  # they may be missing as well
        return self._text(lacking, replace=True)

    def clear(self) -> None:
        """Forget everything, as the table is gone for good."""
        self._there.clear()
        self._of_list.clear()
        self._profiles.clear()

    def _planned(self, some: Sequence[Opening]) -> tuple[dict[_Key, _Parts], list[Opening]]:
        """What changes, and which of `some` are open by their names for the first time."""
        now = self._clock()
        changes: dict[_Key, _Parts] = {}
        new = []
        for one in some:
            key = (one.address.version, one.number, str(one.address))
            before = changes.get(key) or self._there.get(key, {})
            parts = {profile: part for profile, part in before.items() if part.until > now}
            part = parts.get(one.profile)
            if part is None:
                new.append(one)
                parts[one.profile] = _Part(now + one.seconds + LONGER, (one.name,))
            else:
                named = one.name in part.names or len(part.names) >= _NAMES
                if named and part.until >= now + one.seconds and len(parts) == len(before):
                    continue
                if not named:
                    new.append(one)
                names = part.names if named else (*part.names, one.name)
                until = max(part.until, now + one.seconds + LONGER)
                parts[one.profile] = _Part(until, names)
            changes[key] = parts
        return changes, new

    def _refuse_too_many(self, count: Mapping[int, int]) -> None:
        full = len(self._there) + sum(count.values()) > MOST
        for number, more in count.items():
            most = FAIR if full else MOST_OF_LIST
            if self._of_list[number] + more > most:
                self._forget_expired()
                if self._of_list[number] + more > most:
                    self._full[number] = self._clock() + FULL
                    raise TooMany(f"{self._of_list[number]} addresses are open for the list")

    def _forget_expired(self) -> None:
        now = self._clock()
        if now < self._sought + FULL:  # it takes a while if much is open
            return
        self._sought = now
        self._full = {number: until for number, until in self._full.items() if until > now}
        for key in [key for key, parts in self._there.items() if _until(parts) <= now]:
            self._forget(key)

    def _forget(self, key: _Key) -> None:
        if self._there.pop(key, None) is not None:
            self._of_list[key[1]] -= 1
            if self._of_list[key[1]] <= 0:
                del self._of_list[key[1]]

    def _take(self, changes: Mapping[_Key, _Parts]) -> None:
        for key in changes:
            if key not in self._there:
                self._of_list[key[1]] += 1
        self._there.update(changes)

    def _take_back(self, before: Mapping[_Key, _Parts | None]) -> None:
        for key, parts in before.items():
            if parts is None:
                self._forget(key)
            else:
                self._there[key] = parts

    def _text(self, changes: Mapping[_Key, _Parts], *, replace: bool) -> str:
        """The commands for `changes`; with `replace`, there may be elements of these keys.

        `add` alone leaves the time and the value of an element as they are (before Linux 6.12).
        Both are one transaction, so no packet meets neither.
        """
        now = self._clock()
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
                    seconds = max(1, math.ceil(_until(parts) - now))
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
        for number, address, _, seconds, comment in _listed(nft, version):
            if number in numbers:
                names = tuple(comment.split(",")) if comment else ()
                one = OpenAddress(ip_address(address), names, int(seconds))
                found.setdefault(number, []).append(one)
    return found


def _until(parts: _Parts) -> float:
    return max(part.until for part in parts.values())


def _profile(parts: _Parts) -> Profile:
    first, *more = parts
    for other in more:
        first = opening.both(first, other)
    return first


def _comment(parts: _Parts) -> str:
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


def _keys(listing: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """The name of the map, the list and the address of each element."""
    for object_ in listing:
        map_ = object_.get("map")
        if map_ is not None and map_["name"] in NAMES:
            for key, _ in map_.get("elem", ()):
                list_, address = key["elem"]["val"]["concat"]
                yield map_["name"], list_, address


def _listed(nft: Nft, version: int) -> Iterator[tuple[int, str, int, float, str]]:
    """List, address, profile, seconds left and comment of each element that the kernel has."""
    for key, value in nft.elements("inet", "map", f"opened{version}"):
        element = key["elem"]
        list_, address = element["val"]["concat"]
        yield (
            number_of(list_), address, number_of(value), element["expires"],
            element.get("comment", ""),
        )  # fmt: skip
