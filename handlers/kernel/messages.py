"""Netlink messages as bytes: encoding and decoding. Source: netlink(7)."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from typing import Any, Final

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_DUMP: Final = 0x300

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLMSGERR_ATTR_MSG: Final = 1
NLM_F_ACK_TLVS: Final = 0x200

HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")


def encode(message: Any, kind: int, flags: int = 0) -> bytes:
    """The bytes of a pyroute2 `message` of netlink type `kind`.

    The sender sets its sequence number and whether the kernel acknowledges it.
    """
    message["header"]["type"] = kind
    message["header"]["flags"] = flags | NLM_F_REQUEST
    message.encode()
    return bytes(message.data)


def request(kind: int, body: bytes, flags: int = 0) -> bytes:
    """A message of netlink type `kind` with a `body` that is encoded already."""
    return HEADER.pack(HEADER.size + len(body), kind, flags | NLM_F_REQUEST, 0, 0) + body


def messages(data: memoryview) -> Iterator[tuple[int, int, int, int, memoryview]]:
    """Type, flags, sequence number, port and body of each message in `data` (netlink(7))."""
    offset, last = 0, len(data) - HEADER.size
    while offset <= last:
        length, kind, flags, sequence, port = HEADER.unpack_from(data, offset)
        yield kind, flags, sequence, port, data[offset + HEADER.size : offset + length]
        offset += (length + 3) & ~3


def attributes(data: memoryview, offset: int) -> Iterator[tuple[int, memoryview]]:
    """Type and payload of each attribute in `data` from `offset` on (netlink(7), `nlattr`)."""
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def chosen(data: memoryview, offset: int, kinds: Collection[int]) -> dict[int, memoryview]:
    """The payloads of the attributes of `kinds`; a link has some fifty, of which few matter."""
    found = {}
    end = len(data)
    unpack = _ATTRIBUTE.unpack_from
    while offset + 4 <= end:
        length, kind = unpack(data, offset)
        if length < 4:
            break
        if kind & 0x3FFF in kinds:
            found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def attribute(kind: int, value: bytes | memoryview) -> bytes:
    """An attribute in the form of a message."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + bytes(value) + bytes(-len(value) % 4)
