"""A host whose root the gate can hold, with a container whose namespace is to be shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.held import own_mount
from tests.support.host import Host
from tests.support.host.containers import Container


@pytest.fixture
def root(host: Host) -> Path:
    """The root of `host`, a mount of its own."""
    return own_mount(host, host.root)


@pytest.fixture
def web(host: Host) -> Container:
    """A container with an `eth0`, which the watcher knows nothing of."""
    web = host.run("web")
    web.place.run("ip", "link", "add", "eth0", "mtu", "1400", "type", "veth", "peer", "eth1")
    return web


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How many times a test kills something."""
    number: int = request.config.getoption("--kills")
    return number
