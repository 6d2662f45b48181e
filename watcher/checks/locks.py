"""The holders of the host's locks: a stopped process with one blocks every change of the host."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from watcher.checks.check import Finding, Subject, fail, ok, warn
from watcher.locks.holders import Holder, holder_of
from watcher.locks.names import PATIENCE, SERVICE, WRITERS

_STEP: Final = 0.02
"""Seconds between two tries at a lock that is taken."""


def findings(subject: Subject) -> Iterator[Finding]:
    """Whether a process keeps the writers' lock for long, or is stopped with the service's."""
    writer = _holder(_lasting_holder, Path(subject.config.run_dir, WRITERS))
    if writer is None:
        yield ok("nobody is in the way of a change of the host")
    else:
        level = fail if writer.stopped or writer.cannot_end else warn
        yield level(f"{writer} is in the way of every network", writer.remedy)
    service = _holder(holder_of, Path(subject.config.run_dir, SERVICE))
    if service is not None and service != writer and (service.stopped or service.cannot_end):
        yield fail(f"{service} has this host", service.remedy)


def _holder(look: Callable[[int], Holder | None], path: Path) -> Holder | None:
    """The holder of the lock at `path`, as `look` finds it; `None` if the file is missing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with closing(os.fdopen(descriptor)):
        return look(descriptor)


def _lasting_holder(descriptor: int) -> Holder | None:
    """The holder of a lock that stays taken for longer than a change of one container takes."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        time.sleep(_STEP)
    return holder_of(descriptor)
