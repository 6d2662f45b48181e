"""Netlink messages that are encoded once; the hot path only fills in the values.

pyroute2 takes as long to encode the messages of one attach as the kernel takes to carry them out.
There are few message layouts. So each layout is encoded once, with marks in place of the values,
and the marks are overwritten in a copy.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

NAME_SIZE: Final = 15
"""Bytes of an interface name without its NUL (`IFNAMSIZ` in `include/uapi/linux/if.h`)."""

NAME: Final = "\x01" * NAME_SIZE
"""The mark of a name; a shorter name is padded with NULs."""

OTHER_NAME: Final = "\x02" * NAME_SIZE
NUMBER: Final = 0x7E57AB1E
"""The mark of a number of 32 bits."""

OTHER_NUMBER: Final = 0x7E57AB2E
MAC, OTHER_MAC = "7e:57:ab:1e:7e:57", "7e:57:ab:2e:7e:57"
IPV4, OTHER_IPV4, THIRD_IPV4 = "126.87.171.30", "126.87.171.46", "126.87.171.62"
IPV6, OTHER_IPV6, THIRD_IPV6 = "7e57:ab1e::7e57", "7e57:ab2e::7e57", "7e57:ab3e::7e57"


class Template:
    """A message with marks in it.

    Args:
        message: the encoded message.
        marks: the mark of each value, by the value's name; the message contains each mark.
    """

    __slots__ = ("_marks", "_message")

    def __init__(self, message: bytes, **marks: bytes) -> None:
        self._marks = {name: (_places(message, mark), len(mark)) for name, mark in marks.items()}
        self._message = bytearray(message)
        for places, length in self._marks.values():
            for place in places:
                self._message[place : place + length] = bytes(length)

    def filled(self, **values: bytes) -> bytes:
        """The message with `values` in place of their marks, each NUL-padded to its length."""
        message = self._message[:]
        for name, value in values.items():
            places, length = self._marks[name]
            size = len(value)
            assert size <= length, "a value is longer than its mark"
            for place in places:
                message[place : place + size] = value
        return bytes(message)


number: Final[Callable[[int], bytes]] = struct.Struct("<I").pack
"""A number in the form of a message: 32 bits, little-endian."""


def mac(value: str) -> bytes:
    """A MAC in the form of a message."""
    return bytes.fromhex(value.replace(":", ""))


def _places(message: bytes, mark: bytes) -> tuple[int, ...]:
    found = []
    place = message.find(mark)
    while place >= 0:
        found.append(place)
        place = message.find(mark, place + len(mark))
    assert found, "a mark is not in its message"
    return tuple(found)
