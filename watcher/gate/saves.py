"""Recognises a runtime's save of a container among the opens below the marked roots."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from watcher.containers import proc
from watcher.containers.runtimes import CRUN, RUNTIMES, SAVES
from watcher.gate import inits

if TYPE_CHECKING:
    from handlers.kernel.fanotify import Event
    from watcher.containers.runtimes import Runtime
    from watcher.model.container import Process

_REMEMBERED: Final = 1024
"""Recent saves that were not held, to remember."""


@dataclass(frozen=True, slots=True)
class MarkedRoot:
    """A marked root: its name, a path to its open directory, and the kind of its mark."""

    root: str
    directory: str
    filesystem: bool


@dataclass(frozen=True, slots=True)
class Save:
    """A save that is to be held: the container's root and id, its runtime, and its init."""

    root: str
    id: str
    runtime: Runtime
    init: Process


class Saves:
    """Recognises saves, in the gate's thread; any thread may ask what has passed.

    It opens nothing below a marked root.

    Attributes:
        roots: the marked roots. The tuple is replaced as a whole, so no reader needs a lock.
    """

    def __init__(self) -> None:
        self.roots: tuple[MarkedRoot, ...] = ()
        self._passed: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED)
        self._host_netns = proc.own_netns()

    def has_passed(self, root: str, id_: str) -> bool:
        """Whether a save of that container was recognised lately without an init to hold it for."""
        return (root, id_) in self._passed

    def save_of(self, event: Event, fd: int) -> Save | None:
        """The save that opened `fd`; `None` unless its container has a live namespace."""
        directory, _, name = os.readlink(f"/proc/thread-self/fd/{fd}").rpartition("/")  # noqa: PTH115
        if event.thread == 0 or not name.startswith(SAVES):
            return None
        id_ = directory.rpartition("/")[2]
        root = self._root_of(fd, id_, name)
        if root is None:
            return None
        runtime = _runtime_of(name)
        init = inits.child_of(event.thread, self._host_netns)
        if init is None and runtime is CRUN:
            init = inits.inherited_from(event.thread, id_, self._host_netns)
        if init is None:
            self._passed.append((root, id_))
            return None
        return Save(root, id_, runtime, init)

    def _root_of(self, fd: int, id_: str, name: str) -> str | None:
        """The root that has the open file as `<root>/<id_>/<name>`, whatever its path.

        The path may be another one in another mount namespace, and a directory may have been moved.
        """
        file = os.fstat(fd)
        for marked in self.roots:
            try:
                there = os.stat(f"{marked.directory}/{id_}/{name}", follow_symlinks=False)  # noqa: PTH116
            except OSError:
                continue
            if there.st_ino == file.st_ino and there.st_dev == file.st_dev:
                return marked.root
        return None


def _runtime_of(save: str) -> Runtime:
    """The runtime that saves by a file of that name; there is one."""
    for runtime in RUNTIMES:
        if save.startswith(runtime.save):
            return runtime
    raise AssertionError(save)
