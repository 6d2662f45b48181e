"""Which ports of the host a process listens on, told by the kernel's socket diagnostics.

Source: sock_diag(7), `include/uapi/linux/inet_diag.h`.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple

from handlers.netlink import NLM_F_DUMP, NLM_F_REQUEST, Netlink, NetlinkError, attributes
from watcher.model import Address, PortMap

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_SKV6ONLY: Final = 11
_TCP_LISTEN, _TCP_CLOSE = 10, 7
_NUMBERS: Final = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": 132}
_REQ_BYTECODE, _S_GE, _S_LE = 1, 2, 3
_FILTER_SIZE: Final = 20
# netlink header; family, protocol, extensions, padding, states; then `struct inet_diag_sockid`:
# source and destination port, source and destination address, interface, cookie; then a filter of
# four `struct inet_diag_bc_op` as an attribute.
_REQUEST: Final = struct.Struct("=IHHIIBBBxI2s2s16s16sIIIHHBBHBBHBBHBBH")


class Listener(NamedTuple):
    """A socket that takes what comes to a port; `both`: to an address of either family."""

    address: Address
    port: int
    both: bool


class Listeners:
    """Asks the kernel, by a socket in the network namespace in which it is made."""

    def __init__(self) -> None:
        self._netlink = Netlink(_NETLINK_SOCK_DIAG)

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def first_taken(self, ports: Sequence[PortMap]) -> tuple[PortMap, Listener] | None:
        """The first of `ports` that a process of the host listens on, and its socket."""
        for protocol in sorted({port.protocol for port in ports}):
            wanted = {port.host_port: port for port in ports if port.protocol == protocol}
            for listener in self._between(protocol, min(wanted), max(wanted)):
                port = wanted.get(listener.port)
                if port is not None and _overlap(port.host_ip, listener):
                    return port, listener
        return None

    def _between(self, protocol: str, low: int, high: int) -> Iterator[Listener]:
        """The sockets that listen on a port from `low` to `high`; the kernel picks them out."""
        state = _TCP_CLOSE if protocol == "udp" else _TCP_LISTEN
        for family in (socket.AF_INET, socket.AF_INET6):
            request = bytearray(
                _REQUEST.pack(
                    _REQUEST.size, _SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 0, 0,
                    family, _NUMBERS[protocol], 0, 1 << state, b"", b"", b"", b"", 0, 0, 0,
                    _FILTER_SIZE, _REQ_BYTECODE,
                    # Each comparison is followed by its port; a jump behind the end refuses.
                    _S_GE, 8, 20, 0, 0, low, _S_LE, 8, 12, 0, 0, high,
                )
            )  # fmt: skip
            try:
                bodies = self._netlink.dump(request)
            except NetlinkError as error:
                if error.errno == errno.ENOENT:  # no such protocol, so no such socket
                    continue
                raise
            yield from map(_read, bodies)


def _read(body: memoryview) -> Listener:
    size = 4 if body[0] == socket.AF_INET else 16
    address = ip_address(bytes(body[8 : 8 + size]))
    only6 = any(kind == _SKV6ONLY and value[0] for kind, value in attributes(body, 72))
    both = size == 16 and address.is_unspecified and not only6
    return Listener(address, int.from_bytes(body[4:6], "big"), both)


def _overlap(host_ip: Address | None, listener: Listener) -> bool:
    if host_ip is None or listener.both:
        return True
    if host_ip.version != listener.address.version:
        return False
    return host_ip.is_unspecified or listener.address.is_unspecified or host_ip == listener.address
