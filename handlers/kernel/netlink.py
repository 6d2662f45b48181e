"""A netlink socket that sends many requests at once and reads the kernel's answer to each.

pyroute2 encodes the messages. Its sockets are not used: one request at a time through an event loop
costs three times as much as the kernel's work. Sources: netlink(7), rtnetlink(7), netdevice(7) and
`Documentation/userspace-api/netlink/intro.rst`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import threading
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from handlers.kernel.messages import (
    HEADER,
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSGERR_ATTR_MSG,
    attributes,
    messages,
)

SIOCGIFNAME: Final = 0x8910
SIOCGIFINDEX: Final = 0x8933
SIOCGIFFLAGS: Final = 0x8913
SIOCETHTOOL: Final = 0x8946
ETHTOOL_GLINK: Final = 10
IFF_UP: Final = 1

NETLINK_CAP_ACK: Final = 10
NETLINK_EXT_ACK: Final = 11
NETLINK_GET_STRICT_CHK: Final = 12
SOL_NETLINK: Final = 270

_ERRNO: Final = struct.Struct("=i")
_AS_BYTES: Final = "surrogateescape"
"""How `os.fsencode` encodes a name that is not UTF-8; that takes longer."""

_SEQUENCE: Final = struct.Struct("=I")
_IFREQ: Final = struct.Struct("=16si20x")
_IFREQ_DATA: Final = struct.Struct("16sP16x")
_KIND: Final = struct.Struct("=H")
_KIND_OFFSET: Final = 4
_FLAGS_OFFSET: Final = 6
_SEQUENCE_OFFSET: Final = 8
RECEIVE: Final = 80 << 10
"""Bytes of the buffer for answers: enough for a link with the most alternative names.

These take up to 64 KiB (`rtnl_alt_ifname` in `net/core/rtnetlink.c`); lists come in pieces of
32 KiB.
"""

NETLINK_NETFILTER: Final = 12


MOST: Final = (4096, 4 << 20)
"""The most messages and bytes to read of one list in a sandbox, which its owner can make
arbitrarily long; some 20 ms of work."""


class TooMuch(OSError):
    """The kernel's list is longer than this program reads."""


class NetlinkError(OSError):
    """The kernel refused a request.

    Attributes:
        index: the index of the refused request among those sent together.
    """

    def __init__(self, number: int, text: str, index: int) -> None:
        super().__init__(number, text)
        self.index = index


def own_ports(protocol: int) -> frozenset[int]:
    """The ports of this process's netlink sockets of `protocol`, in the namespace of this thread.

    The kernel gives a socket its port at its first use. Source: `net/netlink/af_netlink.c`,
    `netlink_native_seq_show`.
    """
    own = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            own.add(str(entry.readlink()))
    with Path("/proc/thread-self/net/netlink").open() as table:
        rows = [line.split() for line in table][1:]
    return frozenset(
        int(row[2]) for row in rows if int(row[1]) == protocol and f"socket:[{row[9]}]" in own
    )


class _Room(threading.local):
    """Each thread's room for one answer."""

    def __init__(self) -> None:
        self.buffer = bytearray(RECEIVE)


_ROOM: Final = _Room()


