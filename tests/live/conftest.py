"""Hosts with networks to connect containers to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.connected import BACK, FRONT, INNER

if TYPE_CHECKING:
    from tests.support.host import Host, HostMaker


@pytest.fixture(params=["service", "sync"])
def live(request: pytest.FixtureRequest, make_host: HostMaker) -> Host:
    """A host with several networks, once with `watcher run` beside the commands."""
    host = make_host(FRONT + BACK + INNER)
    if request.param == "service":
        host.service()
    return host


@pytest.fixture
def alone(make_host: HostMaker) -> Host:
    """A host with several networks and no service."""
    return make_host(FRONT + BACK + INNER)
