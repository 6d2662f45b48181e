"""What the name service and the service tell each other by `answers.sock`: a JSON object a packet.

What the name service tells is no more than a claim: the service checks all of it.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

SOCKET: Final = "answers.sock"
"""In `run_dir`; `SOCK_SEQPACKET`, and root's and the name service's alone."""


class Answered(Struct, frozen=True, rename={"source": "from"}):
    """An answer that waits until its addresses are open; :class:`Reply` says that they are.

    Attributes:
        number: that of the reply, different for each of one connection.
        source: the address of the sandbox that asked, in `network`.
        network: the network in which they are to be open.
        name: the name that was asked for, in lower case, without a dot at its end.
        addresses: all addresses in the answer, and for how many seconds each is to be open.
    """

    number: int
    source: str
    network: str
    name: str
    addresses: tuple[tuple[str, int], ...]


class Rejected(Struct, frozen=True, rename={"source": "from"}):
    """A sandbox asked for the name `rejected`, which is in none of its lists; there is no reply.

    Attributes:
        source, network: as in :class:`Answered`.
    """

    source: str
    network: str
    rejected: str


class Reply(Struct, frozen=True):
    """What came of the answer `number`: it is in force, or `refused` says why it is not."""

    number: int
    refused: str = ""


encode: Final = msgspec.json.Encoder().encode
decode_reply: Final = msgspec.json.Decoder(Reply).decode
