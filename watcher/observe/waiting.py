"""Waits for what is to happen, without a poll: for the socket to come back, for the history."""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from watcher.observe.stream import NotServed, Stream

if TYPE_CHECKING:
    from watcher.events.inotify import Inotify

_FOREVER: Final = math.inf


class Wait:
    """Waits until a descriptor is readable.

    Args:
        output: where the result goes. While it waits, it notices that nobody reads that any more.
    """

    def __init__(self, output: int) -> None:
        self._output = output

    def readable(self, descriptor: int | None, seconds: float = _FOREVER) -> bool:
        """Wait for so long at the most; returns whether there is something to read.

        Raises:
            BrokenPipeError: nobody reads the output.
        """
        poll = select.poll()
        poll.register(self._output, 0)  # poll(2): POLLERR and POLLHUP are told even so
        if descriptor is not None:
            poll.register(descriptor, select.POLLIN)
        found = poll.poll(None if seconds == _FOREVER else max(0.0, seconds) * 1000)
        if any(file == self._output and mask & select.POLLERR for file, mask in found):
            raise BrokenPipeError
        return any(file == descriptor for file, _ in found)

    def for_service(self, run_dir: str) -> Stream:
        """Wait until the socket is served, and connect to it."""
        while True:
            inotify = _watch(run_dir)  # first, so that nothing is missed
            try:
                return Stream(run_dir)
            except NotServed:
                self.readable(inotify.fileno())
            finally:
                inotify.close()

    def for_history(self, state_dir: str, done: Callable[[], bool], seconds: float) -> bool:
        """Wait until `done`, which is called after each change, or for so long; the last answer."""
        end = time.monotonic() + seconds
        if done():
            return True
        inotify = _watch(state_dir)
        try:
            while not done():
                if not self.readable(inotify.fileno(), end - time.monotonic()):
                    return done()
                inotify.read()
        finally:
            inotify.close()
        return True


def _watch(directory: str) -> Inotify:
    """Watch the directory, or if it is missing, the nearest one above it that is there."""
    from watcher.events.inotify import ATTRIBUTES, CREATED, MODIFIED, REMOVED, Inotify

    def changed(*_: object) -> None:
        """Whatever it was, its effect is looked at."""

    inotify = Inotify(changed)
    try:
        while True:
            there = _existing(directory)
            with suppress(FileNotFoundError):  # it has just been removed
                inotify.add(there, CREATED | REMOVED | MODIFIED | ATTRIBUTES, changed, follow=True)
                return inotify
    except OSError:
        inotify.close()
        raise


def _existing(directory: str) -> str:
    path = Path(directory)
    while not os.access(path, os.R_OK | os.X_OK) and path != path.parent:
        path = path.parent
    return str(path)
