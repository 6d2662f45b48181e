"""What a stopped init is given for its move: some memory, and descriptors.

The descriptors come by a pair of sockets that the init makes itself, and of which this process
copies one end (pidfd_getfd(2)). The pair has no name, so nobody else can send to it. All of it is
taken back at the end.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from handlers.kernel import descriptors
from handlers.kernel.mounts import AT_FDCWD, OPEN_TREE_CLONE
from handlers.kernel.ptrace.thread import Disturbed
from handlers.kernel.ptrace.x86_64 import Call
from handlers.moving.errors import CannotMove
from handlers.moving.threads import Threads

SIZE: Final = 8192
"""Bytes of the room: a page for the longest path (PATH_MAX), and one for all else."""

_DETACH: Final = 2 | 8
"""MNT_DETACH with UMOUNT_NOFOLLOW (`include/linux/fs.h`)."""

_PAIR: Final = struct.Struct("<ii")
_HEADER: Final = struct.Struct("<QIxxxxQQQQixxxx")
_VECTOR: Final = struct.Struct("<QQ")
_CONTROL_HEADER: Final = struct.Struct("<QII")
"""struct msghdr, iovec and cmsghdr (recvmsg(2), cmsg(3)) of a 64-bit process."""

_AT_VECTOR: Final = 64
_AT_DATA: Final = 80
_AT_CONTROL: Final = 96
_AT_EMPTY: Final = 4088
_AT_PATH: Final = 4096
_ROOM: Final = _AT_EMPTY - _AT_CONTROL

_PROTECTION: Final = 0x1 | 0x2
_PRIVATE_ANONYMOUS: Final = 0x02 | 0x20
_MSG_CMSG_CLOEXEC: Final = 0x40000000
"""`include/uapi/asm-generic/mman-common.h`, `include/linux/socket.h`."""

_LIMIT: Final = "raise RLIMIT_NOFILE or RLIMIT_AS in process.rlimits of its config.json"


class Inside:
    """The room for arguments in the memory of a stopped init, and its new descriptors.

    Args:
        threads: its threads.
        at: the address of the room.
    """

    def __init__(self, threads: Threads, at: int) -> None:
        self.threads = threads
        self.empty = at + _AT_EMPTY
        self._at = at
        self._opened: list[int] = []

    def path(self, path: str) -> int:
        """The address of `path`, until the next one.

        Raises:
            CannotMove: it is longer than any path.
        """
        content = os.fsencode(path) + b"\0"
        if len(content) > SIZE - _AT_PATH:
            raise CannotMove("it has a mount with a path that is too long")
        self.threads.write(self._at + _AT_PATH, content)
        return self._at + _AT_PATH

    def open_tree(self, path: str) -> int:
        """Have the init clone a mount, or a part of one; a descriptor of it there.

        Raises:
            OSError: it may not.
        """
        flags = OPEN_TREE_CLONE | os.O_CLOEXEC
        tree = self.threads.call(Call.OPEN_TREE, AT_FDCWD, self.path(path), flags)
        self._opened.append(tree)
        return tree

    def unmount(self, path: str) -> None:
        """Have the init detach the mount that is at `path`.

        Raises:
            Disturbed: it failed; the init has to end.
        """
        try:
            at = self.path(path)
        except OSError as error:
            raise Disturbed from error
        self.undo(Call.UMOUNT2, at, _DETACH)

    def undo(self, call: Call, *arguments: int) -> None:
        """Have the init make a call that takes something back.

        Raises:
            Disturbed: it failed; the init has to end.
        """
        try:
            self.threads.call(call, *arguments)
        except OSError as error:
            raise Disturbed from error

    def lend(self, lent: Sequence[int]) -> list[int]:
        """Give the init copies of our descriptors; their numbers there.

        Raises:
            CannotMove: it has no room for them.
        """
        pair = self._make_pair()
        copy = descriptors.copy_of(pair[0], self.threads.pidfd)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM, 0, copy) as ours:
            socket.send_fds(ours, [b"."], lent)
        copies = self._receive(pair[1])
        self._opened += copies
        if len(copies) != len(lent):
            raise CannotMove("its init has no room for more descriptors", _LIMIT)
        return copies

    def close(self) -> None:
        """Close what the init has opened.

        Raises:
            Disturbed: it failed; the init has to end.
        """
        opened = sorted(self._opened)
        self._opened.clear()
        while opened:
            first = last = opened.pop(0)
            while opened and opened[0] == last + 1:
                last = opened.pop(0)
            self.undo(Call.CLOSE_RANGE, first, last, 0)

    def _make_pair(self) -> tuple[int, int]:
        """Have the init make a pair of sockets; their numbers."""
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        try:
            self.threads.call(Call.SOCKETPAIR, socket.AF_UNIX, kind, 0, self._at)
        except OSError as error:
            raise CannotMove(f"its init may not make a socket: {error.strerror}", _LIMIT) from None
        pair: tuple[int, int] = _PAIR.unpack(self.threads.read(self._at, _PAIR.size))
        self._opened += pair
        return pair

    def _receive(self, theirs: int) -> list[int]:
        """Have the init receive descriptors; their numbers, which may be fewer than were sent."""
        at = self._at
        vector, data, control = at + _AT_VECTOR, at + _AT_DATA, at + _AT_CONTROL
        header = _HEADER.pack(0, 0, vector, 1, control, _ROOM, 0)
        self.threads.write(at, header.ljust(_AT_VECTOR, b"\0") + _VECTOR.pack(data, 1))
        try:
            flags = _MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
            self.threads.call(Call.RECVMSG, theirs, at, flags)
        except OSError as error:
            raise CannotMove(f"its init may not receive: {error.strerror}") from None
        found = self.threads.read(control, _ROOM)
        length, level, kind = _CONTROL_HEADER.unpack_from(found)
        if (level, kind) != (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            return []
        copies = array.array("i")
        copies.frombytes(found[_CONTROL_HEADER.size : length])
        return copies.tolist()


@contextmanager
def room_in(threads: Threads) -> Iterator[Inside]:
    """Room in the process of stopped threads, for a while; nothing of it is left at the end.

    Raises:
        CannotMove: it may not have more memory.
        Disturbed: something is left; the process has to end.
    """
    try:
        at = threads.call(Call.MMAP, 0, SIZE, _PROTECTION, _PRIVATE_ANONYMOUS, -1, 0)
    except OSError as error:
        raise CannotMove(f"its init may not have more memory: {error.strerror}", _LIMIT) from None
    inside = Inside(threads, at)
    try:
        yield inside
    finally:
        inside.close()
        inside.undo(Call.MUNMAP, at, SIZE)
