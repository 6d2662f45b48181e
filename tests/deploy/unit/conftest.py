"""The fixtures of other rooms, of which each is here the one booted host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.recovery.test_heal import Healed
from tests.support.host import Host, HostMaker
from tests.support.host.booted import BootedHost


@pytest.fixture(scope="package")
def booted() -> Iterator[BootedHost]:
    """The host, booted once."""
    with BootedHost() as host:
        yield host


@pytest.fixture
def make_host(booted: BootedHost) -> Iterator[HostMaker]:
    """Has the host run the unit with a configuration, for the length of a test."""
    with ExitStack() as stack:

        def make(config: str = "") -> Host:
            stack.enter_context(booted.lent(config))
            return booted

        yield make


@pytest.fixture
def unit(booted: BootedHost) -> Iterator[BootedHost]:
    """The host with the default configuration, for a scenario of the unit's own."""
    with booted.lent():
        yield booted


host = served = kept = unit


@pytest.fixture
def healed(unit: Host) -> Healed:
    """The host with a container whose port is published, and how that is when whole."""
    return Healed(unit)
