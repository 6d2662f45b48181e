"""Runs a command that may not make one system call, by a filter: `refusing NUMBER COMMAND…`.

`refusing NUMBER,EINVAL COMMAND…` has the call fail with that error.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
REFUSE, ALLOW = 0x0005_0000, 0x7FFF_0000
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2


def refuse(number: int, error: int = errno.EPERM) -> None:
    """Has the kernel refuse system call `number` to this process from now on (seccomp(2))."""
    refused, allowed = (RETURN, 0, 0, REFUSE | error), (RETURN, 0, 0, ALLOW)
    lines = ((LOAD, 0, 0, 0), (EQUAL, 0, 1, number), refused, allowed)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(lines), ctypes.addressof(code)))
    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, FILTER, program, 0, 0) == 0


if __name__ == "__main__":
    call, _, name = sys.argv[1].partition(",")
    refuse(int(call), getattr(errno, name or "EPERM"))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606
