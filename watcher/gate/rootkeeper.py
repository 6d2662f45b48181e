"""Makes, watches and holds each root; names a root that it has to leave alone, and tries it again.

The path of a root may come to lead elsewhere, and other users than root may cause that. So a root
is an open directory. Once the path leads elsewhere, the keeper releases that directory and takes
the new one in its place.

A pattern is looked for again whenever a directory appears or vanishes where it may match. Each
match is a root like any other, but it is never made, and is forgotten once it has gone.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from handlers.host import root_mounts
from handlers.kernel import mounts, rootpath
from watcher.config.patterns import directory_of, is_pattern
from watcher.containers import roots
from watcher.containers.files import Unreadable
from watcher.gate.matches import Matches
from watcher.model.errors import WatcherError, message_of, quoted
from watcher.model.pauses import longer

if TYPE_CHECKING:
    from handlers.host import OpenRoot
    from watcher.containers.runtimes import Runtime
    from watcher.events.roots import RootWatch
    from watcher.gate.gatekeeper import Gatekeeper
    from watcher.log.logger import Log

PAUSES: Final = (0.05, 10.0)
"""Seconds between looks at a root whose path changes repeatedly: first and maximum. A user who owns
a part of the path may change it at any rate."""

_QUIET: Final = 10
"""After so many pauses without a change, the next change is looked at immediately."""

LOST: Final = "a container's first instructions may run before it has its network"


@dataclass(slots=True)
class _Kept:
    """A root: its open directory, why it is left alone, and why it is not held (empty if it is).

    `is_match`: whether a pattern matches it, and no `[[root]]` has this very path.
    """

    is_match: bool = False
    open: OpenRoot | None = None
    left: str = ""
    unheld: str = ""


class RootKeeper:
    """Keeps the roots, in the thread of the event loop.

    It can hold them before there is a loop; it watches them from :meth:`serve` on.

    Args:
        paths: their paths, with patterns.
        gate: holds runc in them.
        log: names roots that are left alone.
    """

    def __init__(self, paths: Iterable[str], gate: Gatekeeper, log: Log) -> None:
        self._gate = gate
        self._log = log
        self._watch: RootWatch | None = None
        paths = list(paths)
        self._kept = {root: _Kept() for root in paths if not is_pattern(root)}
        self._matches = Matches(paths, log)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._pauses: dict[str, tuple[float, float]] = {}
        """By root whose path changed lately: its present pause, and until when that lasts."""

    def start(self) -> None:
        """Take every root that can be taken.

        Raises:
            WatcherError: a root cannot be held, and that is required.
        """
        for root, kept in self._kept.items():
            self._take(root, kept)
        for above in self._matches.directories():
            self._match(above)
        for root, kept in self._kept.items():
            if why := kept.left or kept.unheld:
                self._gate.refuse(root, why)
        for pattern, why in self._matches.left.items():
            self._gate.refuse(pattern, why)

    def serve(
        self,
        loop: asyncio.AbstractEventLoop,
        watch: RootWatch,
        *,
        changed: Callable[[], object],
    ) -> None:
        """Watch the roots from now on, and report what becomes of them.

        Args:
            loop: the event loop, in whose thread this is called.
            watch: watches the roots; it has been started.
            changed: called when a root has become another directory, or has appeared or vanished.

        Raises:
            OSError: a root cannot be watched.
        """
        self._loop, self._watch, self._changed = loop, watch, changed
        self.watch_again()

    def close(self) -> None:
        """Release all roots and undo what was done to them for the gate."""
        for timer in self._timers.values():
            timer.cancel()
        for root, kept in self._kept.items():
            self._let_go(root, kept)

    def watch_again(self) -> None:
        """Watch all roots, after the watch was started again.

        Raises:
            OSError: a root cannot be watched.
        """
        assert self._watch is not None
        for above in self._matches.directories():
            self._match(above)
        for root, kept in self._kept.items():
            self._watch.watch_path(root)
            if kept.open is not None:
                self._watch.watch_root(root, kept.open.descriptor)

    def paths(self) -> list[str]:
        """The paths of the roots now, and of the directories of patterns."""
        return [*self._kept, *self._matches.directories()]

    def hold_again(self) -> None:
        """Hold all roots, after the gate was opened again."""
        for root, kept in self._kept.items():
            if kept.open is not None and kept.open.mount is not None:
                with suppress(OSError):
                    self._gate.mark(kept.open)
                    continue
            self._let_go(root, kept)
            self._take(root, kept)

    def path_may_lead_elsewhere(self, root: str) -> None:
        """Look at `root` soon, because its path may lead elsewhere; but not too often."""
        if root in self._timers:
            return
        pause, until = self._pauses.get(root, (0.0, 0.0))
        pause = pause if until > self._loop.time() else 0.0
        self._timers[root] = self._loop.call_later(pause, self._look, root, pause)

    def retry(self) -> None:
        """Look at all roots again, in case a change caused no event."""
        renewed = [path for path in self.paths() if self._renew(path)]
        if renewed:
            self._changed()

    def reasons(self) -> dict[str, str]:
        """Why the containers of each root do not start behind the gate; empty if they do."""
        found = {
            root: kept.left if kept.open is None else self._why_not_held(kept)
            for root, kept in self._kept.items()
        }
        return found | self._matches.left

    @staticmethod
    def _why_not_held(kept: _Kept) -> str:
        assert kept.open is not None
        return "" if kept.open.mount is not None else kept.unheld or "there is no gate"

    def state(self) -> dict[str, dict[str, str]]:
        """The state of each root: held by mount or file system; or not held, or left, and why.

        Besides, the runtimes of its containers, as far as it has any.
        """
        named: dict[str, dict[str, str]] = {"held": {}, "not_held": {}, "left": {}, "runtimes": {}}
        for root, kept in self._kept.items():
            if kept.open is None:
                named["left"][root] = kept.left
            elif kept.open.mount is None:
                named["not_held"][root] = self._why_not_held(kept)
            else:
                named["held"][root] = "file system" if kept.open.whole else "mount"
            with suppress(Unreadable):
                runtimes = roots.contents(root).runtimes
                if runtimes:
                    named["runtimes"][root] = ", ".join(map(_described, runtimes))
        named["left"] |= self._matches.left
        return {name: found for name, found in named.items() if found}

    def _look(self, root: str, paused: float) -> None:
        del self._timers[root]
        pause = longer(paused, PAUSES)
        self._pauses[root] = (pause, self._loop.time() + _QUIET * pause)
        if self._renew(root):
            self._changed()

    def _renew(self, root: str) -> bool:
        """Take the directory that the path of `root` leads to now; whether it is another one.

        `root` may also be a directory of patterns, or a root that has been forgotten.
        """
        if root in self._matches.directories():
            return self._match(root)
        kept = self._kept.get(root)
        if kept is None:
            return False
        if not kept.is_match:
            return self._take_anew(root, kept)
        is_there = Path(root).is_dir()
        taken = is_there and self._take_anew(root, kept)
        return self._match(directory_of(root)) or taken  # what was moved away may match as well

    def _take_anew(self, root: str, kept: _Kept) -> bool:
        if kept.open is not None and not kept.unheld and self._leads_to(root, kept.open):
            self._watch_path(root)  # another part of it may have changed
            return False
        before = kept.open, kept.left, kept.unheld
        self._let_go(root, kept)
        self._take(root, kept)
        return before != (kept.open, kept.left, kept.unheld)

    def _match(self, above: str) -> bool:
        """Keep what the patterns in the directory `above` match now, and no other match there.

        Returns whether a root has appeared or vanished.
        """
        before = {
            root for root, one in self._kept.items() if one.is_match and directory_of(root) == above
        }
        self._watch_path(above)
        found = self._matches.find(above, before, self._watch, lambda: self._match_again(above))
        self._watch_path(above)  # it may just have been made
        gone, new = before - found, sorted(found - self._kept.keys())
        for root in gone:
            self._forget(root)
        for root in new:
            kept = self._kept[root] = _Kept(is_match=True)
            self._take(root, kept)
            if self._watch is not None:
                self._log.info("root appears", root=root)
        left = [root for root in sorted(before & found) if self._kept[root].left]
        taken = [root for root in left if self._take_anew(root, self._kept[root])]
        return bool(gone or new or taken)

    def _match_again(self, above: str) -> None:
        if self._match(above):
            self._changed()

    def _forget(self, root: str) -> None:
        """Release a match that has gone."""
        if timer := self._timers.pop(root, None):
            timer.cancel()
        self._pauses.pop(root, None)
        if self._watch is not None:
            self._watch.leave_path(root)
        self._let_go(root, self._kept.pop(root))
        self._log.info("root vanishes", root=root)

    def _leads_to(self, root: str, open_: OpenRoot) -> bool:
        try:
            with rootpath.opened(root) as directory:
                if rootpath.identity(directory) != open_.identity:
                    return False
                return open_.mount in (None, mounts.mount_id(directory))
        except OSError as error:
            # If this is unknown, as with too many open files, it counts as unchanged.
            return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

    def _take(self, root: str, kept: _Kept) -> None:
        """Open, hold and watch a root; note what fails, and log it if it is news."""
        before = kept.left, kept.unheld
        kept.left = kept.unheld = ""
        self._watch_path(root)
        try:
            self._refuse_twice(root)
            kept.open = self._open(root, kept)
            if self._watch is not None:
                self._watch.watch_root(root, kept.open.descriptor)
        except (OSError, WatcherError) as error:
            kept.left = message_of(error)
            self._let_go(root, kept)
        self._watch_path(root)  # it may just have been made
        self._tell(root, kept, before)

    def _watch_path(self, root: str) -> None:
        if self._watch is not None:
            self._watch.watch_path(root)

    def _open(self, root: str, kept: _Kept) -> OpenRoot:
        make = not kept.is_match
        if not self._gate.open:
            return root_mounts.take(root, make=make)
        try:
            return self._gate.hold(root, make=make)
        except (OSError, WatcherError) as error:
            with suppress(OSError):  # an earlier version may have held it, and have been killed
                root_mounts.take_back(root)
            # It can still be watched, or this raises why not.
            open_ = root_mounts.take(root, make=make)
            kept.unheld = message_of(error)
            return open_

    def _refuse_twice(self, root: str) -> None:
        """Raise WatcherError if another root is this directory: a container would count twice."""
        with suppress(FileNotFoundError), rootpath.opened(root) as directory:
            identity = rootpath.identity(directory)
            for other, kept in self._kept.items():
                if other != root and kept.open is not None and kept.open.identity == identity:
                    raise WatcherError(f"it is the same directory as root {quoted(other)}")

    def _let_go(self, root: str, kept: _Kept) -> None:
        if self._watch is not None:
            self._watch.leave_root(root)
        open_, kept.open = kept.open, None
        if open_ is not None:
            try:
                self._gate.let_go(open_)
            except OSError as error:
                self._log.error("root cannot be unmounted", root=root, reason=message_of(error))

    def _tell(self, root: str, kept: _Kept, before: tuple[str, str]) -> None:
        now = kept.left, kept.unheld
        if now == before:
            return
        if kept.left:
            self._log.error(
                "root is left alone, and none of its containers is seen to", root=root,
                reason=kept.left, remedy="see what stands at that path; `watcher check` tells more",
            )  # fmt: skip
        elif kept.unheld:
            self._log.warning(
                f"root is not held: {LOST}", root=root, reason=kept.unheld,
                remedy="see what stands at that path; `watcher check` tells more",
            )  # fmt: skip
        else:
            self._log.info("root is kept again", root=root)


def _described(runtime: Runtime) -> str:
    return runtime.name + (f" ({runtime.promise})" if runtime.promise else "")
