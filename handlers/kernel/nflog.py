"""Packets that rules of nftables log to a group (NFLOG), with what of them tells who sent what.

Sources: `include/uapi/linux/netfilter/nfnetlink_log.h`, `net/netfilter/nfnetlink_log.c`; RFC 791,
RFC 8200 (4) for the headers.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from msgspec import Struct

from handlers.kernel.messages import (
    HEADER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    attribute,
    chosen,
    messages,
)
from handlers.kernel.netlink import NETLINK_NETFILTER

_PACKET, _CONFIG = 4 << 8, (4 << 8) | 1
"""NFNL_SUBSYS_ULOG with NFULNL_MSG_*."""
_GENERIC: Final = struct.Struct("!BBH")
"""`struct nfgenmsg`; its last field is the group."""
_ERRNO: Final = struct.Struct("=i")
_COMMAND, _MODE, _BUFFER, _TIMEOUT, _THRESHOLD = range(1, 6)
_BIND: Final = b"\1"
_PAYLOAD, _PREFIX = 9, 10
_WANTED: Final = frozenset((_PAYLOAD, _PREFIX))

RANGE: Final = 128
"""Bytes that are read of a packet: an IPv6 header, and some extension headers before the ports."""

_BATCH: Final = 32
"""Packets of one message from the kernel, at most."""
_WITHIN: Final = 10
"""Hundredths of a second that a packet may wait for others."""
_KERNEL_BUFFER: Final = 32 << 10
_RECEIVE: Final = 256 << 10
"""Bytes that wait for this program at most; the kernel drops more than that."""

_PORTED: Final = frozenset((6, 17, 33, 132, 136))
"""Protocols that begin with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite."""
_EXTENSIONS: Final = frozenset((0, 43, 60, 135, 139, 140))
"""IPv6 extension headers whose second byte is their length in units of 8 bytes."""
_FRAGMENT, _AUTHENTICATION = 44, 51
_MOST_EXTENSIONS: Final = 8

_PROC: Final = Path("/proc/net/netfilter/nfnetlink_log")


class Taken(OSError):
    """Another program reads the group."""


class Logged(Struct, frozen=True):
    """A packet that a rule has logged.

    Attributes:
        prefix: the prefix of the rule.
        source, destination: its addresses, 4 or 16 bytes.
        protocol: the number of its protocol, behind extension headers.
        port: its destination port; `None` if it has none.
    """

    prefix: str
    source: bytes
    destination: bytes
    protocol: int
    port: int | None


@cache
def is_there() -> bool:
    """Whether the kernel can log to groups. The kernel loads its module when it is asked.

    A rule that logs cannot be made without it.
    """
    if not _PROC.exists():
        with suppress(OSError), _opened() as made:
            made.send(_config(0, b""))
    return _PROC.exists()


def listen(group: int) -> socket.socket:
    """A socket that gets what is logged to `group`, in the network namespace of this thread.

    Raises:
        Taken: another program has the group.
        OSError: the kernel refuses it.
    """
    made = _opened()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE)
        try:
            _ask(made, group, attribute(_COMMAND, _BIND))
        except OSError as error:
            # EPERM is another socket's group (`nfulnl_recv_config`).
            if error.errno in (errno.EPERM, errno.EBUSY):
                raise Taken(error.errno, f"another program reads log group {group}") from error
            raise
        mode = struct.pack("!IBx", RANGE, 2)  # NFULNL_COPY_PACKET
        bounds = ((_BUFFER, _KERNEL_BUFFER), (_TIMEOUT, _WITHIN), (_THRESHOLD, _BATCH))
        numbers = b"".join(attribute(kind, struct.pack("!I", n)) for kind, n in bounds)
        _ask(made, group, attribute(_MODE, mode) + numbers)
    except BaseException:
        made.close()
        raise
    made.setblocking(False)
    return made


def read(heard: socket.socket, buffer: bytearray) -> Iterator[Logged]:
    """The packets of one message from the kernel; those that cannot be read are left out.

    Raises:
        BlockingIOError: there is none at present.
        OSError: some were lost (ENOBUFS).
    """
    size = heard.recv_into(buffer)
    for kind, _, _, _, body in messages(memoryview(buffer)[:size]):
        if kind == _PACKET and (packet := logged(body)) is not None:
            yield packet


def logged(body: memoryview) -> Logged | None:
    """The packet in the body of a message; `None` if it cannot be read."""
    found = chosen(body, _GENERIC.size, _WANTED)
    packet = bytes(found.get(_PAYLOAD, b""))
    prefix = bytes(found.get(_PREFIX, b"")).rstrip(b"\0").decode("ascii", "replace")
    ends = _ends(packet)
    if ends is None:
        return None
    return Logged(prefix, *ends)


def _ends(packet: bytes) -> tuple[bytes, bytes, int, int | None] | None:
    """Source, destination, protocol and destination port; `None` if it is no IP packet."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        first = not int.from_bytes(packet[6:8]) & 0x1FFF
        protocol, offset = packet[9], 4 * (packet[0] & 0xF)
        port = _port(packet, protocol, offset) if first else None
        return packet[12:16], packet[16:20], protocol, port
    if version == 6 and len(packet) >= 40:
        protocol, port = _behind(packet)
        return packet[8:24], packet[24:40], protocol, port
    return None


