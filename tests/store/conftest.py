"""A lease store of its own for a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from watcher.store.leases import LeaseStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store's file may be made; its directory is not there yet."""
    return tmp_path / "state" / "leases.db"


@pytest.fixture
def store(path: Path) -> Iterator[LeaseStore]:
    """An open store, in the file of `path`."""
    with LeaseStore.open(path) as opened:
        yield opened
