"""What the patterns of roots match, and the watch of the directories where that may change."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Set
from pathlib import Path
from typing import TYPE_CHECKING

from handlers.kernel import rootpath
from watcher.config.patterns import directory_of, is_pattern
from watcher.containers.files import Unreadable
from watcher.containers.present import matched, refuse_others
from watcher.model.errors import message_of

if TYPE_CHECKING:
    from watcher.events.roots import RootWatch
    from watcher.log.logger import Log


class Matches:
    """The patterns by their directories, which are made if they are missing.

    Attributes:
        left: why a pattern is left alone, if it is.

    Args:
        paths: of roots; those that are no patterns are none of its business.
        log: names patterns that are left alone.
    """

    def __init__(self, paths: Iterable[str], log: Log) -> None:
        self._log = log
        self._patterns: dict[str, list[str]] = {}
        for pattern in filter(is_pattern, paths):
            self._patterns.setdefault(directory_of(pattern), []).append(pattern)
        self._watched: dict[str, tuple[int, int]] = {}
        """The identity of each directory that is watched; another one may get it later."""
        self.left: dict[str, str] = {}

    def directories(self) -> list[str]:
        """The directories of the patterns."""
        return list(self._patterns)

    def find(
        self,
        directory: str,
        before: Set[str],
        watch: RootWatch | None,
        changed: Callable[[], object],
    ) -> Set[str]:
        """The paths that the patterns in `directory` match now.

        If that cannot be seen, it is those of `before` that are still directories.

        Args:
            directory: one of :meth:`directories`.
            before: what was found before.
            watch: watches the directory from now on, if there is one.
            changed: called when there may be other matches.
        """
        left, found = "", set[str]()
        try:
            self._watch(directory, watch, changed)
            for pattern in self._patterns[directory]:
                found.update(matched(pattern))
        except (OSError, Unreadable) as error:
            left = message_of(error)
            found = {path for path in before if Path(path).is_dir()}
        for pattern in self._patterns[directory]:
            self._tell(pattern, left)
        return found

    def _watch(
        self, directory: str, watch: RootWatch | None, changed: Callable[[], object]
    ) -> None:
        opened = rootpath.open_directory(directory, make=True)
        try:
            try:
                refuse_others(directory, opened)
            except Unreadable:
                if watch is not None:  # each directory that others make would cost a look
                    watch.leave_above(directory)
                raise
            identity = rootpath.identity(opened)
            if watch is not None and not (
                watch.watches_above(directory) and self._watched.get(directory) == identity
            ):
                watch.watch_above(directory, opened, changed)
                self._watched[directory] = identity
        finally:
            os.close(opened)

    def _tell(self, pattern: str, left: str) -> None:
        if left == self.left.get(pattern, ""):
            return
        if left:
            self.left[pattern] = left
            self._log.error(
                "root is left alone, and none of its containers is seen to", root=pattern,
                reason=left, remedy="see what stands at that path; `watcher check` tells more",
            )  # fmt: skip
        else:
            del self.left[pattern]
            self._log.info("root is kept again", root=pattern)
