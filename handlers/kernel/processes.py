"""Whether a process runs, since when, and whose child it is: `/proc/<pid>/stat`.

Source: proc_pid_stat(5).
"""

from __future__ import annotations

import os
from typing import Final

_STATE: Final = 0
_PARENT: Final = 1
_THREADS: Final = 17
_START_TIME: Final = 19
"""Indices after the command's name: fields 3, 4, 20 and 22."""


def start_time(pid: int) -> int | None:
    """The start time of process `pid` in clock ticks since boot; `None` if it has ended.

    A zombie has ended, unless only its first thread has ended and others go on (pthread_exit(3)).
    """
    fields = _stat(pid)
    if fields is None:
        return None
    ended = fields[_STATE] in (b"Z", b"X") and int(fields[_THREADS]) <= 1
    return None if ended else int(fields[_START_TIME])


def parent(pid: int) -> int | None:
    """The parent of process `pid`, 0 if it cannot be seen from here; `None` if `pid` has gone."""
    fields = _stat(pid)
    return None if fields is None else int(fields[_PARENT])


def _stat(pid: int) -> list[bytes] | None:
    """The fields of `/proc/<pid>/stat` behind the command's name; `None` if `pid` has gone."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, 1024)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name is in parentheses and may itself contain parentheses and spaces.
    return text[text.rindex(b")") + 2 :].split()
