"""Watches the roots: reports containers to look at again, and roots whose path may lead elsewhere.

It watches the root, each container's directory in it, and each directory on the root's path. Deeper
directories say nothing about a container.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from handlers.kernel import rootpath
from handlers.kernel.directories import make_directory
from watcher.containers.annotations import valid_id
from watcher.containers.runtimes import STATES
from watcher.events.inotify import CREATED, DIRECTORY, ENDED, REMOVED, WRITTEN, Inotify, Watch
from watcher.model.errors import message_of

if TYPE_CHECKING:
    from watcher.log.logger import Log

type Changed = Callable[[str], object]


class RootWatch:
    """Watches roots and other directories, in the loop's thread, from `start` to `stop`.

    Args:
        look: called with a root and a container's id when something about it has changed.
        anew: called with a root that may be another directory by now.
        overflow: called if the kernel dropped events.
        failed: called with the error that ended it; :meth:`start` starts it again.
        log: names containers that cannot be watched.
    """

    def __init__(
        self,
        *,
        look: Callable[[str, str], object],
        anew: Changed,
        overflow: Callable[[], object],
        failed: Callable[[Exception], object],
        log: Log,
    ) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._log = log
        self._look = look
        self._anew = anew
        self._overflow = overflow
        self._failed = failed
        self._inotify: Inotify | None = None
        self._roots: dict[str, _Root] = {}
        self._paths: dict[str, list[Watch]] = {}
        self._names: dict[str, Watch] = {}
        self._told = False

    @property
    def alive(self) -> bool:
        """Whether it watches."""
        return self._inotify is not None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open the queue in the thread of `loop`, or open it again; nothing is watched yet.

        Raises:
            OSError: the kernel gives no queue of events.
        """
        self.stop()
        self._loop = loop
        self._inotify = Inotify(self._lost)
        loop.add_reader(self._inotify.fileno(), self._read)

    def stop(self) -> None:
        """Stop watching."""
        for root in list(self._roots):
            self.leave_root(root)
        if self._inotify is not None:
            assert self._loop is not None
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None
        self._paths.clear()
        self._names.clear()

    def watch_root(self, root: str, directory: int) -> None:
        """Watch the containers of `root`, open as `directory`, in place of its directory before.

        Containers that are there already are watched but not reported.

        Raises:
            OSError: it cannot be watched.
        """
        self.leave_root(root)
        if self._inotify is not None:
            watched = self._roots[root] = _Root(
                self._inotify, os.dup(directory), lambda id_: self._look(root, id_),
                lambda: self._anew(root), lambda id_, error: self._unwatched(root, id_, error),
            )  # fmt: skip
            watched.watch()

    def leave_root(self, root: str) -> None:
        """Stop watching the containers of `root`."""
        if watched := self._roots.pop(root, None):
            watched.close()

    def watch_path(self, root: str) -> None:
        """Report when another directory may be at the path `root`, as far as that path exists."""
        before = self._paths.pop(root, [])
        watches = self._paths[root] = []
        if self._inotify is None:
            return
        with suppress(OSError):
            steps = rootpath.walk(root)
            while True:
                try:
                    directory, name = next(steps)
                except StopIteration as end:
                    os.close(end.value)
                    break
                watches.append(self._watch_step(root, directory, name))
        for watch in before:
            self._inotify.remove(watch)

    def _watch_step(self, root: str, directory: int, name: str) -> Watch:
        """Report when `name`, in a directory on the path of `root`, may be another directory."""

        def tell(_: int, changed: str) -> None:
            if changed == name:
                self._anew(root)

        assert self._inotify is not None
        path = f"/proc/self/fd/{directory}"
        return self._inotify.add(path, CREATED | REMOVED, tell, follow=True)

    def watch_above(self, directory: str, descriptor: int, call: Callable[[], object]) -> None:
        """Call `call` when a directory appears in or vanishes from an open `directory`.

        It replaces an earlier watch of `directory`. It ends with that directory: then `call` is
        called once more.

        Raises:
            OSError: it cannot be watched.
        """
        if self._inotify is None:
            return
        self.leave_above(directory)

        def tell(what: int, _: str) -> None:
            if what & ENDED:
                self._names.pop(directory, None)
            if what & (DIRECTORY | ENDED):
                call()

        path = f"/proc/self/fd/{descriptor}"
        self._names[directory] = self._inotify.add(path, CREATED | REMOVED, tell, follow=True)

    def leave_above(self, directory: str) -> None:
        """Undo :meth:`watch_above`, if that was called."""
        before = self._names.pop(directory, None)
        if before is not None and self._inotify is not None:
            self._inotify.remove(before)

    def watches_above(self, directory: str) -> bool:
        """Whether the watch of :meth:`watch_above` is still there."""
        return directory in self._names

    def leave_path(self, root: str) -> None:
        """Stop watching the path of `root`."""
        for watch in self._paths.pop(root, []):
            if self._inotify is not None:
                self._inotify.remove(watch)

    def watch_names(self, directory: str, call: Changed, mask: int = REMOVED) -> None:
        """Call `call` with each name in `directory` that has a change of `mask`.

        The directory is made if it is missing, and watched again after it was removed.

        Raises:
            OSError: it cannot be made or watched.
        """
        make_directory(Path(directory), 0o755)
        if self._inotify is None:
            return
        if before := self._names.pop(directory, None):
            self._inotify.remove(before)
        self._names[directory] = self._inotify.add(
            directory, mask, lambda _, name: call(name), follow=True
        )

    def _lost(self) -> None:
        """Watch all directories that are there now; some may have been missed."""
        for watched in self._roots.values():
            watched.forget()
            watched.watch()
        self._overflow()

    def _unwatched(self, root: str, id_: str, error: OSError) -> None:
        """Log once that a container's directory cannot be watched; the next one fails alike."""
        if not self._told:
            self._told = True
            self._log.error(
                "containers cannot be watched; changes of theirs are seen by the hourly sync alone",
                root=root, container=id_, reason=message_of(error),
            )  # fmt: skip

    def _read(self) -> None:
        assert self._inotify is not None
        try:
            self._inotify.read()
        except Exception as error:  # noqa: BLE001 (whatever it is, what is watched is not known now)
            self.stop()
            self._failed(error)


