"""Names of addresses: `2.0.19.172.in-addr.arpa` (RFC 1035, section 3.5; RFC 3596, section 2.5)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

_IN_ADDR: Final = (b"in-addr", b"arpa")
_IP6: Final = (b"ip6", b"arpa")
_OCTETS: Final = {str(number).encode(): number for number in range(256)}
_NIBBLES: Final = {b"%x" % number: number for number in range(16)}

_MAPPED: Final = 0xFFFF
_OF_IPV4: Final = 0xFFFFFFFF

type Span = tuple[int, int, int]
"""A subnet: 4 or 6, and the numbers of its first and last address."""


class Reverse(Struct, frozen=True):
    """What a reverse name stands for.

    Attributes:
        version: 4 or 6.
        first, last: the addresses that begin with what it says, as numbers.
        address: the address, if the name is that of one and no name below it.
    """

    version: int
    first: int
    last: int
    address: str

    def is_in(self, spans: Iterable[Span]) -> bool:
        """Whether all that it stands for is in one of `spans`."""
        return any(
            version == self.version and first <= self.first and self.last <= last
            for version, first, last in spans
        )


def reverse(name: tuple[bytes, ...]) -> Reverse | None:
    """What `name`, which is in lower case, stands for; `None` if it is no reverse name."""
    zone = name[-2:]
    if zone == _IN_ADDR:
        return _read(name[:-2], 4, _OCTETS, 8)
    if zone == _IP6:
        found = _read(name[:-2], 6, _NIBBLES, 4)
        return found if found is None or found.first >> 32 != _MAPPED else _mapped(found)
    return None


def _mapped(found: Reverse) -> Reverse:
    """What a name that begins with `::ffff:0:0/96` says of an IPv4 address (RFC 4291, 2.5.5.2)."""
    if found.last >> 32 != _MAPPED:
        return found
    address = found.address.rpartition(":")[2]
    return Reverse(4, found.first & _OF_IPV4, found.last & _OF_IPV4, address)


def _read(
    parts: tuple[bytes, ...], version: int, numbers: dict[bytes, int], bits: int
) -> Reverse | None:
    width = 32 if version == 4 else 128
    value = known = 0
    for part in reversed(parts):
        number = numbers.get(part)
        if number is None or known == width:
            break
        value = (value << bits) | number
        known += bits
    if not known:
        return None
    rest = width - known
    first = value << rest
    last = first | ((1 << rest) - 1)
    address = ""
    if not rest and len(parts) * bits == width:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        address = socket.inet_ntop(family, value.to_bytes(width // 8))
    return Reverse(version, first, last, address)
