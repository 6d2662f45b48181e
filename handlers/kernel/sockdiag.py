"""The host ports that processes listen on, read from the kernel's socket diagnostics.

Source: sock_diag(7), `include/uapi/linux/inet_diag.h`.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from handlers.kernel.messages import NLM_F_DUMP, NLM_F_REQUEST, attributes
from handlers.kernel.netlink import Netlink, NetlinkError, TooMuch
from watcher.model.address import Address
from watcher.model.request import PortMap, Protocol

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_TCPDIAG_GETSOCK: Final = 18
"""Lists the TCP sockets of both IP versions (`inet_diag_dump_compat` in `net/ipv4/inet_diag.c`), at
the cost of those of one."""
_SKV6ONLY, _LOCALS = 11, 12
_SOCKADDR_STORAGE: Final = 128
_LARGEST: Final = 1024
"""Bytes of an answer that are enough on average: one has 80 to 200, of SCTP perhaps more."""
_TCP_LISTEN, _TCP_CLOSE = 10, 7
_NUMBERS: Final = {"udp": socket.IPPROTO_UDP, "sctp": 132}
_REQ_BYTECODE, _JMP, _S_GE, _S_LE, _AUTO = 1, 1, 2, 3, 6
# netlink header; family, protocol, extensions, padding, states; then `struct inet_diag_sockid`:
# source and destination port, source and destination address, interface, cookie; then the header of
# an attribute, in which a filter of some `struct inet_diag_bc_op` follows. For TCP: family, prefix
# lengths, extensions; the same; states, a field without use; the same.
_REQUEST: Final = struct.Struct("=IHHIIBBBxI2s2s16s16sIIIHH")
_TCP_REQUEST: Final = struct.Struct("=IHHIIBBBB2s2s16s16sIIIIIHH")
_BETWEEN: Final = struct.Struct("=BBHBBHBBHBBH")
_EXPLICIT: Final = struct.Struct("=BBHBBH")
_INODE: Final = slice(68, 72)

type Listeners = Mapping[str, Mapping[int, Sequence[ListeningSocket]]]
"""Sockets that listen by protocol and port, in the order of the ports."""


class ListeningSocket(NamedTuple):
    """A socket that listens on a port.

    Attributes:
        address: the address that it is bound to.
        port: its port.
        both: whether it serves both IP versions.
        inode: its number on sockfs, as in the links of `/proc/<pid>/fd`.
    """

    address: Address
    port: int
    both: bool
    inode: int = 0


class SockDiag:
    """Asks the kernel, in the network namespace of the thread that makes it.

    Args:
        most: about the most sockets in one list to read, as users of the host can make very many;
            `None` for all. The sockets of TCP are one list, others one for each IP version.

    Attributes:
        complete: whether there were never more than `most`.
    """

    def __init__(self, *, most: int | None = None) -> None:
        self._most = None if most is None else (most, most * _LARGEST)
        self._netlink = Netlink(_NETLINK_SOCK_DIAG, most=self._most)
        self.complete = True

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def first_taken(self, ports: Sequence[PortMap]) -> tuple[PortMap, ListeningSocket] | None:
        """The first of `ports` that a process of the host listens on, and its socket."""
        listeners: dict[str, Mapping[int, Sequence[ListeningSocket]]] = {}
        for protocol in sorted({port.protocol for port in ports}):
            if found := self.listening(protocol, *span_of(ports, protocol)):
                listeners[protocol] = found
        return next(clashing(ports, listeners), None) if listeners else None

    def taken(self, protocol: Protocol, low: int, high: int) -> set[int]:
        """The ports from `low` to `high` that a process of the host listens on, on any address."""
        return set(self.listening(protocol, low, high))

    def listening(
        self, protocol: str, low: int, high: int, *, explicit: bool = False
    ) -> dict[int, list[ListeningSocket]]:
        """The sockets that listen on a port from `low` to `high`, by their port, in its order.

        Those of one port are in the order of their IP versions.
        An unconnected UDP socket counts as listening. With `explicit`, one does not whose port the
        kernel has chosen, as for a query to a server.
        """
        found: defaultdict[int, list[ListeningSocket]] = defaultdict(list)
        for listener in self._between(protocol, low, high, explicit=explicit and protocol == "udp"):
            found[listener.port].append(listener)
        for some in found.values():
            some.sort(key=_version)
        return dict(sorted(found.items()))

    def _between(
        self, protocol: str, low: int, high: int, *, explicit: bool
    ) -> Iterator[ListeningSocket]:
        """The sockets that listen on a port from `low` to `high`, filtered by the kernel."""
        state = _TCP_CLOSE if protocol == "udp" else _TCP_LISTEN
        # An operation is followed by two distances, one if it is true and one if not. Whatever
        # does not end exactly behind the last operation is rejected (`inet_diag_bc_run`).
        program = _BETWEEN.pack(_S_GE, 8, 20, 0, 0, low, _S_LE, 8, 12, 0, 0, high)
        if explicit:  # a jump is never true
            program = _EXPLICIT.pack(_AUTO, 4, 8, _JMP, 4, len(program) + 8) + program
        for request in _requests(protocol, 1 << state, program):
            try:
                for body in self._netlink.listed(request):
                    yield from _read(body)
            except NetlinkError as error:
                if error.errno not in _LACKING:
                    raise
            except TooMuch:
                self.complete = False
                self._netlink.close()
                self._netlink = Netlink(_NETLINK_SOCK_DIAG, most=self._most)


_LACKING: Final = (errno.ENOENT, errno.EOPNOTSUPP)
"""The kernel lacks the protocol, or cannot list sockets of the Internet at all."""


def _requests(protocol: str, states: int, program: bytes) -> list[bytes]:
    """The requests for a protocol's sockets in `states` that the filter `program` lets through."""
    flags, last = NLM_F_REQUEST | NLM_F_DUMP, (4 + len(program), _REQ_BYTECODE)
    if protocol == "tcp":
        head = _TCP_REQUEST.pack(
            _TCP_REQUEST.size + len(program), _TCPDIAG_GETSOCK, flags, 0, 0,
            0, 0, 0, 0, b"", b"", b"", b"", 0, 0, 0, states, 0, *last,
        )  # fmt: skip
        return [head + program]
    heads = [
        _REQUEST.pack(
            _REQUEST.size + len(program), _SOCK_DIAG_BY_FAMILY, flags, 0, 0,
            family, _NUMBERS[protocol], 0, states, b"", b"", b"", b"", 0, 0, 0, *last,
        )
        for family in (socket.AF_INET, socket.AF_INET6)
    ]  # fmt: skip
    return [head + program for head in heads]


