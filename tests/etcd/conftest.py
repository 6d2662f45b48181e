"""A network namespace for servers that are no etcd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import traffic
from tests.support.host.machine import Machine


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine() as machine:
        yield machine


@pytest.fixture(autouse=True)
def _inside(machine: Machine) -> Iterator[None]:
    """Has the test there."""
    with traffic.entered(machine.here.netns):
        yield
