"""The holders of the host's locks: a stopped process with one blocks every change of the host."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from watcher.checks.finding import Finding, fail, ok, warn
from watcher.locks.holders import Holder, holder_of
from watcher.locks.lock import PATIENCE, SERVICE, WRITERS

if TYPE_CHECKING:
    from watcher.config.settings import Config

_STEP: Final = 0.02
"""Seconds between two looks at a lock that is taken."""


def findings(config: Config) -> Iterator[Finding]:
    """Whether somebody has the writers' lock for long, or the service's and is stopped."""
    writer = _lasting_holder(Path(config.run_dir, WRITERS))
    if writer is None:
        yield ok("locks", "nobody is in the way of a change of the host")
    else:
        level = fail if writer.stopped or writer.cannot_end else warn
        yield level("locks", f"{writer} is in the way of every network", writer.remedy)
    service = _holder(Path(config.run_dir, SERVICE))
    if service is not None and service != writer and (service.stopped or service.cannot_end):
        yield fail("locks", f"{service} has this host", service.remedy)


def _holder(path: Path) -> Holder | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with closing(os.fdopen(descriptor)):
        return holder_of(descriptor)


def _lasting_holder(path: Path) -> Holder | None:
    """Who has a lock for longer than a change of one container takes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with closing(os.fdopen(descriptor)):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            time.sleep(_STEP)
        return holder_of(descriptor)
