"""Very many sandboxes in one routed network: the one with the most neighbours is as any other."""

from __future__ import annotations

import os
from typing import Final

import pytest

from tests.support.host import BEYOND, BEYOND6, GATEWAY, UPLINK, UPLINK6, Host, HostMaker
from tests.support.host.place import Place
from tests.support.traffic import Answer
from tests.support.waiting import eventually
from tests.support.wide import SERVED, Servers, Sleepers

pytestmark = pytest.mark.accident

SIZE: Final = int(os.environ.get("WATCHER_WIDE", "1100"))
"""More than a bridge takes, which is 1,023; `make soak` has 5,000."""

ROUTED = """
[network.default]
mode = "routed"
subnets = ["172.19.0.0/16", "fd00:19::/64"]
"""
OF = {4: (GATEWAY, BEYOND, UPLINK), 6: ("fd00:19::1", BEYOND6, UPLINK6)}
"""The gateway, the machine beyond and the host's uplink, by IP version."""


def reaches(place: Place, address: str, port: int, answer: Answer) -> None:
    """It does, once the kernel has room: the neighbours of a family share a table of 1,024 on the
    whole machine, of which those of the last five seconds stay (`neigh_forced_gc` in
    `net/core/neighbour.c`)."""
    eventually(lambda: place.reach(address, port) == answer)


def sync(host: Host) -> str:
    return host.watcher("sync", timeout=max(60, SIZE / 10)).stdout


@pytest.mark.parametrize(
    "network",
    ['mode = "routed"', 'mode = "bridge"', 'subnets = ["172.19.0.0/16", "fd00:19::/64"]'],
    ids=["routed", "bridge", "bridge of both families"],
)
def test_a_link_has_no_route_of_a_list_that_all_would_share(
    make_host: HostMaker, network: str
) -> None:
    host = make_host(f"[network.default]\n{network}\n")
    web = host.attach("web")
    multicast = host.ip("-6", "route", "show", "table", "local", "type", "multicast")
    devices = {route["dev"] for route in multicast}
    assert "uplink" in devices
    assert web.veth not in devices


def test_each_of_very_many_reaches_everybody_and_is_reached(make_host: HostMaker) -> None:
    host = make_host(ROUTED)
    sleepers = Sleepers(host, SIZE)
    sync(host)
    sandboxes = sleepers.sandboxes()
    host.here.serve(tcp=(82,))
    host.beyond.serve(tcp=(81,))
    with Servers(host, sandboxes):
        for sandbox, neighbour in zip(sandboxes, sandboxes[1:] + sandboxes[:1], strict=True):
            for version, (gateway, beyond, uplink) in OF.items():
                own, its = sandbox.address(version), neighbour.address(version)
                with sandbox.place(host) as place:
                    reaches(place, gateway, 82, Answer("host", own))
                    reaches(place, its, SERVED, Answer(neighbour.id, own))
                    reaches(place, beyond, 81, Answer("beyond", uplink))
                reaches(host.beyond, uplink, sandbox.port, Answer(sandbox.id, beyond))
    assert sync(host) == "nothing to do\n"
    sleepers.end()
    sync(host)
    assert host.leftovers() == []