def _behind(packet: bytes) -> tuple[int, int | None]:
    """Protocol and destination port behind the extension headers of an IPv6 packet."""
    protocol, offset, first = packet[6], 40, True
    for _ in range(_MOST_EXTENSIONS):
        if len(packet) < offset + 8:
            break
        if protocol in _EXTENSIONS:
            size = 8 * (packet[offset + 1] + 1)
        elif protocol == _AUTHENTICATION:
            size = 4 * (packet[offset + 1] + 2)
        elif protocol == _FRAGMENT:
            size, first = 8, first and not int.from_bytes(packet[offset + 2 : offset + 4]) & 0xFFF8
        else:
            break
        protocol, offset = packet[offset], offset + size
    return protocol, _port(packet, protocol, offset) if first else None


def _port(packet: bytes, protocol: int, offset: int) -> int | None:
    if protocol not in _PORTED or len(packet) < offset + 4:
        return None
    return int.from_bytes(packet[offset + 2 : offset + 4])


def _opened() -> socket.socket:
    made = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
    )
    made.bind((0, 0))
    return made


def _config(group: int, content: bytes) -> bytes:
    body = _GENERIC.pack(socket.AF_UNSPEC, 0, group) + content
    flags = NLM_F_REQUEST | NLM_F_ACK
    return HEADER.pack(HEADER.size + len(body), _CONFIG, flags, 1, 0) + body


def _ask(made: socket.socket, group: int, content: bytes) -> None:
    """Send one request for `group`, and wait for the kernel's answer, which is there at once.

    Packets that were logged meanwhile are dropped.
    """
    made.send(_config(group, content))
    while True:
        for kind, _, _, _, body in messages(memoryview(made.recv(1 << 16))):
            if kind == NLMSG_ERROR:
                number = -_ERRNO.unpack_from(body)[0]
                if number:
                    raise OSError(number, f"log group {group} cannot be read")
                return


def reader(group: int) -> int:
    """The inode of the socket that reads `group` in this network namespace; 0 if none does.

    Sources: `seq_show` in `net/netfilter/nfnetlink_log.c`, `netlink_native_seq_show` in
    `net/netlink/af_netlink.c`.
    """
    rows = (line.split() for line in _PROC.read_text().splitlines())
    port = next((row[1] for row in rows if row[0] == str(group)), "")
    sockets = (line.split() for line in Path("/proc/net/netlink").read_text().splitlines()[1:])
    netfilter = str(NETLINK_NETFILTER)
    return next((int(row[9]) for row in sockets if row[1:3] == [netfilter, port]), 0)
