"""The requests of ptrace(2), and the waits for what they lead to.

Requests never block, so they keep the interpreter's lock (`PyDLL`): to get it back beside a busy
thread can take 5 ms each time. A thread needs a few microseconds for one step, so its stop is asked
for a few times in the same way, before this one sleeps until then.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

_SEIZE: Final = 0x4206
_INTERRUPT: Final = 0x4207
_GETREGSET: Final = 0x4204
_SETREGSET: Final = 0x4205
_GETSIGMASK: Final = 0x420A
_SETSIGMASK: Final = 0x420B
_CONT: Final = 7
_SINGLESTEP: Final = 9
_DETACH: Final = 17
_O_EXITKILL: Final = 1 << 20
_EVENT_STOP: Final = 128
"""`include/uapi/linux/ptrace.h`."""

_NT_PRSTATUS: Final = 1
"""`include/uapi/linux/elf.h`: the general registers."""

_WALL: Final = 0x40000000
_WNOTHREAD: Final = 0x20000000
"""Threads as well as processes; and only those of the calling thread (waitpid(2))."""

_POLLS: Final = 20
"""How often a stop is asked for before this thread sleeps until then."""

_SIGNALS: Final = 8
"""Bytes of the kernel's set of signals."""

_libc = ctypes.PyDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long
_libc.waitpid.argtypes = (ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.c_int)


class _Buffer(ctypes.Structure):
    """struct iovec (readv(2))."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Ended(Exception):
    """A thread has ended; or it was killed, and is about to end."""


def refused() -> int:
    """The `errno` with which this process's filter refuses ptrace(2); 0 if it allows it.

    It asks for something that cannot be: to let a thread go that it does not trace (ESRCH).
    """
    try:
        _request(_DETACH, os.getpid())
    except Ended:
        return 0
    except OSError as error:
        return error.errno or 0
    return 0


def seize(tid: int) -> None:
    """Trace a thread from now on, without stopping it.

    The kernel kills its process if the calling thread ends meanwhile, for whatever reason.

    Raises:
        Ended: it has ended.
        PermissionError: it is traced already, is ending, or must not be traced.
    """
    _request(_SEIZE, tid, 0, _O_EXITKILL)


def interrupt(tid: int) -> None:
    """Have a seized thread stop; :class:`Waits` tells when it has."""
    _request(_INTERRUPT, tid)


def go_on(tid: int, signal: int = 0) -> None:
    """Have a stopped thread go on, with the `signal` for which it stopped or without it."""
    _request(_CONT, tid, 0, signal)


def step(tid: int) -> None:
    """Have a stopped thread execute one instruction; it stops then with SIGTRAP."""
    _request(_SINGLESTEP, tid)


def detach(tid: int) -> None:
    """Let a stopped thread go on, and trace it no more."""
    _request(_DETACH, tid)


def get_registers(tid: int, size: int) -> bytearray:
    """The general registers of a stopped thread: `size` bytes at the most."""
    registers = bytearray(size)
    view = (ctypes.c_char * size).from_buffer(registers)
    buffer = _Buffer(ctypes.addressof(view), size)
    _request(_GETREGSET, tid, _NT_PRSTATUS, ctypes.addressof(buffer))
    del view
    return registers[: buffer.length]


def set_registers(tid: int, registers: bytes | bytearray) -> None:
    """Set the general registers of a stopped thread."""
    view = (ctypes.c_char * len(registers)).from_buffer_copy(registers)
    buffer = _Buffer(ctypes.addressof(view), len(registers))
    _request(_SETREGSET, tid, _NT_PRSTATUS, ctypes.addressof(buffer))


def get_blocked(tid: int) -> int:
    """The signals that a stopped thread blocks, signal n as bit n - 1."""
    mask = ctypes.c_uint64()
    _request(_GETSIGMASK, tid, _SIGNALS, ctypes.addressof(mask))
    return mask.value


def set_blocked(tid: int, blocked: int) -> None:
    """Set the signals that a stopped thread blocks."""
    mask = ctypes.c_uint64(blocked)
    _request(_SETSIGMASK, tid, _SIGNALS, ctypes.addressof(mask))


class Waits:
    """What becomes of the threads that the calling thread traces; it must have no other children.

    The first thread of a process that was killed has not ended before the others have, and those
    not before their tracer has heard of it. So a wait for one of them hears of all.
    """

    __slots__ = ("_heard",)

    def __init__(self) -> None:
        self._heard: dict[int, int] = {}

    def wait(self, tid: int) -> tuple[int, bool]:
        """Wait until a traced thread stops.

        Returns:
            The signal with which it has stopped; and whether it does not stop before the delivery
            of that, but because of :func:`interrupt`, or as a process that a signal has stopped.

        Raises:
            Ended: it has ended, or was never traced.
        """
        status = self._heard.pop(tid, None)
        if status is None:
            status = _poll(tid)
        while status is None:
            other, heard = os.waitpid(-1, _WALL | _WNOTHREAD)
            if other == tid:
                status = heard
            else:
                self._heard[other] = heard
        if not os.WIFSTOPPED(status):
            raise Ended
        return os.WSTOPSIG(status), status >> 16 == _EVENT_STOP


def _poll(tid: int) -> int | None:
    """The status of a thread that changes its state at once; `None` if it takes longer."""
    status = ctypes.c_int()
    for _ in range(_POLLS):
        found = _libc.waitpid(tid, ctypes.byref(status), _WALL | os.WNOHANG)
        if found == tid:
            return status.value
        if found < 0:
            raise Ended
    return None


def _request(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, tid, address, data) < 0:
        number = ctypes.get_errno()
        if number == errno.ESRCH:
            raise Ended
        raise OSError(number, os.strerror(number))
