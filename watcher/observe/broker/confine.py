"""Takes from this process all that it does not need. Nothing gives it back.

Sources: capabilities(7), capset(2), prctl(2), getrlimit(2), sched(7), proc_pid_oom_score_adj(5).
"""

from __future__ import annotations

import ctypes
import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_CAPABILITY_VERSION_3: Final = 0x20080522

_EXPENDABLE: Final = 500

_libc: Final = ctypes.CDLL(None, use_errno=True)


def confine() -> None:
    """Have no capability, get none by any execve(2), write to no file, leave no core.

    Raises:
        OSError: the kernel refuses that.
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _check(_libc.capset(header, nothing))


def give_way() -> None:
    """Let the service go first, in everything that may be scarce; as far as the kernel allows it.

    A process of SCHED_BATCH does not interrupt the one that wakes it. Without that, a send(2) of
    the service, which has a runtime to answer, takes ten times as long where both have one
    processor: 0.2 ms. It is not nice: readers would wait for seconds where a host is busy.
    """
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with suppress(OSError):
        score = Path("/proc/self/oom_score_adj")
        if int(score.read_text()) < _EXPENDABLE:
            score.write_text(str(_EXPENDABLE))


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
