"""The failures of containers: published once, and kept for `ls` and a retry."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from watcher.containers.annotations import KEYS
from watcher.containers.files import Unreadable
from watcher.facts.kinds import Failed, Forgotten, LeftNamespace, Unmet, Unread
from watcher.model.errors import InvalidRequest, WatcherError, about, named
from watcher.model.keys import PREFIX
from watcher.store.failures import MAX_REASON, MAX_REFUSED, MAX_VALUE, Failure

if TYPE_CHECKING:
    from watcher.facts.publisher import Publisher
    from watcher.model.container import Container, Process
    from watcher.store.leases import LeaseStore


class FailureLog:
    """Publishes and keeps failures.

    Args:
        store: keeps them; while it cannot be written, they are kept in memory.
        facts: publishes each once, before it is stored, because the store may be what failed.
    """

    def __init__(self, store: LeaseStore, facts: Publisher) -> None:
        self._store = store
        self._facts = facts
        self._unsaved: dict[tuple[str, str], Failure] = {}
        self._unread: dict[tuple[str, str], str] = {}
        """Why the files of an attached container cannot be read, as published, by container."""
        self._left: dict[tuple[str, str], Process] = {}
        """The inits that were published as having left their namespaces, by container."""
        self._unmet: dict[tuple[str, str], Process] = {}
        """The inits that were published as left alone despite their request, by container."""

    def note(
        self, root: str, id_: str, init: Process | None, error: Exception, *, refused: bool = False
    ) -> None:
        """Publish and keep why a container has no network; `refused`: its start was denied.

        The message of an :class:`InvalidRequest` gets the name of its container here.
        """
        id_ = named(id_)
        reason = about(id_, error)[:MAX_REASON]
        was = self._kept(root, id_)
        if was is not None and (was.init, was.reason) == (init, reason) and not refused:
            return  # published already; every retry fails in the same way
        key, value = (error.key, error.value) if isinstance(error, InvalidRequest) else ("", "")
        value = value[:MAX_VALUE]
        cause, at = _cause(error), time.time()
        self._facts.publish(Failed(root, id_, init, key, value, reason, refused, cause, at))
        failure = Failure(root, id_, init, key, value, reason, refused, at, cause)
        try:
            self._store.fail(failure)
            self._unsaved.pop((root, id_), None)
        except WatcherError:
            self._keep_unsaved(failure)

    def note_unread(self, root: str, id_: str, error: Exception) -> None:
        """Publish that the files of an attached container cannot be read.

        Raises:
            WatcherError: the store cannot be written.
        """
        if self.has(root, id_):
            self.forget(root, id_, refused=False)
        reason = about(id_, error)[:MAX_REASON]
        if self._unread.get((root, id_)) != reason:
            self._unread[root, id_] = reason
            self._facts.publish(Unread(root, id_, reason))

    def note_left(self, container: Container) -> None:
        """Publish that the init of `container` has left the namespace that has its network."""
        key = (container.root, container.id)
        if self._left.get(key) != container.init:
            self._left[key] = container.init
            self._facts.publish(LeftNamespace(*key))

    def note_unmet(self, container: Container, reason: str) -> None:
        """Publish that `container` asks for a network, but is left alone for `reason`."""
        key = (container.root, container.id)
        if self._unmet.get(key) != container.init:
            self._unmet[key] = container.init
            self._facts.publish(Unmet(*key, reason))

    def forget_unmet(self, root: str, id_: str) -> None:
        """Forget what :meth:`note_unmet` has noted of a container, which has gone."""
        self._unmet.pop((root, id_), None)

    def forget(self, root: str, id_: str, *, refused: bool) -> None:
        """Forget a container's failure; that of a `refused` start only if `refused` is true.

        Raises:
            WatcherError: the store cannot be written.
        """
        unsaved = self._unsaved.pop((root, id_), None)
        self._unread.pop((root, id_), None)
        self._left.pop((root, id_), None)
        if self._store.forget_failure(root, id_, refused=refused) or unsaved is not None:
            self._facts.publish(Forgotten(root, id_))

    def has(self, root: str, id_: str) -> bool:
        """Whether a failure of that container is kept.

        Raises:
            WatcherError: the store cannot be read.
        """
        return (root, id_) in self._unsaved or self._store.failure(root, id_) is not None

    def all(self) -> list[Failure]:
        """Every kept failure.

        Raises:
            WatcherError: the store cannot be read.
        """
        return [*self._store.failures(), *self._unsaved.values()]

    def unsaved(self, root: str, id_: str) -> Failure | None:
        """A container's failure, if it could not be stored."""
        return self._unsaved.get((root, id_))

    def all_unsaved(self) -> list[Failure]:
        """The failures that could not be stored."""
        return list(self._unsaved.values())

    def living(self) -> list[Failure]:
        """The failures of containers that may live and can be tried again.

        Raises:
            WatcherError: the store cannot be read.
        """
        return [failure for failure in self.all() if failure.id and not failure.refused]

    def any_living(self) -> bool:
        """Whether :meth:`living` has any.

        Raises:
            WatcherError: the store cannot be read.
        """
        if any(failure.id and not failure.refused for failure in self._unsaved.values()):
            return True
        return self._store.has_failures()

    def _keep_unsaved(self, failure: Failure) -> None:
        """Keep a failure in memory; of the refused ones, which never vanish, as many as on disk."""
        key = (failure.root, failure.id)
        self._unsaved.pop(key, None)
        self._unsaved[key] = failure
        refused = [key for key, kept in self._unsaved.items() if kept.refused]
        for old in refused[:-MAX_REFUSED]:
            del self._unsaved[old]

    def _kept(self, root: str, id_: str) -> Failure | None:
        unsaved = self._unsaved.get((root, id_))
        if unsaved is not None:
            return unsaved
        try:
            return self._store.failure(root, id_)
        except WatcherError:
            return None


def _cause(error: Exception) -> str:
    """One of few words for the cause of a failure, for whoever counts them."""
    match error:
        case InvalidRequest(key=key) if key.startswith(PREFIX):
            # A bundle may have any text in an unknown key, and each would be counted for good.
            return key if key.removeprefix(PREFIX) in KEYS else "unknown-annotation"
        case InvalidRequest(key=key) if key:
            return key
        case Unreadable():
            return "unreadable"
        case OSError(errno=number) if number is not None:
            return errno.errorcode.get(number, "other")
    return "other"
