"""The addresses in an answer, as its question leads to them, and how long they hold.

The message is one that `upstream/` has read and put together, so its names and lengths are right.
It is read by hand: dnspython takes 120 ms for 64 KiB of addresses, in which nobody is answered.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

from watcher.names.wire.numbers import AAAA, CNAME, HEADER, IN, LABEL_AT_MOST, POINTER, A

if TYPE_CHECKING:
    from watcher.names.wire.query import Query

ADDRESSES_AT_MOST: Final = 64
"""Of one answer; further ones are not opened. glibc's and musl's programs try them in order."""

_ALIASES_AT_MOST: Final = 16
"""As many as resolvers follow (`MAX_CNAME_CHAIN` of systemd-resolved, 16 of Unbound)."""

_FAMILIES: Final = {A: socket.AF_INET, AAAA: socket.AF_INET6}
_POINTER: Final = POINTER >> 8
_RECORD: Final = struct.Struct("!HHIH")
_number = struct.Struct("!I")

type Addresses = tuple[tuple[str, int], ...]
"""Each with its TTL."""


class Unreadable(Exception):
    """An answer that cannot be read."""


def read(message: bytes, query: Query, most: int) -> tuple[bytes, Addresses]:
    """The answer with no TTL above `most`, and the addresses that it gives to the question.

    These are those of the name that was asked for, and of the names that its aliases lead to.

    Raises:
        Unreadable: it is no answer to `query`.
    """
    try:
        return _read(message, query, most)
    except (IndexError, ValueError, struct.error) as error:
        raise Unreadable from error


def _read(message: bytes, query: Query, most: int) -> tuple[bytes, Addresses]:
    known: dict[int, bytes] = {}
    asked, at = _name(message, HEADER, known)
    at += 4
    aliases: dict[bytes, bytes] = {}
    found: dict[bytes, list[tuple[bytes, int]]] = {}
    lowered: bytearray | None = None
    for _ in range(int.from_bytes(message[6:8])):
        owner, at = _name(message, at, known)
        kind, class_, ttl, size = _RECORD.unpack_from(message, at)
        if ttl > most:
            lowered = lowered or bytearray(message)
            _number.pack_into(lowered, at + 4, most)
            ttl = most
        at += _RECORD.size
        if class_ == IN and kind == CNAME:
            aliases.setdefault(owner, _name(message, at, known)[0])
        elif class_ == IN and kind == query.type:
            found.setdefault(owner, []).append((message[at : at + size], ttl))
        at += size
    addresses: list[tuple[bytes, int]] = []
    name: bytes | None = asked
    for _ in range(_ALIASES_AT_MOST):
        if name is None:
            break
        addresses += found.pop(name, ())
        name = aliases.get(name)
    family = _FAMILIES[query.type]
    told = [
        (socket.inet_ntop(family, packed), ttl) for packed, ttl in addresses[:ADDRESSES_AT_MOST]
    ]
    return message if lowered is None else bytes(lowered), tuple(told)


def _name(message: bytes, at: int, known: dict[int, bytes]) -> tuple[bytes, int]:
    """The name at `at` as it stands in a message, in lower case and whole; and where it ends.

    Where a pointer leads is read once. Each leads back (:class:`watcher.names.upstream.walk.Walk`).
    """
    start = at
    while (size := message[at]) and size <= LABEL_AT_MOST:
        at += 1 + size
    labels = message[start:at].lower()
    if not size:
        return labels, at + 1
    target = (size & LABEL_AT_MOST) << 8 | message[at + 1]
    if size < _POINTER or target >= start:
        raise IndexError
    if target not in known:
        known[target] = _name(message, target, known)[0]
    return labels + known[target], at + 2
