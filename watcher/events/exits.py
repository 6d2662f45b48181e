"""The end of a container's init, told by a pidfd. Source: pidfd_open(2)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from watcher.containers import proc
from watcher.model.container import Process


class Ends:
    """Tells once of each watched process that it has ended.

    Args:
        loop: the event loop whose thread uses it.
        ended: called with the root and id that were given.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ended: Callable[[str, str], object]
    ) -> None:
        self._loop = loop
        self._ended = ended
        self._watched: dict[tuple[str, str], tuple[Process, int]] = {}

    def watches(self, root: str, id_: str) -> bool:
        """Whether the end of the container's init is still to be told."""
        return (root, id_) in self._watched

    def watch(self, root: str, id_: str, process: Process) -> None:
        """Tell when `process`, the init of the container `id_` of `root`, has ended."""
        key = (root, id_)
        if key in self._watched:
            if self._watched[key][0] == process:
                return
            self._forget(key)  # it has ended: another has taken its place
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            self._loop.call_soon(self._ended, root, id_)
            return
        if not proc.runs(process):  # the pid was another's before it was opened
            os.close(descriptor)
            self._loop.call_soon(self._ended, root, id_)
            return
        self._watched[key] = process, descriptor
        self._loop.add_reader(descriptor, self._tell, key)

    def close(self) -> None:
        """Watch nothing any more."""
        for key in list(self._watched):
            self._forget(key)

    def _tell(self, key: tuple[str, str]) -> None:
        self._forget(key)
        self._ended(*key)

    def _forget(self, key: tuple[str, str]) -> None:
        _, descriptor = self._watched.pop(key)
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
