"""Packets get to the blocks of other hosts: by plain routes on a common link, else by VXLAN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest

from tests.cluster.conftest import ClusterMaker
from tests.support.cluster import FAR, LAN, ClusterHost
from tests.support.cluster.played import Played
from tests.support.host import Container
from tests.support.traffic import Answer
from tests.support.waiting import eventually
from watcher.cluster.protocol import PeerBlockRow

PORT = 80
DEVICE = "netnsx1"

type PlayedMaker = Callable[..., Played]


@pytest.fixture
def played(make_cluster: ClusterMaker) -> Iterator[PlayedMaker]:
    """Makes hosts whose registry is played: by default a and b on one link, c behind a router."""
    made: list[Played] = []

    def make(
        *, hosts: str = "abc", mtus: dict[str, int] | None = None, version: int = 4,
        more: str = "", **kwargs: tuple[str, ...],
    ) -> Played:  # fmt: skip
        one = Played(make_cluster(**(mtus or {})), version=version, more=more, **kwargs)
        made.append(one)
        for name in hosts:
            one.add(name, FAR if name == "c" else LAN)
        one.tell()
        for name in hosts:
            known(one, name)
        return one

    yield make
    for one in made:
        one.close()


def known(one: Played, name: str) -> None:
    """Waits until a host has a route to each block of the others."""
    host = one.cluster.hosts[name]
    rows = one.rows(name)
    blocks = {ip_network(row.prefix) for row in rows if isinstance(row, PeerBlockRow)}
    eventually(lambda: blocks <= host.routes().keys(), what=f"the routes of {name}")


def serving(host: ClusterHost, name: str) -> Container:
    container = host.attach(name)
    container.serve(tcp=(PORT,), udp=(PORT,))
    return container


def addresses(container: Container) -> list[str]:
    return [address.partition("/")[0] for address in container.place.addresses()]


@pytest.mark.parametrize("version", [4, 6])
def test_containers_reach_each_other_on_all_hosts(played: PlayedMaker, version: int) -> None:
    one = played(version=version)
    containers = {name: serving(host, name) for name, host in one.cluster.hosts.items()}
    for name, asking in containers.items():
        for other, asked in containers.items():
            for source, to in zip(addresses(asking), addresses(asked), strict=True):
                assert asking.reach(to, PORT) == Answer(other, source), (name, to)
                assert asking.reach(to, PORT, "udp") == Answer(other, source), (name, to)
                assert len(asking.place.stream(to, PORT).say("x" * 300_000)) == 300_000
    a, uplink = one.cluster.hosts["a"], "uplink"
    assert a.leads("10.9.2.1")["dev"] == uplink
    assert a.leads("10.9.3.1")["dev"] == DEVICE
    assert a.leads("fd09::201")["dev"] == (DEVICE if version == 4 else uplink)
    assert a.leads("fd09::301")["dev"] == DEVICE
