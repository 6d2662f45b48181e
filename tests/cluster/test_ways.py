"""Which way packets take to another host, also when the host's own routes change."""

from __future__ import annotations

from functools import partial

import pytest

from tests.cluster.conftest import PlayedMaker
from tests.support.cluster import FAR, LAN
from tests.support.cluster.played import DEVICE, PORT, Played, addresses, serving
from tests.support.dialled import dial
from tests.support.host import Container
from tests.support.traffic import Answer
from tests.support.waiting import eventually

STRICT = "for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $file; done"


def all_serve(one: Played) -> dict[str, Container]:
    return {name: serving(host, name) for name, host in one.cluster.hosts.items()}


def all_reach_all(containers: dict[str, Container]) -> bool:
    for name, asking in containers.items():
        for other, asked in containers.items():
            for source, to in zip(addresses(asking), addresses(asked), strict=True):
                answer = asking.reach(to, PORT, timeout=4)
                assert answer == Answer(other, source), (name, to, answer)
    return True


def device_of(one: Played, name: str, address: str) -> str:
    device: str = one.cluster.hosts[name].leads(address)["dev"]
    return device


@pytest.mark.parametrize("version", [4, 6])
def test_vxlan_alone(played: PlayedMaker, version: int) -> None:
    one = played(hosts="ab", version=version, more='backend = "vxlan"')
    assert all_reach_all(all_serve(one))
    assert device_of(one, "a", "10.9.2.1") == DEVICE
    assert device_of(one, "b", "fd09::101") == DEVICE


def test_no_device_where_all_hosts_are_on_one_link(played: PlayedMaker) -> None:
    one = played(hosts="ab", version=6)
    assert all_reach_all(all_serve(one))
    for host in one.cluster.hosts.values():
        assert host.here.link(DEVICE) is None


def test_routes_alone_reach_no_host_behind_a_router(played: PlayedMaker) -> None:
    one = played(hosts="ab", version=6, more='backend = "routes"')
    one.add("c", FAR)
    one.tell()
    containers = all_serve(one)
    eventually(lambda: containers["a"].reach(addresses(containers["b"])[0], PORT))
    for to in addresses(containers["c"]):
        assert dial(containers["a"], to, PORT) in ("EHOSTUNREACH", "ENETUNREACH")
    for host in one.cluster.hosts.values():
        assert host.here.link(DEVICE) is None


@pytest.mark.parametrize("version", [4, 6])
def test_an_underlay_of_one_family(played: PlayedMaker, version: int) -> None:
    """Blocks of both families are reached by hosts that have addresses of one only."""
    one = played(version=version)
    containers = all_serve(one)
    other = 10 - version
    for host in one.cluster.hosts.values():
        host.command("sh", "-c", f"ip -{other} addr flush dev uplink scope global")
    eventually(partial(all_reach_all, containers))


def test_a_host_comes_onto_the_link_and_leaves_it(three: Played) -> None:
    """Only the routes of the hosts change; both have to, or each drops what the other sends."""
    containers = all_serve(three)
    a, b = three.cluster.hosts["a"], three.cluster.hosts["b"]
    for here, there in ((a, "198.51.100.12"), (b, "198.51.100.11")):
        here.command("ip", "route", "add", there, "via", "198.51.100.1")
    eventually(lambda: device_of(three, "a", "10.9.2.1") == DEVICE)
    eventually(lambda: device_of(three, "b", "10.9.1.1") == DEVICE)
    eventually(partial(all_reach_all, containers))
    for here, there in ((a, "198.51.100.12"), (b, "198.51.100.11")):
        here.command("ip", "route", "del", there)
    eventually(lambda: device_of(three, "a", "10.9.2.1") == "uplink")
    eventually(lambda: device_of(three, "b", "10.9.1.1") == "uplink")
    eventually(partial(all_reach_all, containers))


def test_strict_filters_of_the_reverse_path_let_it_pass(played: PlayedMaker) -> None:
    one = played()
    for host in one.cluster.hosts.values():
        host.command("sh", "-c", STRICT)
    assert all_reach_all(all_serve(one))


def test_ipv6_is_off_for_new_links(played: PlayedMaker) -> None:
    """The underlay has IPv6 nevertheless, and next hops of it."""
    one = played(hosts="", version=6, subnets=("10.9.0.0/16",))
    for name, link in (("a", LAN), ("c", FAR)):
        host = one.add(name, link, started=False)
        host.command("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
        one.start(name)
    one.tell()
    one.known("a")
    one.known("c")
    assert all_reach_all(all_serve(one))
    assert device_of(one, "a", "10.9.2.1") == DEVICE


def test_much_at_once_arrives_whole(three: Played) -> None:
    """Segments of up to 64 KiB go into VXLAN, as the kernel cuts them last of all."""
    containers = all_serve(three)
    text = "0123456789abcdef" * 20_000
    for to in addresses(containers["c"]):
        stream = containers["a"].place.stream(to, PORT)
        for _ in range(20):
            assert stream.say(text) == text
