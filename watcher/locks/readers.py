"""Reads without concurrent changes: a reader keeps writers away, and waits only briefly for one."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from watcher.locks.names import PATIENCE, WRITERS


@contextmanager
def without_writers(run_dir: str) -> Iterator[None]:
    """Keep every process from changing the host or the lease store in this context.

    It waits for a writer, but at most `PATIENCE`. Use it in the main thread only.
    """
    try:
        descriptor = os.open(Path(run_dir, WRITERS), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # no process has written yet, or this one has no access
        yield
        return
    try:
        with suppress(TimeoutError), _alarm(PATIENCE):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in code that takes longer than `seconds`. Source: setitimer(2)."""

    def late(*_: object) -> NoReturn:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
