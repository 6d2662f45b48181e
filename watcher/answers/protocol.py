"""What the name service and the service say to each other by `answers.sock`, a packet of JSON each.

{"number": 7, "from": "172.19.0.5", "network": "default", "name": "api.example.org",
 "addresses": [["192.0.2.5", 60]]}                   may this answer leave?
{"number": 7}                                        it may: what of it is open is in force
{"number": 7, "refused": "why"}                      it may not
{"from": "172.19.0.5", "network": "default", "rejected": "example.com"}
                                                     it was asked for a name in no list
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

LONGEST: Final = 32768
"""The most bytes of a packet."""

MOST_ADDRESSES: Final = 256
"""The most addresses of an answer."""

MAX_TTL: Final = 86400
"""Seconds that an address is open at the most; the name service hands out no longer TTL."""

MIN_TTL: Final = 60
"""Seconds that an address is open at the least."""

type _Address = Annotated[str, Meta(max_length=45)]
type _Name = Annotated[str, Meta(max_length=255)]
type _Ttl = Annotated[int, Meta(ge=0, lt=2**32)]
type _Records = Annotated[tuple[tuple[_Address, _Ttl], ...], Meta(max_length=MOST_ADDRESSES)]


class Told(Struct, frozen=True, omit_defaults=True):
    """What the name service says. It is no more than a claim: the service checks all of it.

    Attributes:
        sender: the address that has asked.
        network: the network in which it has that address.
        number: of an answer that waits; it is repeated in the reply.
        name: what was asked for, in lower case, without a last dot.
        addresses: the addresses of the answer, each with its TTL.
        rejected: a name that was refused, as no list has it; then there is no reply.
    """

    sender: _Address = msgspec.field(name="from")
    network: Annotated[str, Meta(max_length=64)]
    number: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    name: _Name = ""
    addresses: _Records = ()
    rejected: _Name = ""


class Reply(Struct, frozen=True, omit_defaults=True):
    """What the service replies; `refused` says why the answer must not leave, if it must not."""

    number: int
    refused: str = ""


decode: Final = msgspec.json.Decoder(Told).decode
decode_reply: Final = msgspec.json.Decoder(Reply).decode
encode: Final = msgspec.json.Encoder().encode
