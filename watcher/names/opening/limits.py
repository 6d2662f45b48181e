"""Which names a sandbox may ask for, and in which of its networks an answer opens addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.model.policy.access import MOST_ENTRIES, AccessList
from watcher.model.policy.entries import EVERY_PORT
from watcher.model.policy.remembering import remembering

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from watcher.model.policy.entries import Entry

_IN_NAMES: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-_."
"""What the name of a host is written with; other bytes are in no list, and nobody misses them."""

_LONGEST: Final = 253
"""Bytes of a name with dots between its labels (RFC 1035, section 2.3.4)."""

type Lists = tuple[tuple[str, ...], ...]


class NameList:
    """The names of all lists that count for a sandbox in a network.

    A question costs as much as its name has labels, however long the lists are: whoever asks may do
    so ten thousand times a second. What is allowed is what :meth:`AccessList.asks` says.
    """

    __slots__ = ("_lists",)

    def __init__(self, access: AccessList) -> None:
        each = [[one for one in entries if one.name] for entries in access.entries]
        self._lists = tuple(
            (
                frozenset(one.name.encode() for one in named if not one.out),
                frozenset(one.name.encode() for one in named if _takes_out(one)),
            )
            for named in each
            if named
        )

    def __contains__(self, name: bytes) -> bool:
        """Whether `name`, as :func:`host_name` has it, may be asked for."""
        return all(_has(there, name) and not _has(out, name) for there, out in self._lists)


class Place(Struct, frozen=True, eq=False, gc=False):
    """A sandbox in a network where only names open addresses.

    Attributes:
        network: the network.
        source: an address that the sandbox has there.
        names: which names.
    """

    network: str
    source: str
    names: NameList


class NameLimits(Struct, frozen=True, eq=False):
    """What a sandbox may ask for that has names in the list of one of its networks.

    Attributes:
        places: its networks in which names open addresses.
        free: whether it may ask for any name: it has a network that lets packets out and does not
            limit names.
    """

    places: tuple[Place, ...]
    free: bool

    def opens(self, name: bytes) -> Sequence[Place]:
        """Where an answer for `name` opens addresses; in none if it is in no list."""
        return [place for place in self.places if name in place.names] if name else ()


@remembering(MOST_ENTRIES, lambda _, lists: 1 + sum(map(len, lists)))
def name_list(lists: Lists) -> NameList | None:
    """The names of these lists; `None` if they have none, and so limit none."""
    access = AccessList("egress", lists)
    return NameList(access) if access.named else None


def lists_of(*lists: tuple[str, ...] | None) -> Lists:
    """Those lists that there are, each once."""
    return tuple(dict.fromkeys([one for one in lists if one is not None]))


def host_name(labels: Iterable[bytes]) -> bytes:
    """The name with these labels, which are in lower case; empty if it can be in no list."""
    labels = tuple(labels)
    name = b".".join(labels)
    if len(labels) < 2 or len(name) > _LONGEST or name.count(b".") != len(labels) - 1:
        return b""
    return b"" if name.translate(None, _IN_NAMES) else name


def _takes_out(entry: Entry) -> bool:
    """Whether it takes a name out with all its ports: one of which some are left is asked for."""
    return entry.out and entry.ports == EVERY_PORT and not entry.protocol


def _has(names: frozenset[bytes], name: bytes) -> bool:
    """Whether `name` is one of `names`, or `*.` and a domain that it is in is."""
    if name in names:
        return True
    at = name.find(b".")
    while at >= 0:
        if b"*" + name[at:] in names:
            return True
        at = name.find(b".", at + 1)
    return False