class _Root:
    """One watched root with the directories of its containers."""

    def __init__(
        self,
        inotify: Inotify,
        directory: int,
        look: Changed,
        anew: Callable[[], object],
        unwatched: Callable[[str, OSError], object],
    ) -> None:
        self._inotify = inotify
        self._directory = directory
        self._path = f"/proc/self/fd/{directory}"
        self._look = look
        self._anew = anew
        self._unwatched = unwatched
        self._watch: Watch | None = None
        self._entries: dict[str, Watch] = {}

    def watch(self) -> None:
        """Watch the root and the directories in it."""
        if self._watch is None:
            self._watch = self._inotify.add(self._path, CREATED | REMOVED, self._tell, follow=True)
        with suppress(OSError), os.scandir(self._path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    self._watch_entry(entry.name)

    def forget(self) -> None:
        """Stop watching the directories in it."""
        for watch in self._entries.values():
            self._inotify.remove(watch)
        self._entries.clear()

    def close(self) -> None:
        """Stop watching."""
        self.forget()
        if self._watch is not None:
            self._inotify.remove(self._watch)
        os.close(self._directory)

    def _tell(self, what: int, name: str) -> None:
        if what & ENDED:
            self._anew()
            return
        if what & REMOVED and (watch := self._entries.pop(name, None)):
            self._inotify.remove(watch)
        if what & CREATED and what & DIRECTORY:
            self._watch_entry(name)
            if self._will_tell(name):
                return
        if what & DIRECTORY:
            self._look(name)

    def _will_tell(self, id_: str) -> bool:
        """Whether a new directory has no state yet, and is watched, so that its state will be seen.

        A look would find nothing, and the runtime is about to come to the gate.
        """
        if id_ not in self._entries or not valid_id(id_):
            return False
        try:
            for state in STATES:
                with suppress(FileNotFoundError):
                    os.lstat(f"{self._path}/{id_}/{state}")
                    return False
        except OSError:
            return False
        return True

    def _watch_entry(self, id_: str) -> None:
        """Watch for a container's state, which its runtime renames into place."""
        if id_ in self._entries:
            return

        def tell(what: int, name: str) -> None:
            if what & ENDED:
                self._entries.pop(id_, None)
            elif name in STATES:
                self._look(id_)

        try:
            watch = self._inotify.add(f"{self._path}/{id_}", CREATED | REMOVED | WRITTEN, tell)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):  # it has gone, or is no directory
                self._unwatched(id_, error)
        else:
            self._entries[id_] = watch
