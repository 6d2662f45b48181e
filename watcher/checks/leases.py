"""The lease store, and the networks in use by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from watcher.checks.check import Finding, Subject, fail, ok
from watcher.model.errors import WatcherError
from watcher.store import schema
from watcher.store.files import store_path
from watcher.store.leases import LeaseStore
from watcher.store.networks import known_networks

if TYPE_CHECKING:
    from watcher.config.settings import Config
    from watcher.model.network import Network


class _Unchanged(LeaseStore):
    """A copy of the store in which `note` does nothing."""

    __slots__ = ()

    def note(self, name: str, value: str) -> None:
        """Do nothing: the check only reads."""


def findings(subject: Subject) -> Iterator[Finding]:
    """Whether the store can be read, and whether it agrees with the configuration."""
    path = store_path(subject.config)
    try:
        if not path.exists():
            yield ok(f"{path} is not there yet, and will be made")
            return
        with _Unchanged.open(path, read_only=True) as store:
            count = len(store.sandboxes())
            known_networks(subject.config, store)
    except (WatcherError, OSError) as error:
        yield _failure(error)
        return
    yield ok(f"{path} is readable, of schema {schema.VERSION}, with {count} sandboxes")


def networks(config: Config) -> Mapping[str, Network]:
    """The configured networks and, if the store can be read and agrees, those in use."""
    try:
        with _Unchanged.open(store_path(config), read_only=True) as store:
            return known_networks(config, store)
    except (WatcherError, OSError):
        return config.networks


def _failure(error: WatcherError | OSError) -> Finding:
    if isinstance(error, WatcherError):
        return fail(error.what, error.remedy)
    return fail(f"{error.filename}: {error.strerror}", "run as root")
