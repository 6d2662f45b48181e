"""Packets get to the blocks of other hosts: by plain routes on a common link, else by VXLAN."""

from __future__ import annotations

from functools import partial
from ipaddress import ip_network

import pytest

from tests.cluster.conftest import PlayedMaker
from tests.support.cluster import ClusterHost
from tests.support.cluster.played import DEVICE, PORT, Played, addresses, serving
from tests.support.cluster.sizes import passes
from tests.support.dialled import dial, talkative
from tests.support.host import Container
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO, eventually
from watcher.model.address import Subnet

UNREACHABLE = ("EHOSTUNREACH", "ENETUNREACH")


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


def test_a_hosts_own_packets_come_from_its_block(three: Played) -> None:
    a, b, c = three.cluster.hosts.values()
    for host, name in ((b, "b"), (c, "c")):
        asked = serving(host, name)
        for own, to in zip(("10.9.1.0", "fd09::100"), addresses(asked), strict=True):
            assert a.here.reach(to, PORT) == Answer(name, own)
            assert a.here.reach(to, PORT, "udp") == Answer(name, own)
    neighbour = serving(a, "neighbour")  # which knows the host by its gateway, as ever
    assert a.here.reach(neighbour.address, PORT) == Answer("neighbour", "10.9.0.1")


def test_packets_to_addresses_of_nobody_are_answered_with_an_error(three: Played) -> None:
    """None of them leaves by the default route, and none goes to and fro between two hosts."""
    for name, host in three.cluster.hosts.items():
        talkative(host)
        serving(host, name)  # a host without any does not forward
    web = three.cluster.hosts["a"].container("a")
    for nobody in ("10.9.1.9", "10.9.2.9", "10.9.3.9", "10.9.200.1", "fd09::209", "fd09::5:1"):
        assert dial(web, nobody, PORT) in UNREACHABLE, nobody


def has_route(host: ClusterHost, prefix: Subnet) -> bool:
    return prefix in host.routes()


def leads_to(host: ClusterHost, address: str, device: str, gateway: str) -> bool:
    route = host.leads(address)
    return (route["dev"], route.get("gateway")) == (device, gateway)


def wants(three: Played, name: str, prefix: str) -> bool:
    return three.registry(name).blocks().get(prefix) == "wanted"


def claimed(three: Played, name: str, claims: tuple[str, ...]) -> Container:
    """A container on a host with addresses that it claims."""
    host = three.cluster.hosts[name]
    id_ = f"web-{claims[0].replace('.', '-')}"
    host.bundle(id_, annotations={"io.watcher.ip": ",".join(claims)})
    runc = host.launching("run", id_, "--detach")
    for claim in claims:
        prefix = str(ip_network(claim))
        eventually(partial(wants, three, name, prefix))
        three.give(prefix, name)
    host.launched(runc, id_)
    container = host.attached(id_)
    container.serve(tcp=(PORT,))
    return container


def test_a_claim_inside_of_a_block_of_another_host(three: Played) -> None:
    """The more specific route leads to the host that has it; on that host, to the container."""
    a, b, c = three.cluster.hosts.values()
    clients = {name: serving(host, name) for name, host in (("b", b), ("c", c))}
    for claims in (("10.9.2.7", "fd09::207"), ("10.9.3.7", "fd09::307")):
        web = claimed(three, "a", claims)
        for own, to in zip(("10.9.0.1", "fd09::1"), claims, strict=True):
            assert a.here.reach(to, PORT) == Answer(web.id, own)
        for name, client in clients.items():
            for source, to in zip(addresses(client), claims, strict=True):
                prefix = ip_network(to)
                eventually(partial(has_route, three.cluster.hosts[name], prefix))
                assert client.reach(to, PORT) == Answer(web.id, source), (name, to)
        a.delete(web.id)
        a.gone(web)
        for to in claims:  # until the claim is given back, and no packet goes to and fro
            assert dial(clients["b"], to, PORT) in UNREACHABLE
            three.take(str(ip_network(to)))


def test_a_block_moves_to_another_host(three: Played) -> None:
    a = three.cluster.hosts["a"]
    block = "10.9.40.0/28"
    for name, leads in (("b", ("uplink", "198.51.100.12")), ("c", (DEVICE, "203.0.113.13"))):
        three.give(block, name)
        eventually(partial(leads_to, a, "10.9.40.3", *leads))
    three.give(block, "a")
    eventually(lambda: ip_network(block) not in a.routes())
    assert a.command("ip", "route", "get", "10.9.40.3", check=False).returncode == 2
    three.take(block)


def mtu_of(container: Container) -> int:
    link = container.place.link("eth0")
    assert link is not None
    mtu: int = link["mtu"]
    return mtu


def test_packets_as_large_as_the_mtu_pass_and_no_larger_ones(played: PlayedMaker) -> None:
    for version, header in ((4, 50), (6, 70)):
        three = played(version=version, mtus={"lan": 1440, "far": 1500})
        a, b, c = three.cluster.hosts.values()
        assert mtu_of(serving(a, "a")) == 1440 - header
        one, other = serving(b, "b"), serving(c, "c")
        assert mtu_of(other) == 1500 - header
        for there, mtu in ((one, 1440 - header), (other, 1440 - header)):
            for to in addresses(there):
                assert passes(a.container("a").place, to, mtu), (version, to)
                assert not passes(a.container("a").place, to, mtu + 1, timeout=LATENCY_FREE_NO)
        for to in addresses(a.container("a")):  # what is too large for the other's link
            assert not passes(other.place, to, 1500 - header, timeout=LATENCY_FREE_NO)
            assert len(other.place.stream(to, PORT).say("x" * 500_000)) == 500_000
