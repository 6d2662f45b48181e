"""Starts a process while other threads go on. Source: posix_spawn(3), vfork(2).

The parent of vfork(2) waits until the child has called execve(2): on busy processors for
milliseconds, for which :func:`os.posix_spawn` and :mod:`subprocess` keep the interpreter's lock. A
call by :mod:`ctypes` gives it back.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_POSIX_SPAWN_SETSIGMASK: Final = 8
_ROOM: Final = 1024
"""Bytes for each of the C library's objects, of which glibc's greatest has 336."""

_libc: Final = ctypes.CDLL(None)


def spawn(argv: Sequence[str], env: Mapping[str, str], descriptors: Mapping[int, int]) -> int:
    """Start `argv[0]` with no signal blocked, and return its pid.

    Its descriptors are the standard ones and `descriptors`: the number that each has there, and the
    one here, which has to be none of the numbers there. All others close on execution (PEP 446).

    Raises:
        OSError: it cannot be started.
    """
    actions, attributes, none = (ctypes.create_string_buffer(_ROOM) for _ in range(3))
    pid = ctypes.c_int()
    _check(_libc.posix_spawn_file_actions_init(actions))
    _check(_libc.posix_spawnattr_init(attributes))
    try:
        _libc.sigemptyset(none)
        _check(_libc.posix_spawnattr_setsigmask(attributes, none))
        flags = ctypes.c_short(_POSIX_SPAWN_SETSIGMASK)
        _check(_libc.posix_spawnattr_setflags(attributes, flags))
        for there, here in descriptors.items():
            _check(_libc.posix_spawn_file_actions_adddup2(actions, here, there))
        words = _texts(argv)
        assignments = _texts([f"{name}={value}" for name, value in env.items()])
        path = os.fsencode(argv[0])
        _check(_libc.posix_spawn(ctypes.byref(pid), path, actions, attributes, words, assignments))
    finally:
        _libc.posix_spawn_file_actions_destroy(actions)
        _libc.posix_spawnattr_destroy(attributes)
    return pid.value


def _texts(texts: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    encoded = [os.fsencode(text) for text in texts]
    return (ctypes.c_char_p * (len(encoded) + 1))(*encoded, None)


def _check(error: int) -> None:
    if error:
        raise OSError(error, os.strerror(error))
