"""Registers and system calls of x86-64.

Sources: `struct user_regs_struct` in `arch/x86/include/uapi/asm/user_64.h`, syscall(2),
`arch/x86/entry/syscalls/syscall_64.tbl`.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

SIZE: Final = 27 * 8
"""Bytes of the general registers; a 32-bit process has fewer."""

_R10: Final = 7
_R9: Final = 8
_R8: Final = 9
_RAX: Final = 10
_RDX: Final = 12
_RSI: Final = 13
_RDI: Final = 14
_ORIG_RAX: Final = 15
_RIP: Final = 16
_ARGUMENTS: Final = (_RDI, _RSI, _RDX, _R10, _R8, _R9)

SYSCALL: Final = b"\x0f\x05"
"""The instruction."""

_WORD: Final = struct.Struct("<q")
_NO_CALL: Final = -1
_MAX_ERRNO: Final = 4095


class Call(IntEnum):
    """The numbers of system calls."""

    MMAP = 9
    MUNMAP = 11
    RECVMSG = 47
    SOCKETPAIR = 53
    UMOUNT2 = 166
    SETNS = 308
    OPEN_TREE = 428
    MOVE_MOUNT = 429
    CLOSE_RANGE = 436


def address(registers: bytes | bytearray) -> int:
    """The address of the next instruction."""
    return _get(registers, _RIP)


def calling(registers: bytes, call: Call, arguments: tuple[int, ...], at: int) -> bytearray:
    """The `registers` of a thread that is to make a call with the instruction at the address `at`.

    The thread is in no call then (`orig_rax`), so the kernel does not restart one on the way back
    (`arch_do_signal_or_restart` in `arch/x86/kernel/signal.c`).
    """
    changed = bytearray(registers)
    _put(changed, _RAX, call)
    _put(changed, _ORIG_RAX, _NO_CALL)
    _put(changed, _RIP, at)
    for register, value in zip(_ARGUMENTS, arguments, strict=False):
        _put(changed, register, value)
    return changed


def result(registers: bytes | bytearray) -> int:
    """The result of a call; one that failed has the negative `errno`."""
    return _get(registers, _RAX)


def is_error(result: int) -> bool:
    """Whether a call failed that had this `result`."""
    return -_MAX_ERRNO <= result < 0


def _get(registers: bytes | bytearray, index: int) -> int:
    value: int = _WORD.unpack_from(registers, index * 8)[0]
    return value


def _put(registers: bytearray, index: int, value: int) -> None:
    _WORD.pack_into(registers, index * 8, value)
