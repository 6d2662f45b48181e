"""The lease store for commands that only read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.locks.readers import without_writers
from watcher.store.files import store_path
from watcher.store.leases import LeaseStore

if TYPE_CHECKING:
    from watcher.config.settings import Config


def read_store(config: Config) -> LeaseStore:
    """The lease store of `config` without any half-made change.

    Raises:
        WatcherError: it cannot be opened.
    """
    with without_writers(config.run_dir):
        return LeaseStore.open(store_path(config), read_only=True)
