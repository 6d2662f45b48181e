"""What this process knows of the lists in the table.

The boxes of a list are added with the first sandbox that is held to it. They stay when the last one
goes, since it takes long to remove them (`pipapo_drop` in `net/netfilter/nft_set_pipapo.c`). Once
what stays outweighs what is needed, the table is made anew without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Final

from handlers.firewall import egress, ingress
from handlers.firewall.egress import Group
from handlers.handler import ListStore, Notes, Numbers
from handlers.kernel.nft import Element

NOTE: Final = "lists"
"""The note that tells other processes that elements of lists may have gone."""

_SHARED: Final = egress.SHARED | ingress.SHARED

LEAST: Final = 2000
"""So many elements that nobody needs may always stay."""


class Lists:
    """The numbers of lists, and the groups of shared elements that are in the table.

    Attributes:
        there: the groups that are in the table.
        weight: how many elements and lists this process has seen come.
    """

    __slots__ = ("_known", "_notes", "_numbers", "_of", "there", "weight")

    def __init__(self, numbers: ListStore, notes: Notes) -> None:
        self._numbers = numbers
        self._notes = notes
        self._of: str | None = None
        """The note to which the rest belongs."""
        self._known: dict[str, int] = {}
        self.there: set[Group] = set()
        self.weight = 0

    def number_of(self, document: str) -> int:
        """The number of a list, as the lease store has it."""
        number = self._known.get(document)
        if number is None:
            number = self._known[document] = self._numbers.number_of(document)
            self.weight += 1
        return number

    def refresh(self) -> None:
        """Forget what another process may have changed."""
        noted = self._notes.noted(NOTE)
        if noted != self._of:
            self._forget(noted)

    def take_away(self) -> None:
        """Tell all processes that elements of lists go. Call it before they do."""
        noted = str(int(self._notes.noted(NOTE) or 0) + 1)
        self._notes.note(NOTE, noted)
        self._forget(noted)

    def added(self, elements: Iterable[Element]) -> None:
        """Remember what is in the table from now on."""
        for element in elements:
            if element.name in _SHARED:
                self.there.add(group(element))
                self.weight += 1

    def keep_only(self, documents: Iterable[str]) -> None:
        """Keep the numbers of `documents` only. The table must have no element of another."""
        self._numbers.keep_only(documents)

    def _forget(self, noted: str | None) -> None:
        self._of = noted
        self._known = {}
        self.there = set()
        self.weight = 0


class Recorder:
    """Numbers that remember which lists they were asked for."""

    __slots__ = ("_numbers", "documents")

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self.documents: set[str] = set()

    def number_of(self, document: str) -> int:
        """The number that stands for the list of that text."""
        self.documents.add(document)
        return self._numbers.number_of(document)


class Groups:
    """The groups in `there` and some `more`, which may be added; `there` is not copied."""

    __slots__ = ("_there", "more")

    def __init__(self, there: Set[Group]) -> None:
        self._there = there
        self.more: set[Group] = set()

    def __contains__(self, group: object) -> bool:
        return group in self._there or group in self.more


def group(element: Element) -> Group:
    """The shared elements that come together with `element`."""
    return element.name, element.key[0]


def outweighs(surplus: int, needed: int) -> bool:
    """Whether the elements that nobody needs are too many."""
    return surplus > max(LEAST, needed)
