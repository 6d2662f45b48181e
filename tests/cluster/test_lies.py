"""`watcher cluster` hears the network. Whatever it tells the service, the host stays well."""

from __future__ import annotations

import json

import pytest

from tests.support.cluster.played import DEVICE, Played, serving
from tests.support.waiting import eventually


def devices(three: Played) -> list[str]:
    """The VXLAN devices of host a."""
    links = three.cluster.hosts["a"].ip("link", "show", "type", "vxlan")
    return [link["ifname"] for link in links]


@pytest.mark.parametrize("number", [-1, 4097, 1 << 32, 10**30])
def test_a_number_that_no_network_has(three: Played, number: int) -> None:
    """Of the identifiers of VXLAN, the firewall keeps those of our numbers alone."""
    row = {"row": "number", "network": "default", "number": number}
    three.registry("a").raw(json.dumps([row]).encode())
    service = three.service("a")
    service.logged("`watcher cluster` has told something that is not understood")
    assert devices(three) == [DEVICE]
    three.reconnect("a")
    three.known("a")
    serving(three.cluster.hosts["a"], "web")
    eventually(lambda: devices(three) == [DEVICE])
    assert not [line for line in service.log() if line["event"] == "unexpected error"]
