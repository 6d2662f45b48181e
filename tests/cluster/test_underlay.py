"""The hosts, links and faults that the other tests here build upon, with routes made by hand."""

from __future__ import annotations

from functools import partial
from ipaddress import IPv4Network, IPv6Network

import pytest

from tests.cluster.conftest import ClusterMaker
from tests.support.cluster import FAR, LAN, Cluster
from tests.support.cluster.by_hand import Joined, by_routes, by_vxlan, let_in
from tests.support.cluster.played import addresses
from tests.support.cluster.sizes import passes
from tests.support.host import BEYOND, BEYOND6, Container
from tests.support.traffic import ENOUGH, Answer
from tests.support.waiting import LATENCY_FREE_NO, eventually

MTU = 1450
PORT = 80


class Three:
    """Hosts a and b on one link, and c behind the router, with a container that serves on each.

    Their network is not clustered: each has a subnet of its own.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.joined: dict[str, Joined] = {}
        self.containers: dict[str, Container] = {}
        for number, (name, link) in enumerate((("a", LAN), ("b", LAN), ("c", FAR)), 1):
            blocks = (IPv4Network(f"172.19.{number}.0/24"), IPv6Network(f"fd00:19:0:{number}::/64"))
            config = (
                f'[network.default]\nmode = "routed"\nmtu = {MTU}\nmasquerade = false\n'
                f'subnets = ["{blocks[0]}", "{blocks[1]}"]\n'
            )
            host = cluster.add(name, link, config)
            self.joined[name] = Joined(host, blocks)
            self.containers[name] = host.attach(name)
            self.containers[name].serve(tcp=(PORT,), udp=(PORT,))
            let_in(host, "172.19.0.0/16", "fd00:19::/48")

    def join(self, version: int = 4) -> None:
        """Makes the routes between all of them; VXLAN over that version of IP."""
        joined = self.joined
        by_routes(joined["a"], joined["b"])
        by_vxlan(joined["a"], joined["c"], version)
        by_vxlan(joined["b"], joined["c"], version)

    def asks(self, one: str, other: str, *, timeout: float = LATENCY_FREE_NO) -> Answer | None:
        """What the server in the container on `other` says to that on `one`."""
        return self.containers[one].reach(self.containers[other].address, PORT, timeout=timeout)


@pytest.fixture
def three(make_cluster: ClusterMaker) -> Three:
    return Three(make_cluster())


@pytest.mark.parametrize("version", [4, 6])
def test_containers_reach_each_other_by_routes_and_by_vxlan(three: Three, version: int) -> None:
    three.join(version)
    for one, asking in three.containers.items():
        for other, asked in three.containers.items():
            if one == other:
                continue
            for source, to in zip(addresses(asking), addresses(asked), strict=True):
                assert asking.reach(to, PORT) == Answer(other, source), (one, to)
                assert asking.reach(to, PORT, "udp") == Answer(other, source), (one, to)
                assert len(asking.place.stream(to, PORT).say("x" * 100_000)) == 100_000


def test_each_host_reaches_the_others_and_what_is_beyond(three: Three) -> None:
    three.cluster.underlay.beyond.serve(tcp=(PORT,))
    for host in three.cluster.hosts.values():
        own = host.station.addresses
        for source, to in zip(own, (BEYOND, BEYOND6), strict=True):
            assert host.here.reach(to, PORT) == Answer("beyond", source)
            assert host.beyond.reach(source, PORT) is None
        host.here.serve(tcp=(PORT,))
        for other in three.cluster.hosts.values():
            for source, to in zip(other.station.addresses, own, strict=True):
                assert other.here.reach(to, PORT) == Answer("host", source)


def test_packets_as_large_as_the_mtu_pass_and_no_larger_ones(make_cluster: ClusterMaker) -> None:
    three = Three(make_cluster(lan=1420, far=1480))
    three.join()
    place = three.containers["a"].place
    for to in addresses(three.containers["b"]):
        assert passes(place, to, 1420)
        assert not passes(place, to, 1421, timeout=LATENCY_FREE_NO)
    for to in addresses(three.containers["c"]):
        assert passes(place, to, 1420 - 50)
        assert not passes(place, to, 1420 - 49, timeout=LATENCY_FREE_NO)


def test_what_is_cut_is_cut_until_it_is_healed(three: Three) -> None:
    three.join()
    hosts = three.cluster.hosts
    pairs = [(one, other) for one in "abc" for other in "abc" if one != other]
    for broken in ("ab", "ac", "bc"):
        three.cluster.cut(*broken)
        for one, other in pairs:
            if {one, other} == set(broken):
                assert three.asks(one, other) is None
                for address in hosts[other].station.addresses:
                    assert not passes(hosts[one].here, address, 100, timeout=LATENCY_FREE_NO)
            else:
                assert eventually(partial(three.asks, one, other))
                for address in hosts[other].station.addresses:
                    assert eventually(partial(passes, hosts[one].here, address, 100))
        three.cluster.heal()
        assert eventually(partial(three.asks, *broken))


def test_a_host_is_cut_off_from_all_of_its_peers_alone(three: Three) -> None:
    three.join()
    three.cluster.underlay.beyond.serve(tcp=(PORT,))
    three.cluster.cut("a")
    assert three.asks("a", "b") is None
    assert three.asks("c", "a") is None
    answer = three.asks("b", "c", timeout=ENOUGH)
    assert answer == Answer("c", three.containers["b"].address)
    assert three.cluster.hosts["a"].here.reach(BEYOND, PORT) is not None


def test_a_link_loses_its_carrier(three: Three) -> None:
    three.join()
    station = three.cluster.station("c")
    three.cluster.underlay.unplug(station)
    eventually(lambda: "NO-CARRIER" in (station.place.link("uplink") or {})["flags"])
    assert three.asks("a", "c") is None
    three.cluster.underlay.replug(station)
    eventually(lambda: three.asks("a", "c"))
