"""How an attempt to open a connection ends: by an answer, by an error at once, or not at all."""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Final, Literal

from tests.support.traffic import ENOUGH, family_of, make_socket

if TYPE_CHECKING:
    from tests.support.host import Place

REJECTED: Final = {4: "EHOSTUNREACH", 6: "EACCES"}
"""What a program sees of an ICMP answer "administratively prohibited" (`icmp_err_convert`)."""

RESET: Final = "ECONNREFUSED"
"""What it sees of the reset that takes its place if there were many of IPv4, and always of IPv6."""


def attempt(
    place: Place,
    address: str,
    port: int,
    protocol: Literal["tcp", "udp"] = "tcp",
    *,
    source: str = "",
    timeout: float = ENOUGH,
) -> str:
    """Who has answered at `address` and `port`; else the name of the error that came instead.

    A reset is told as the error in whose place it comes: tests serve the ports that they try.
    """
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with make_socket(place.netns, family_of(address), kind) as asking:
        asking.settimeout(timeout)
        try:
            if source:
                asking.bind((source, 0))
            asking.connect((address, port))
            asking.send(b"who\n")
            return asking.recv(1024).split()[0].decode()
        except TimeoutError:
            return "nothing"
        except OSError as error:
            name = errno.errorcode[error.errno or 0]
            return REJECTED[4 if "." in address else 6] if name == RESET else name


def opened(place: Place, addresses: list[str], ports: range) -> int:
    """How many datagrams the host lets out to these addresses and ports, each a connection."""
    found = 0
    for address in addresses:
        with make_socket(place.netns, family_of(address), socket.SOCK_DGRAM) as sending:
            for port in ports:
                with contextlib.suppress(OSError):
                    found += sending.sendto(b"x", (address, port)) > 0
    return found
