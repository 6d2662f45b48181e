"""What a rejected packet would need in a list, in the form of an entry of one."""

from __future__ import annotations

import socket
from typing import Final

_NAMES: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp", 132: "sctp"}
"""The protocols that entries name, by their numbers (`/etc/protocols`)."""


def entry_of(address: bytes | str, protocol: int, port: int | None) -> str:
    """The entry that has `port` of `address`, or of a word in place of one.

    Of a protocol without a name, it has all of the address.
    """
    name = _NAMES.get(protocol, "")
    if isinstance(address, str):
        host = address
    elif len(address) == 4:
        host = socket.inet_ntop(socket.AF_INET, address)
    else:
        host = f"[{socket.inet_ntop(socket.AF_INET6, address)}]"
    if not name:
        return host
    return f"{host}/{name}" if port is None else f"{host}:{port}/{name}"
