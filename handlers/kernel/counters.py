"""Reads the kernel's counters of all links and of their ingress, part by part, without waiting.

Needs no capability. Any process may list links and qdiscs (`rtnetlink_rcv_msg` in
`net/core/rtnetlink.c`). Counters alone are asked for (RTM_GETSTATS): the whole description of a
link is seven times as long. The kernel holds the lock of all links while it writes a part, so parts
are small. Imports none of pyroute2, which takes longer than the work.

Sources: rtnetlink(7), `include/uapi/linux/if_link.h` (`if_stats_msg`, `rtnl_link_stats64`),
`rtnetlink.h` (`tcmsg`), `gen_stats.h` (`gnet_stats_queue`) and `pkt_sched.h`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from typing import Final

from msgspec import Struct

from handlers.kernel.messages import HEADER, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR

_NLM_F_DUMP_INTR: Final = 0x10
_SIOCGIFNAME: Final = 0x8910

_LINK_64: Final = 1
"""IFLA_STATS_LINK_64, as a number of an attribute and as a bit of the filter."""


class _List(Struct, frozen=True):
    """A list of the kernel's: the type of message and the body that ask for it."""

    kind: int
    request: bytes


_LINKS: Final = _List(94, struct.pack("=BxHII", 0, 0, 0, _LINK_64))
"""By RTM_GETSTATS."""
_QDISCS: Final = _List(38, struct.pack("=BxxxiIII", 0, 0, 0, 0, 0))
"""By RTM_GETQDISC."""

_INDEX_OFFSET: Final = 4
"""Of the interface, in `if_stats_msg` and in `tcmsg`."""
_HANDLE_OFFSET: Final = 8
_STATS_SIZE, _QDISC_SIZE = 12, 20
_COUNTERS: Final = struct.Struct("=8Q")

_INGRESS: Final = 0xFFFF0000
"""The handle of the qdiscs `ingress` and `clsact`; a link has one of them at most."""
_TCA_STATS2, _TCA_STATS_QUEUE = 7, 3
_DROPS_OFFSET: Final = 8

_ATTRIBUTE: Final = struct.Struct("=HH")
_NUMBER: Final = struct.Struct("=I")
_ERROR: Final = struct.Struct("=i")
_IFREQ: Final = struct.Struct("=16si20x")
_PART: Final = 16 << 10
_ATTEMPTS: Final = 2

type Counts = tuple[int, int, int, int, int, int, int, int]
"""Of a link: packets received and sent, bytes received and sent, errors of receiving and sending,
packets dropped of those received and of those to send."""


class Part(Struct):
    """Some of the answer to :meth:`Counters.ask`.

    Attributes:
        links: index and counters of each link in it.
        anew: whether the list of links begins here. It may begin more than once, because links may
            come and go meanwhile; what was there before is void then.
        last: whether the answer ends here.
    """

    links: list[tuple[int, Counts]]
    anew: bool = False
    last: bool = False


