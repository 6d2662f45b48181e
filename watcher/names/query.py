"""A question as it came, in the terms in which it is answered or passed on."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

UDP_WITHOUT_EDNS: Final = 512
"""The longest answer by UDP to who does not say otherwise (RFC 1035, section 4.2.1)."""

UDP_AT_MOST: Final = 1232
"""The longest answer by UDP to anybody: it is not fragmented on its way (DNS flag day 2020)."""

TCP_AT_MOST: Final = 65535
"""The longest answer by TCP: its length has two bytes."""


class Query(Struct, frozen=True):
    """One question.

    Attributes:
        message: the whole message, as it came.
        id: its first two bytes.
        question: name, type and class as they stand in it; the name is in the case of who asks.
        name: the name's labels in lower case, without the root.
        type, class_: numbers, as in the registries of IANA.
        recursion: RD, it wants to know what others have to be asked for.
        authentic: AD, it understands that bit of an answer (RFC 6840, section 5.7).
        checked: CD, it checks signatures itself.
        edns: whether it has an OPT record (RFC 6891).
        dnssec: DO, it wants signatures (RFC 3225).
        most: bytes of the longest answer that it takes.
    """

    message: bytes
    id: bytes
    question: bytes
    name: tuple[bytes, ...]
    type: int
    class_: int
    recursion: bool
    authentic: bool
    checked: bool
    edns: bool
    dnssec: bool
    most: int
