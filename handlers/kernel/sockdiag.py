"""The host ports that processes listen on, read from the kernel's socket diagnostics.

Source: sock_diag(7), `include/uapi/linux/inet_diag.h`.
"""

from __future__ import annotations

import errno
import socket
import struct
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from handlers.kernel.messages import NLM_F_DUMP, NLM_F_REQUEST, attributes
from handlers.kernel.netlink import Netlink, NetlinkError
from watcher.model.address import Address
from watcher.model.request import PortMap

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_SKV6ONLY, _LOCALS = 11, 12
_SOCKADDR_STORAGE: Final = 128
_TCP_LISTEN, _TCP_CLOSE = 10, 7
_NUMBERS: Final = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": 132}
_REQ_BYTECODE, _S_GE, _S_LE = 1, 2, 3
_FILTER_SIZE: Final = 20
# netlink header; family, protocol, extensions, padding, states; then `struct inet_diag_sockid`:
# source and destination port, source and destination address, interface, cookie; then a filter of
# four `struct inet_diag_bc_op` as an attribute.
_REQUEST: Final = struct.Struct("=IHHIIBBBxI2s2s16s16sIIIHHBBHBBHBBHBBH")


class ListeningSocket(NamedTuple):
    """A socket that listens on a port; with `both`, for both IP versions."""

    address: Address
    port: int
    both: bool


class SockDiag:
    """Asks the kernel, in the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        self._netlink = Netlink(_NETLINK_SOCK_DIAG)

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def first_taken(self, ports: Sequence[PortMap]) -> tuple[PortMap, ListeningSocket] | None:
        """The first of `ports` that a process of the host listens on, and its socket.

        Every map is compared with every listener, because several maps may use one port on
        different addresses of the host.
        """
        listeners = {
            protocol: self._by_port([port for port in ports if port.protocol == protocol], protocol)
            for protocol in sorted({port.protocol for port in ports})
        }
        for port in ports:
            taken = listeners[port.protocol]
            numbers = list(taken)
            first = bisect_left(numbers, port.host_port)
            for number in numbers[first : bisect_right(numbers, port.last)]:
                for listener in taken[number]:
                    if _overlap(port.host_ip, listener):
                        return port.at(number), listener
        return None

    def _by_port(self, ports: Sequence[PortMap], protocol: str) -> dict[int, list[ListeningSocket]]:
        """The sockets that listen between the lowest and the highest of `ports`, by their port."""
        found: defaultdict[int, list[ListeningSocket]] = defaultdict(list)
        low = min(port.host_port for port in ports)
        high = max(port.last for port in ports)
        for listener in self._between(protocol, low, high):
            found[listener.port].append(listener)
        return dict(sorted(found.items()))

    def _between(self, protocol: str, low: int, high: int) -> Iterator[ListeningSocket]:
        """The sockets that listen on a port from `low` to `high`, filtered by the kernel."""
        state = _TCP_CLOSE if protocol == "udp" else _TCP_LISTEN
        for family in (socket.AF_INET, socket.AF_INET6):
            request = bytearray(
                _REQUEST.pack(
                    _REQUEST.size, _SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 0, 0,
                    family, _NUMBERS[protocol], 0, 1 << state, b"", b"", b"", b"", 0, 0, 0,
                    _FILTER_SIZE, _REQ_BYTECODE,
                    # Each comparison is followed by its port; a jump past the end rejects.
                    _S_GE, 8, 20, 0, 0, low, _S_LE, 8, 12, 0, 0, high,
                )
            )  # fmt: skip
            try:
                bodies = self._netlink.dump(request)
            except NetlinkError as error:
                if error.errno == errno.ENOENT:  # the kernel lacks the protocol
                    continue
                raise
            for body in bodies:
                yield from _read(body)


def _read(body: memoryview) -> Iterator[ListeningSocket]:
    """The sockets in a `struct inet_diag_msg`; one of SCTP may have many addresses.

    Source: `inet_sctp_diag_fill` in `net/sctp/diag.c`.
    """
    size = 4 if body[0] == socket.AF_INET else 16
    port = int.from_bytes(body[4:6], "big")
    told = dict(attributes(body, 72))
    only6 = bool(told.get(_SKV6ONLY, b"\0")[0])
    addresses = {bytes(body[8 : 8 + size])}
    if _LOCALS in told:
        local = told[_LOCALS]
        for offset in range(0, len(local) - _SOCKADDR_STORAGE + 1, _SOCKADDR_STORAGE):
            addresses.add(_of_sockaddr(local[offset : offset + _SOCKADDR_STORAGE]))
    for address in addresses:
        yield _listener(ip_address(address), port, only6=only6)


def _of_sockaddr(sockaddr: memoryview) -> bytes:
    """The address of a `struct sockaddr_in` or `sockaddr_in6` (ip(7), ipv6(7))."""
    (family,) = struct.unpack_from("=H", sockaddr)
    return bytes(sockaddr[4:8] if family == socket.AF_INET else sockaddr[8:24])


def _listener(address: Address, port: int, *, only6: bool) -> ListeningSocket:
    """A socket bound to `address`, with the IP versions that it serves (ipv6(7)).

    Bound to `::` it serves both versions unless `only6`; bound to `::ffff:0:0/96`, only IPv4.
    """
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return ListeningSocket(IPv4Address(address.ipv4_mapped), port, both=False)
    both = address.version == 6 and address.is_unspecified and not only6
    return ListeningSocket(address, port, both)


def _overlap(host_ip: Address | None, listener: ListeningSocket) -> bool:
    if host_ip is None or listener.both:
        return True
    if host_ip.version != listener.address.version:
        return False
    return host_ip.is_unspecified or listener.address.is_unspecified or host_ip == listener.address
