"""What the lease store has, as lines: all of it in small parts, or what has a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from watcher.feed.events import FAILURE, SANDBOX, failure_line, sandbox_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from watcher.feed.lines import FailureLine, SandboxLine
    from watcher.store.failures import Failure
    from watcher.store.leases import LeaseStore

PAGE: Final = 4
"""Sandboxes, or failures, that are read at once: some tenths of a millisecond."""


class Unsaved(Protocol):
    """Failures that could not be stored, and count in place of stored ones."""

    def unsaved(self, root: str, id_: str) -> Failure | None:
        """That of a container."""

    def all_unsaved(self) -> list[Failure]:
        """All of them."""


class Records:
    """Reads the lease store for readers of the state.

    Args:
        store: the lease store.
        unsaved: the failures that it does not have.
    """

    def __init__(self, store: LeaseStore, unsaved: Unsaved) -> None:
        self._store = store
        self._unsaved = unsaved

    def version(self) -> tuple[int, int]:
        """As :meth:`watcher.store.leases.LeaseStore.others_version`.

        Raises:
            WatcherError: the store cannot be read.
        """
        return self._store.others_version()

    def pages(self) -> Iterator[list[SandboxLine | FailureLine]]:
        """Everything, each time a little of it as it is then.

        What changes meanwhile may come as it was, as it is, or not at all; an event tells it.

        Raises:
            WatcherError: the store cannot be read.
        """
        key = 0
        while sandboxes := self._store.sandboxes_after(key, PAGE):
            key = sandboxes[-1].key
            yield [sandbox_line(sandbox) for sandbox in sandboxes]
        number = 0
        while failures := self._store.failures_after(number, PAGE):
            number = failures[-1][0]
            kept = [f for _, f in failures if self._unsaved.unsaved(f.root, f.id) is None]
            yield [failure_line(failure) for failure in kept]
        unsaved = self._unsaved.all_unsaved()
        yield [failure_line(failure) for failure in unsaved if _may_live(failure)]

    def with_keys(
        self, keys: Iterable[str]
    ) -> tuple[tuple[SandboxLine | FailureLine, ...], tuple[str, ...]]:
        """The lines that have these `keys` now, and the keys that no line has.

        Raises:
            WatcherError: the store cannot be read.
        """
        found, gone = [], []
        for key in dict.fromkeys(keys):
            line = self._with_key(key)
            if line is None:
                gone.append(key)
            else:
                found.append(line)
        return tuple(found), tuple(gone)

    def _with_key(self, key: str) -> SandboxLine | FailureLine | None:
        kind, _, rest = key.partition("/")
        if kind == SANDBOX and rest.isdecimal():
            sandbox = self._store.sandbox(int(rest))
            return None if sandbox is None else sandbox_line(sandbox)
        if kind == FAILURE:
            id_, slash, root = rest.partition("/")
            root = slash + root
            failure = self._unsaved.unsaved(root, id_) or self._store.failure(root, id_)
            return None if failure is None or not _may_live(failure) else failure_line(failure)
        return None


def _may_live(failure: Failure) -> bool:
    return bool(failure.id) and not failure.refused
