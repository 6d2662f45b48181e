"""What a program is told that opens a connection."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Literal

from tests.support import traffic
from tests.support.host import Place

if TYPE_CHECKING:
    from tests.support.host import Container, Host

REJECTED = "EHOSTUNREACH"
"""What Linux makes of ICMP's "administratively prohibited" (`icmp_err_convert`)."""

REJECTED6 = "EACCES"
"""The same of ICMPv6 (`tab_unreach` in `net/ipv6/icmp.c`)."""

RESET = "ECONNREFUSED"
"""What a reset is to who connects by TCP."""

NO = (REJECTED, RESET)
"""What who connects by TCP and IPv4 may hear: a reset if there were many."""


def dial(
    where: Container | Place,
    address: str,
    port: int,
    protocol: Literal["tcp", "udp"] = "tcp",
    *,
    timeout: float = traffic.ENOUGH,
) -> str:
    """The error of a connection to `address`; `open` if it is answered, `silence` if nobody does.

    Of UDP it is the error after a datagram.
    """
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    netns = where.netns if isinstance(where, Place) else where.place.netns
    made = traffic.make_socket(netns, traffic.family_of(address), kind)
    with made:
        made.settimeout(timeout)
        try:
            made.connect((address, port))
            if protocol == "udp":
                made.send(b"?")
            made.recv(100)
        except TimeoutError:
            return "silence"
        except OSError as error:
            return errno.errorcode[error.errno or 0]
    return "open"


def talkative(host: Host) -> None:
    """The host answers each rejected packet, also if they come fast (icmp(7), `icmp_ratelimit`)."""
    for name in ("ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"):
        host.command("sh", "-c", f"echo 0 > /proc/sys/net/{name}")
