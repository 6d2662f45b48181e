"""The addresses that names have opened: elements with a time, for who is held to a list with names.

What is open is remembered here as well, to be put back after somebody has flushed the ruleset. A
process that has not opened it reads it from the kernel.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from handlers.firewall.classids import classid, number_of
from handlers.firewall.opened_elements import MOST, Key, Part, Parts, Writer, ends, keys_in, listed
from handlers.handler import ListStore
from handlers.kernel.nft import Nft, NftError, NotThere
from watcher.model.policy import opening
from watcher.model.policy.opening import Opening, Profile

MOST_OF_LIST: Final = 4096
"""The most addresses that are open for one list; names of one domain may lead anywhere."""

FAIR: Final = 256
"""What a list gets at the most if :data:`MOST` addresses are open in all."""

LONGER: Final = 5
"""Seconds that an element stays longer than it has to, so that not every answer writes it anew."""

FULL: Final = 5.0
"""Seconds in which a list gets no more once it had too many, and what has expired is not sought."""

_NAMES: Final = 4
"""The most names that are remembered of an address."""

_SEEN: Final = 1000
"""More open addresses than these are not compared one by one."""


class TooMany(NftError):
    """So many addresses are open for the list that it gets no more."""


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
        self._clock = clock
        self._there: dict[Key, Parts] = {}
        self._of_list: Counter[int] = Counter()
        self._writer = Writer(numbers, versions, made)
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
            self._nft.run(self._writer.commands(changes, self._clock(), replace=True))
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
        changes: dict[Key, Parts] = {}
        for key, parts in list(self._there.items()):
            left = {profile: part for profile, part in parts.items() if part.until > now}
            if not left:
                self._forget(key)
            elif len(left) < len(parts):
                changes[key] = left
        if changes:
            with suppress(NotThere):  # it comes back with what is remembered
                self._nft.run(self._writer.commands(changes, self._clock(), replace=True))
            self._take(changes)
        return bool(self._there)

    def read(self) -> None:
        """Take over what another process has opened, once; what was opened here stays."""
        if self._read:
            return
        now = self._clock()
        profiles: dict[int, Profile] = {}
        for version in (4, 6):
            for number, address, value, seconds, comment in listed(self._nft, version):
                if value not in profiles:
                    profiles[value] = opening.parsed(self._numbers.document_of(value))
                profile = profiles[value]
                key = (version, number, address)
                if profile and key not in self._there:
                    names = tuple(comment.split(",")) if comment else ()
                    self._take({key: {profile: Part(now + seconds, names)}})
        self._read = True

    def commands(self) -> str:
        """The commands that put everything back into a new table."""
        self._writer.forget()
        now = self._clock()
        living = {
            key: {profile: part for profile, part in parts.items() if part.until > now}
            for key, parts in self._there.items()
        }
        some = {key: parts for key, parts in living.items() if parts}
        return self._writer.commands(some, now, replace=False)

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
            last = ((ends(parts), key) for key, parts in self._there.items() if key[0] in versions)
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
            (int(name[-1]), number_of(list_), address) for name, list_, address in keys_in(listing)
        }
        lacking = {
            key: {profile: part for profile, part in parts.items() if part.until > now + 1}
            for key, parts in self._there.items()
            if key not in there
        }
        lacking = {key: parts for key, parts in lacking.items() if parts}
        if not lacking:
            return ""
        self._writer.forget()  # they may be missing as well
        return self._writer.commands(lacking, now, replace=True)

    def clear(self) -> None:
        """Forget everything, as the table is gone for good."""
        self._there.clear()
        self._of_list.clear()
        self._writer.forget()

    def _planned(self, some: Sequence[Opening]) -> tuple[dict[Key, Parts], list[Opening]]:
        """What changes, and which of `some` are open by their names for the first time."""
        now = self._clock()
        changes: dict[Key, Parts] = {}
        new = []
        for one in some:
            key = (one.address.version, one.number, str(one.address))
            before = changes.get(key) or self._there.get(key, {})
            parts = {profile: part for profile, part in before.items() if part.until > now}
            part = parts.get(one.profile)
            if part is None:
                new.append(one)
                parts[one.profile] = Part(now + one.seconds + LONGER, (one.name,))
            else:
                named = one.name in part.names or len(part.names) >= _NAMES
                if named and part.until >= now + one.seconds and len(parts) == len(before):
                    continue
                if not named:
                    new.append(one)
                names = part.names if named else (*part.names, one.name)
                until = max(part.until, now + one.seconds + LONGER)
                parts[one.profile] = Part(until, names)
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
        for key in [key for key, parts in self._there.items() if ends(parts) <= now]:
            self._forget(key)

    def _forget(self, key: Key) -> None:
        if self._there.pop(key, None) is not None:
            self._of_list[key[1]] -= 1
            if self._of_list[key[1]] <= 0:
                del self._of_list[key[1]]

    def _take(self, changes: Mapping[Key, Parts]) -> None:
        for key in changes:
            if key not in self._there:
                self._of_list[key[1]] += 1
        self._there.update(changes)

    def _take_back(self, before: Mapping[Key, Parts | None]) -> None:
        for key, parts in before.items():
            if parts is None:
                self._forget(key)
            else:
                self._there[key] = parts