class Counters:
    """The counters of the links in the network namespace of the thread that makes it.

    Attributes:
        drops: what filters at the ingress of a link dropped, by index, once there is a link in the
            answer. The kernel's list of qdiscs may lack some while links come and go, so a link
            that is not in it keeps its number.
    """

    def __init__(self) -> None:
        self.drops: dict[int, int] = {}
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        self._socket.bind((0, 0))
        self._buffer = bytearray(_PART)
        self._sequence = 0
        self._list = _QDISCS
        self._attempts = 0
        self._interrupted = False
        self._anew = False
        self._indices: set[int] = set()

    def fileno(self) -> int:
        """The descriptor, readable when :meth:`read` has something to do."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self) -> None:
        """Ask for all counters. The answer to the last question has been read to its end."""
        self._attempts = 0
        self._send(_QDISCS)

    def read(self) -> Part:
        """Read the part of the answer that is there, if there is one.

        Raises:
            OSError: the kernel refused. There is no more to read.
        """
        part = Part([])
        try:
            size = self._socket.recv_into(self._buffer, 0, socket.MSG_TRUNC)
        except BlockingIOError:
            return part
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self._interrupted = True  # the kernel had no room, and may have left something out
            return part
        if size > _PART:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        part.anew, self._anew = self._anew, False
        if self._take(size, part):
            self._end(part)
        return part

    def name(self, index: int) -> str:
        """The name of the interface `index` now; empty if there is none."""
        try:
            answer = fcntl.ioctl(self._socket, _SIOCGIFNAME, _IFREQ.pack(b"", index))
        except OSError:
            return ""
        return answer[: answer.index(0)].decode(errors="replace")

    def _send(self, asked: _List) -> None:
        self._list = asked
        self._interrupted = False
        if asked is _LINKS:
            self._anew = True
            self._indices.clear()
        self._sequence += 1
        size = HEADER.size + len(asked.request)
        header = HEADER.pack(size, asked.kind, NLM_F_REQUEST | NLM_F_DUMP, self._sequence, 0)
        self._socket.send(header + asked.request)

    def _end(self, part: Part) -> None:
        """Ask for what comes next: a list that has changed meanwhile, but not for ever."""
        self._attempts += 1
        if self._interrupted and self._attempts < _ATTEMPTS:
            self._send(self._list)
        elif self._list is _QDISCS:
            self._attempts = 0
            self._send(_LINKS)
        else:
            self.drops = {i: drops for i, drops in self.drops.items() if i in self._indices}
            part.last = True

    def _take(self, size: int, part: Part) -> bool:
        """Read the messages in the buffer; whether the last of the list is among them."""
        buffer, links = self._buffer, self._list is _LINKS
        unpack_handle = _NUMBER.unpack_from
        offset = 0
        while offset + HEADER.size <= size:
            length, kind, flags, sequence, _ = HEADER.unpack_from(buffer, offset)
            body, end = offset + HEADER.size, offset + length
            offset += (length + 3) & ~3
            if sequence != self._sequence:
                continue
            if flags & _NLM_F_DUMP_INTR:
                self._interrupted = True
            if kind == NLMSG_DONE:
                return True
            if kind == NLMSG_ERROR:
                number = -_ERROR.unpack_from(buffer, body)[0]
                raise OSError(number, os.strerror(number))
            if links:
                self._take_link(body, end, part)
            elif unpack_handle(buffer, body + _HANDLE_OFFSET)[0] == _INGRESS:
                self._take_qdisc(body, end)
        return False

    def _take_link(self, offset: int, end: int, part: Part) -> None:
        (index,) = _NUMBER.unpack_from(self._buffer, offset + _INDEX_OFFSET)
        found, _ = self._find(_LINK_64, offset + _STATS_SIZE, end)
        if found:
            self._indices.add(index)
            part.links.append((index, _COUNTERS.unpack_from(self._buffer, found)))

    def _take_qdisc(self, offset: int, end: int) -> None:
        queue, _ = self._find(_TCA_STATS_QUEUE, *self._find(_TCA_STATS2, offset + _QDISC_SIZE, end))
        if queue:
            (index,) = _NUMBER.unpack_from(self._buffer, offset + _INDEX_OFFSET)
            (self.drops[index],) = _NUMBER.unpack_from(self._buffer, queue + _DROPS_OFFSET)

    def _find(self, wanted: int, offset: int, end: int) -> tuple[int, int]:
        """Where the attribute `wanted` has its payload, and where that ends; zeros if nowhere."""
        while offset + _ATTRIBUTE.size <= end:
            length, kind = _ATTRIBUTE.unpack_from(self._buffer, offset)
            if kind & 0x3FFF == wanted:
                return offset + _ATTRIBUTE.size, offset + length
            if length < _ATTRIBUTE.size:
                break
            offset += (length + 3) & ~3
        return 0, 0
