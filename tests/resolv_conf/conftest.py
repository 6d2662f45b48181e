"""A host with the gate and a network without names."""

from __future__ import annotations

import pytest

from tests.support.host import Host, HostMaker, Service


@pytest.fixture
def host(make_host: HostMaker) -> Host:
    """A host that has a second network, without names; nothing runs on it yet."""
    plain = '[network.plain]\nbridge = "plain0"\nsubnets = ["172.30.0.0/16"]\nnames = false\n'
    return make_host(f'[gate]\nmode = "required"\ntimeout = 60.0\n{plain}')


@pytest.fixture
def service(host: Host) -> Service:
    """Its service, which holds every runc."""
    return host.service()
