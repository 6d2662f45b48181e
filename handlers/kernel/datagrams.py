"""Many datagrams by one system call: recvmmsg(2) and sendmmsg(2), which Python has no call for."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

type Peer = bytes
"""An address as the kernel has it: struct sockaddr_in or sockaddr_in6 (ip(7), ipv6(7))."""

_MSG_DONTWAIT: Final = 0x40
_NAME: Final = 28
"""Bytes of struct sockaddr_in6, the longer one."""

_libc = ctypes.CDLL(None)
_libc.recvmmsg.argtypes = (
    ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p
)  # fmt: skip
_libc.sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)


class _Vector(ctypes.Structure):
    """struct iovec (readv(2))."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """struct msghdr (recvmsg(2))."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Header(ctypes.Structure):
    """struct mmsghdr (recvmmsg(2))."""

    _fields_ = (("message", _Message), ("size", ctypes.c_uint))


# Headers are used as an array of unsigned int, and vectors as one of size_t, which on Linux is an
# unsigned long: that takes a fraction of the time that fields of structures take.
_HEADER_STEP: Final = ctypes.sizeof(_Header) // ctypes.sizeof(ctypes.c_uint)
_NAME_SIZE: Final = _Message.name_size.offset // ctypes.sizeof(ctypes.c_uint)
_SIZE: Final = _Header.size.offset // ctypes.sizeof(ctypes.c_uint)
_VECTOR_STEP: Final = ctypes.sizeof(_Vector) // ctypes.sizeof(ctypes.c_size_t)
_VECTOR_SIZE: Final = _Vector.size.offset // ctypes.sizeof(ctypes.c_size_t)


class Datagrams:
    """Memory for datagrams, that one call of the kernel fills, and another one sends.

    Several sockets may use it, one after the other.

    Args:
        most: of them at once.
        longest: bytes of one; what is received is cut off there.
    """

    def __init__(self, most: int, longest: int) -> None:
        self.most = most
        self._longest = longest
        self._received = _Memory(most, longest)
        self._sent = _Memory(most, longest)

    def receive(self, descriptor: int) -> list[tuple[bytes, Peer]]:
        """Those that wait in a socket, at most as many as there is room for, and their senders.

        It does not wait. There are none as well if the socket has an error, which this clears.
        """
        memory = self._received
        count = _libc.recvmmsg(descriptor, memory.headers_at, self.most, _MSG_DONTWAIT, None)
        data, names, numbers, longest = memory.data, memory.names, memory.numbers, self._longest
        found = []
        at = name_at = header_at = 0
        for _ in range(count):  # -1 for an error
            size, name_size = numbers[header_at + _SIZE], numbers[header_at + _NAME_SIZE]
            found.append((data[at : at + size], names[name_at : name_at + name_size]))
            numbers[header_at + _NAME_SIZE] = _NAME
            at += longest
            name_at += _NAME
            header_at += _HEADER_STEP
        return found

    def send(self, descriptor: int, datagrams: Sequence[tuple[bytes, Peer]]) -> int:
        """Send each of `datagrams` to its receiver; there may be as many as there is room for.

        Returns:
            How many of them could not be sent, or were too long.
        """
        memory, longest = self._sent, self._longest
        data, names, numbers, sizes = memory.bytes, memory.name_bytes, memory.numbers, memory.sizes
        at = name_at = header_at = vector_at = 0
        count = failed = 0
        for datagram, peer in datagrams:
            size, name_size = len(datagram), len(peer)
            if size > longest:  # it would end in the memory of the next one
                failed += 1
                continue
            count += 1
            data[at : at + size] = datagram
            names[name_at : name_at + name_size] = peer
            numbers[header_at + _NAME_SIZE] = name_size
            sizes[vector_at + _VECTOR_SIZE] = size
            at += longest
            name_at += _NAME
            header_at += _HEADER_STEP
            vector_at += _VECTOR_STEP
        done = 0
        while done < count:
            first = memory.headers_at + done * ctypes.sizeof(_Header)
            sent = _libc.sendmmsg(descriptor, first, count - done, _MSG_DONTWAIT)
            if sent <= 0:  # the first of them is at fault; otherwise it has sent those before that
                failed += 1
            done += max(sent, 1)
        return failed


class _Memory:
    """Data, addresses, vectors and headers of one direction, at addresses that never change."""

    def __init__(self, most: int, longest: int) -> None:
        # A slice of such an array is bytes (its type does not say so); a view of it can be written.
        self.data: Any = ctypes.create_string_buffer(most * longest)
        self.bytes = memoryview(self.data).cast("B")
        self.names: Any = ctypes.create_string_buffer(most * _NAME)
        self.name_bytes = memoryview(self.names).cast("B")
        vectors, headers = (_Vector * most)(), (_Header * most)()
        self.sizes = memoryview(vectors).cast("B").cast("L")
        self.numbers = memoryview(headers).cast("B").cast("I")
        self.headers_at = ctypes.addressof(headers)
        for number in range(most):
            vectors[number] = _Vector(ctypes.addressof(self.data) + number * longest, longest)
            message = headers[number].message
            message.name = ctypes.addressof(self.names) + number * _NAME
            message.name_size = _NAME
            message.vectors = ctypes.addressof(vectors) + number * ctypes.sizeof(_Vector)
            message.vector_count = 1
