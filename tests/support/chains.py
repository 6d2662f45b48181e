"""Extension headers of IPv6 (RFC 8200; RFC 4302 for AH), and chains of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, OPTIONS = 0, 43, 44, 51, 60


@dataclass(frozen=True, slots=True)
class Header:
    """An extension header of IPv6.

    Attributes:
        kind: its number in the header before it.
        content: all of it but its first byte, which is the number of the header after it.
    """

    kind: int
    content: bytes


def options(units: int = 0, kind: int = OPTIONS) -> Header:
    """Options that say nothing, for the destination or each hop, of `8 * (units + 1)` bytes."""
    return Header(kind, struct.pack("!B", units) + b"\1\4" + bytes(4) + _pads(units))


def saying(text: str) -> Header:
    """Options for the destination with one that nobody knows and everybody passes over."""
    content = text.encode()
    units = -(-(4 + len(content)) // 8)
    option = struct.pack("!BB", 0x1E, 8 * units - 4) + content.ljust(8 * units - 4, b"\0")
    return Header(OPTIONS, struct.pack("!B", units - 1) + option)


def routing(units: int = 0) -> Header:
    """A routing header of an experimental type with no segments left (RFC 4727)."""
    return Header(ROUTING, struct.pack("!BBB4x", units, 253, 0) + bytes(8 * units))


def fragment(offset: int = 0, *, more: bool = False, number: int = 0x1234) -> Header:
    """The header of a fragment; `offset` counts 8 bytes."""
    return Header(FRAGMENT, struct.pack("!xHI", offset << 3 | more, number))


def authentication(units: int = 4) -> Header:
    """An authentication header of `4 * (units + 2)` bytes."""
    content = struct.pack("!B2xII", units, 0x100, 1) + bytes(4 * units)
    return Header(AUTHENTICATION, content[: 4 * (units + 2) - 1])


def behind(headers: Sequence[Header], protocol: int, content: bytes) -> tuple[int, bytes]:
    """What an IPv6 packet has of `content` behind `headers`: the first number, and the bytes."""
    for header in reversed(headers):
        protocol, content = header.kind, bytes((protocol,)) + header.content + content
    return protocol, content


def _pads(units: int) -> bytes:
    """Options for padding, of 8 bytes each."""
    return struct.pack("!BB6x", 1, 6) * units
