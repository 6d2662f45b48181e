"""The roots, each by itself: made, watched and held; or named, left, and tried again.

What a root's path leads to may change, and not only by root's hand. A root is what was opened; once
its path leads elsewhere, what was opened is let go, and what is there now taken in its place.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from handlers.host import root_mounts
from handlers.kernel import mounts, rootpath
from watcher.model.errors import WatcherError, quoted, said

if TYPE_CHECKING:
    from handlers.host import OpenRoot
    from watcher.events.roots import RootWatch
    from watcher.gate.gatekeeper import Gatekeeper
    from watcher.log.logger import Log

PAUSES: Final = (0.05, 10.0)
"""Seconds from a change of a root's path to the look that it causes, after a change just before: at
first, and at the most. Whoever may change a part of the path may do so as often as they like."""

_QUIET: Final = 10
"""After so many pauses without a change, the next one is looked at at once."""

LOST: Final = "a container's first instructions may run before it has its network"


@dataclass(slots=True)
class _Kept:
    """A root: what is open of it, why it is left alone, and why it is not held; empty if not."""

    open: OpenRoot | None = None
    left: str = ""
    unheld: str = ""


class RootKeeper:
    """Keeps the roots, in the thread of the event loop.

    It can hold them before there is a loop: what happens in them is told from :meth:`serve` on.

    Args:
        roots: their paths.
        gate: holds runc in them.
        log: where roots are named that are left.
    """

    def __init__(self, roots: Iterable[str], gate: Gatekeeper, log: Log) -> None:
        self._gate = gate
        self._log = log
        self._watch: RootWatch | None = None
        self._kept = {root: _Kept() for root in roots}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._pauses: dict[str, tuple[float, float]] = {}
        """Of each root whose path was changed lately: the pause that it has earned, until when."""

    def start(self) -> None:
        """Take all roots, as far as they can be.

        Raises:
            WatcherError: one cannot be held, where that is required.
        """
        for root, kept in self._kept.items():
            self._take(root, kept)
            if why := kept.left or kept.unheld:
                self._gate.refuse(root, why)

    def serve(
        self,
        loop: asyncio.AbstractEventLoop,
        watch: RootWatch,
        *,
        changed: Callable[[], object],
    ) -> None:
        """Tell from now on what happens in the roots, and what becomes of them.

        Args:
            loop: the event loop, in whose thread this is called.
            watch: tells what happens in them; it watches.
            changed: called when a root has become another directory, or is there (no more).

        Raises:
            OSError: one cannot be watched.
        """
        self._loop, self._watch, self._changed = loop, watch, changed
        self.watch_again()

    def close(self) -> None:
        """Let all roots go; what they were made for the gate is taken back."""
        for timer in self._timers.values():
            timer.cancel()
        for root, kept in self._kept.items():
            self._let_go(root, kept)

    def watch_again(self) -> None:
        """Have all roots watched, after that was started anew.

        Raises:
            OSError: one cannot be watched.
        """
        assert self._watch is not None
        for root, kept in self._kept.items():
            self._watch.watch_path(root)
            if kept.open is not None:
                self._watch.watch_root(root, kept.open.descriptor)

    def hold_again(self) -> None:
        """Have all roots held, after the gate was opened anew."""
        for root, kept in self._kept.items():
            if kept.open is not None and kept.open.mount is not None:
                with suppress(OSError):
                    self._gate.mark(kept.open)
                    continue
            self._let_go(root, kept)
            self._take(root, kept)

    def told(self, root: str) -> None:
        """The path of `root` may lead elsewhere: look soon, and not too often."""
        if root in self._timers:
            return
        pause, until = self._pauses.get(root, (0.0, 0.0))
        pause = pause if until > self._loop.time() else 0.0
        self._timers[root] = self._loop.call_later(pause, self._look, root, pause)

    def retry(self) -> None:
        """Look at all roots again, in case that nobody has told of a change."""
        renewed = [root for root in self._kept if self._renew(root)]
        if renewed:
            self._changed()

    def state(self) -> dict[str, dict[str, str]]:
        """How each root is kept: held by its mount or file system; not held, or left, and why."""
        kept = self._kept.items()
        held = {
            root: "file system" if one.open.whole else "mount"
            for root, one in kept
            if one.open is not None and one.open.mount is not None
        }
        unheld = {root: one.unheld for root, one in kept if one.unheld}
        left = {root: one.left for root, one in kept if one.left}
        named = {"held": held, "not_held": unheld, "left": left}
        return {name: roots for name, roots in named.items() if roots}

    def _look(self, root: str, paused: float) -> None:
        del self._timers[root]
        pause = min(max(paused * 2, PAUSES[0]), PAUSES[1])
        self._pauses[root] = (pause, self._loop.time() + _QUIET * pause)
        if self._renew(root):
            self._changed()

    def _renew(self, root: str) -> bool:
        """See what the path of `root` leads to, and keep that; whether it was something else."""
        kept = self._kept[root]
        if kept.open is not None and not kept.unheld and self._leads_to(root, kept.open):
            self._watch_path(root)  # another part of it may have been changed
            return False
        before = kept.open, kept.left, kept.unheld
        self._let_go(root, kept)
        self._take(root, kept)
        return before != (kept.open, kept.left, kept.unheld)

    def _leads_to(self, root: str, open_: OpenRoot) -> bool:
        try:
            with rootpath.opened(root) as directory:
                if rootpath.identity(directory) != open_.identity:
                    return False
                return open_.mount in (None, mounts.mount_id(directory))
        except OSError as error:
            # Where it cannot be told, as with too many open files, it is what it was.
            return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

    def _take(self, root: str, kept: _Kept) -> None:
        """Open, hold and watch a root; what cannot be is noted, and logged where it is news."""
        before = kept.left, kept.unheld
        kept.left = kept.unheld = ""
        self._watch_path(root)
        try:
            self._refuse_twice(root)
            kept.open = self._open(root, kept)
            if self._watch is not None:
                self._watch.watch_root(root, kept.open.descriptor)
        except (OSError, WatcherError) as error:
            kept.left = said(error)
            self._let_go(root, kept)
        self._watch_path(root)  # it may have been made just now
        self._tell(root, kept, before)

    def _watch_path(self, root: str) -> None:
        if self._watch is not None:
            self._watch.watch_path(root)

    def _open(self, root: str, kept: _Kept) -> OpenRoot:
        if not self._gate.open:
            return root_mounts.take(root)
        try:
            return self._gate.hold(root)
        except (OSError, WatcherError) as error:
            open_ = root_mounts.take(root)  # it can be watched all the same, or that says why not
            kept.unheld = said(error)
            return open_

    def _refuse_twice(self, root: str) -> None:
        """Raise a WatcherError where another root is the same directory: one container were two."""
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
                self._log.error("root cannot be unmounted", root=root, reason=said(error))

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
