"""Exits: a pidfd reports the end of a container's init. Source: pidfd_open(2)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from watcher.containers import proc
from watcher.model.container import Process


class Exits:
    """Reports the end of each watched process once.

    Args:
        loop: the event loop whose thread uses it.
        ended: called with the root and id that were given to :meth:`watch`.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ended: Callable[[str, str], object]
    ) -> None:
        self._loop = loop
        self._ended = ended
        self._watched: dict[tuple[str, str], tuple[Process, int]] = {}

    def watches(self, root: str, id_: str) -> bool:
        """Whether the container's init is watched and has not ended."""
        return (root, id_) in self._watched

    def watch(self, root: str, id_: str, process: Process) -> None:
        """Report when `process`, the init of the container `id_` of `root`, ends."""
        key = (root, id_)
        if key in self._watched:
            if self._watched[key][0] == process:
                return
            self._forget(key)  # that one has ended, and another took its place
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            self._loop.call_soon(self._ended, root, id_)
            return
        if not proc.runs(process):  # another process got the pid before it was opened
            os.close(descriptor)
            self._loop.call_soon(self._ended, root, id_)
            return
        self._watched[key] = process, descriptor
        self._loop.add_reader(descriptor, self._tell, key)

    def close(self) -> None:
        """Stop watching."""
        for key in list(self._watched):
            self._forget(key)

    def _tell(self, key: tuple[str, str]) -> None:
        self._forget(key)
        self._ended(*key)

    def _forget(self, key: tuple[str, str]) -> None:
        _, descriptor = self._watched.pop(key)
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