def _version(listener: ListeningSocket) -> int:
    return listener.address.version


def span_of(ports: Iterable[PortMap], protocol: str) -> tuple[int, int]:
    """The lowest and the highest host port of a protocol, of which `ports` have at least one."""
    some = [port for port in ports if port.protocol == protocol]
    return min([port.host_port for port in some]), max([port.last for port in some])


def clashing(
    ports: Iterable[PortMap], listeners: Listeners
) -> Iterator[tuple[PortMap, ListeningSocket]]:
    """Each of `ports` that one of `listeners` listens on, a port at a time, with that socket.

    Every map is compared with every listener, because several maps may use one port on different
    addresses of the host.
    """
    numbers = {protocol: list(by_port) for protocol, by_port in listeners.items()}
    for port in ports:
        known = numbers.get(port.protocol, ())
        first = bisect_left(known, port.host_port)
        for number in known[first : bisect_right(known, port.last)]:
            for listener in listeners[port.protocol][number]:
                if _overlap(port.host_ip, listener):
                    yield port.at(number), listener


def _read(body: memoryview) -> Iterator[ListeningSocket]:
    """The sockets in a `struct inet_diag_msg`; one of SCTP may have many addresses.

    Source: `inet_sctp_diag_fill` in `net/sctp/diag.c`.
    """
    size = 4 if body[0] == socket.AF_INET else 16
    port = int.from_bytes(body[4:6], "big")
    inode = int.from_bytes(body[_INODE], sys.byteorder)
    told = dict(attributes(body, 72))
    only6 = bool(told.get(_SKV6ONLY, b"\0")[0])
    addresses = {bytes(body[8 : 8 + size])}
    if _LOCALS in told:
        local = told[_LOCALS]
        for offset in range(0, len(local) - _SOCKADDR_STORAGE + 1, _SOCKADDR_STORAGE):
            addresses.add(_of_sockaddr(local[offset : offset + _SOCKADDR_STORAGE]))
    for address in addresses:
        yield _listener(ip_address(address), port, inode, only6=only6)


def _of_sockaddr(sockaddr: memoryview) -> bytes:
    """The address of a `struct sockaddr_in` or `sockaddr_in6` (ip(7), ipv6(7))."""
    (family,) = struct.unpack_from("=H", sockaddr)
    return bytes(sockaddr[4:8] if family == socket.AF_INET else sockaddr[8:24])


def _listener(address: Address, port: int, inode: int, *, only6: bool) -> ListeningSocket:
    """A socket bound to `address`, with the IP versions that it serves (ipv6(7)).

    Bound to `::` it serves both versions unless `only6`; bound to `::ffff:0:0/96`, only IPv4.
    """
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return ListeningSocket(IPv4Address(address.ipv4_mapped), port, both=False, inode=inode)
    both = address.version == 6 and address.is_unspecified and not only6
    return ListeningSocket(address, port, both, inode)


def _overlap(host_ip: Address | None, listener: ListeningSocket) -> bool:
    if host_ip is None or listener.both:
        return True
    if host_ip.version != listener.address.version:
        return False
    return host_ip.is_unspecified or listener.address.is_unspecified or host_ip == listener.address
