"""Packets of a wanted size that nobody may fragment, from one place to another and back.

The numbers are of `linux/in.h` and `linux/in6.h`; Python has no names for them.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from ipaddress import ip_address
from typing import Final

from tests.support.host import Place
from tests.support.packets import checksum
from tests.support.traffic import ENOUGH, entered, family_of

_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PROBE: Final = 3
"""`IP_PMTUDISC_PROBE`: nothing is fragmented, whatever the sender has learned of the way."""

_HEADERS: Final = {4: 20 + 8, 6: 40 + 8}
_REQUEST: Final = {4: 8, 6: 128}
_REPLY: Final = {4: 0, 6: 129}


def passes(place: Place, address: str, size: int, *, timeout: float = ENOUGH) -> bool:
    """Whether the kernel at `address` answers an echo request of `size` bytes from `place`.

    The IP header is part of the size. The answer has that size as well.
    """
    version = ip_address(address).version
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    with entered(place.netns):
        ping = socket.socket(family_of(address), socket.SOCK_RAW, protocol)
    with ping:
        if version == 4:
            ping.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PROBE)
        else:
            ping.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PROBE)
        body = os.urandom(4 + size - _HEADERS[version])  # identifier, sequence, payload
        head = struct.pack("!BBH", _REQUEST[version], 0, 0)
        if version == 4:  # of ICMPv6, the kernel fills it in
            head = struct.pack("!BBH", _REQUEST[version], 0, checksum(head + body))
        try:
            ping.sendto(head + body, (address, 0))
        except OSError:  # larger than its sender's interface takes
            return False
        return _answered(ping, version, body, time.monotonic() + timeout)


def _answered(ping: socket.socket, version: int, body: bytes, deadline: float) -> bool:
    """Whether the answer with `body` comes before the deadline."""
    while (left := deadline - time.monotonic()) > 0:
        ping.settimeout(left)
        try:
            packet = ping.recv(65535)
        except TimeoutError:
            return False
        message = packet[20:] if version == 4 else packet
        if message[0] == _REPLY[version] and message[4:] == body:
            return True
    return False
