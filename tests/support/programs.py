"""What the kernel says to a program of the guard, without a link."""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final, Self

PASSES, DROPPED = 0xFFFFFFFF, 2
"""`TC_ACT_UNSPEC`, so that later filters of the link are asked, and `TC_ACT_SHOT`."""

_SO_ATTACH_FILTER: Final = 26


class Kernel:
    """The kernel with a program of the guard.

    It runs the filter of a socket as it runs the classifier of a link (`net/core/filter.c`). What
    a socket's filter returns is how many bytes of a datagram are kept, and none is received if that
    is 0.
    """

    def __init__(self, program: bytes) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._theirs.setblocking(False)
        instructions = ctypes.create_string_buffer(program, len(program))
        fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
        self._theirs.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)

    def verdict(self, frame: bytes) -> int:
        """What the program returns for `frame`.

        Whether a frame of two bytes or less was cut cannot be told; it is taken for dropped.
        """
        self._ours.send(frame)
        try:
            kept = len(self._theirs.recv(len(frame) + 1))
        except BlockingIOError:
            return 0
        if kept < len(frame):
            return kept
        return PASSES if kept > DROPPED else DROPPED

    def passes(self, frame: bytes) -> bool:
        """Whether `frame` passes; `AssertionError` if the program returns neither verdict."""
        verdict = self.verdict(frame)
        assert verdict in (PASSES, DROPPED), f"{verdict} for {frame.hex()}"
        return verdict == PASSES

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