class Netlink:
    """A netlink socket in the network namespace of the thread that makes it.

    Only one thread may use it at a time. It is blocking: the kernel answers within the `sendmsg`.

    Answers are read into one buffer of the thread, and copied. A new large buffer per recv(2),
    shrunk to the answer, fragments glibc's heap: it grew by 0.5 KiB per container.

    Args:
        family: the protocol, as in netlink(7).
        most: the most messages and bytes to read of one list, like :data:`MOST`; `None` for the
            host's own lists.
    """

    def __init__(
        self, family: int = socket.NETLINK_ROUTE, *, most: tuple[int, int] | None = None
    ) -> None:
        self._most = most
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family
        )
        self._sequence = 0
        try:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
            self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, requests: Sequence[bytes]) -> None:
        """Send all `requests` at once and wait until the kernel has carried out the last.

        The kernel continues after a refused request. It answers in order and reports refusals
        unasked, so only the last request asks for an acknowledgement.

        Raises:
            NetlinkError: the first refusal.
        """
        if not requests:
            return
        first, message = self._numbered(requests)
        last = self._sequence
        message[_FLAGS_OFFSET - len(requests[-1])] |= NLM_F_ACK
        self._socket.sendall(message)
        refused: tuple[int, int, memoryview, int] | None = None
        done = 0
        while done < last:
            for kind, flags, sequence, _, body in self._receive():
                if kind != NLMSG_ERROR or sequence < first:
                    continue
                done = sequence
                (number,) = _ERRNO.unpack_from(body)
                if number and refused is None:
                    refused = -number, flags, body, sequence - first
        if refused is not None:
            raise _error(*refused)

    def send_unless_done(self, request: bytes, *done: int) -> None:
        """Send a `request`; the errors `done` mean that there is nothing to do any more.

        Raises:
            NetlinkError: another refusal.
        """
        try:
            self.send([request])
        except NetlinkError as error:
            if error.errno not in done:
                raise

    def dump(self, request: bytes) -> list[memoryview]:
        """The kernel's list for a dump `request`: the body of each message.

        Raises:
            NetlinkError: the kernel refused.
            TooMuch: the list is longer than `most`; the socket must not be used any more.
        """
        return list(self.listed(request))

    def listed(self, request: bytes) -> Iterator[memoryview]:
        """Like :meth:`dump`, but one body at a time, for a list of which little is kept.

        Read it to the end before another use of the socket.
        """
        first, message = self._numbered([request])
        self._socket.sendall(message)
        count = size = 0
        while True:
            for kind, flags, sequence, _, body in self._receive():
                if sequence != first:
                    continue
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    (number,) = _ERRNO.unpack_from(body)
                    raise _error(-number, flags, body, 0)
                count += 1
                size += len(body)
                yield body
            if self._most is not None and (count > self._most[0] or size > self._most[1]):
                (listed,) = _KIND.unpack_from(request, _KIND_OFFSET)
                what = _LISTED.get(listed, "entries")
                limit = f"{self._most[0]} or {self._most[1] >> 20} MiB"
                raise TooMuch(errno.E2BIG, f"its namespace has more {what} than are read ({limit})")

    def get(self, request: bytes) -> memoryview | None:
        """The body of the only answer to `request`; `None` if there is no such thing."""
        first, message = self._numbered([request])
        self._socket.sendall(message)
        while True:
            for kind, flags, sequence, _, body in self._receive():
                if sequence != first:
                    continue
                if kind != NLMSG_ERROR:
                    return body
                (number,) = _ERRNO.unpack_from(body)
                if -number in _ABSENT:
                    return None
                raise _error(-number, flags, body, 0)

    def answers(self, requests: Sequence[bytes]) -> list[memoryview | None]:
        """The body of the only answer to each of `requests`; `None` for each that is refused.

        They are sent together. None of them may be for a list.
        """
        found: list[memoryview | None] = [None] * len(requests)
        if requests:
            first, message = self._numbered(requests)
            self._socket.sendall(message)
            left = len(requests)
            while left:
                for kind, _, sequence, _, body in self._receive():
                    if sequence >= first:
                        left -= 1
                        if kind != NLMSG_ERROR:
                            found[sequence - first] = body
        return found

    def index(self, name: str) -> int:
        """The index of the interface `name`; 0 if there is none.

        Unlike if_nametoindex(3), it needs no new descriptor, so it works when none is left. For
        names that others have chosen, see :mod:`handlers.kernel.foreign_names`.
        """
        try:
            return self._asked(SIOCGIFINDEX, name)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return 0

    def name(self, index: int) -> str:
        """The name of the interface `index`; empty if there is none."""
        try:
            answer = fcntl.ioctl(self._socket, SIOCGIFNAME, _IFREQ.pack(b"", index))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return ""
        name: bytes = _IFREQ.unpack(answer)[0]
        return os.fsdecode(name.rstrip(b"\0"))

    def is_up(self, name: str) -> bool:
        """Whether the interface `name` is set up; `OSError` if it is missing."""
        return bool(self._asked(SIOCGIFFLAGS, name) & IFF_UP)

    def see_carrier(self, name: str) -> None:
        """Make the kernel check at once whether the interface `name`, if it exists, has a carrier.

        Otherwise it checks a little later, and the interface drops packets until then.
        Source: `ethtool_op_get_link` in `net/ethtool/ioctl.c`.
        """
        try:
            fcntl.ioctl(
                self._socket,
                SIOCETHTOOL,
                _IFREQ_DATA.pack(name.encode(errors=_AS_BYTES), _CARRIER_AT),
            )
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def _asked(self, request: int, name: str) -> int:
        """The number that an ioctl(2) of netdevice(7) gives for an interface."""
        asked = _IFREQ.pack(name.encode(errors=_AS_BYTES), 0)
        value: int = _IFREQ.unpack(fcntl.ioctl(self._socket, request, asked))[1]
        return value

    def _numbered(self, requests: Sequence[bytes]) -> tuple[int, bytearray]:
        """The number of the first of `requests`, and all of them with their numbers, joined."""
        first = number = self._sequence + 1
        message = bytearray().join(requests)
        at = _SEQUENCE_OFFSET
        for number, request in enumerate(requests, first):
            _SEQUENCE.pack_into(message, at, number)
            at += len(request)
        self._sequence = number
        return first, message

    def _receive(self) -> Iterator[tuple[int, int, int, int, memoryview]]:
        buffer = _ROOM.buffer
        size = self._socket.recv_into(buffer, 0, socket.MSG_TRUNC)
        if size > RECEIVE:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        return messages(memoryview(buffer[:size]))


_CARRIER: Final = array("I", (ETHTOOL_GLINK, 0))
"""`struct ethtool_value`: the question, and the answer, which nobody reads."""

_CARRIER_AT: Final = _CARRIER.buffer_info()[0]

_LISTED: Final = {18: "links", 22: "addresses", 26: "routes", 34: "rules"}
"""What a list contains, for errors, by the request's type (rtnetlink(7))."""

_ABSENT: Final = (2, 19)
"""ENOENT and ENODEV."""


def _error(number: int, flags: int, body: memoryview, index: int) -> NetlinkError:
    text = os.strerror(number)
    if flags & NLM_F_ACK_TLVS:
        # With NETLINK_CAP_ACK, only the request's header is between the number and these.
        for kind, value in attributes(body, 4 + HEADER.size):
            if kind == NLMSGERR_ATTR_MSG:
                text = f"{text} ({bytes(value).rstrip(bytes(1)).decode(errors='replace')})"
    return NetlinkError(number, text, index)
