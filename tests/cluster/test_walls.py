"""The firewall across hosts: who of a clustered network reaches whom, and as whom."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.cluster.conftest import ClusterMaker
from tests.support import traffic
from tests.support.checked import checked
from tests.support.cluster.agreed import Agreed, Net
from tests.support.host import BEYOND, BEYOND6, Container
from tests.support.refused import attempt
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO

NET = Net()
FRONT = Net("front", 2, "front0", ("172.20.0.0/16", "fd00:20::/64"))
BACK = Net("back", 3, "back0", ("172.21.0.0/16", "fd00:21::/64"))
LOCAL = """
[network.local]
bridge = "local0"
subnets = ["172.22.0.0/16", "fd00:22::/64"]
masquerade = false
reach = ["default:80"]
[network.stranger]
bridge = "stranger0"
subnets = ["172.23.0.0/16", "fd00:23::/64"]
"""
OTHERS = [(one, other) for one in "abc" for other in "abc" if one != other]


def both(container: Container) -> list[str]:
    """Its addresses, IPv4 first."""
    found = [address.split("/")[0] for address in container.place.addresses()]
    return sorted(found, key=lambda address: ":" in address)


def serving(agreed: Agreed, host: str, name: str, **asked: Any) -> Container:
    """A container that serves ports 80 and 81 by TCP and UDP."""
    container = agreed[host].run(name, **asked)
    agreed[host].settle()
    container.serve(tcp=(80, 81), udp=(80, 81))
    return container


def no(container: Container, address: str, port: int = 80) -> bool:
    """Whether it gets no answer, neither by TCP nor by UDP."""
    return all(
        container.reach(address, port, protocol, timeout=LATENCY_FREE_NO) is None
        for protocol in ("tcp", "udp")
    )


def healthy(agreed: Agreed) -> None:
    """Nothing of any host is found to be wrong."""
    for host in agreed.cluster.hosts.values():
        assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"


@pytest.fixture
def three(make_cluster: ClusterMaker) -> Agreed:
    """Three hosts with two networks of their own each, and a container on each."""
    agreed = Agreed(make_cluster(), NET.config() + LOCAL)
    for name in "abc":
        serving(agreed, name, f"on-{name}", ports="8080:80,8080:80/udp")
    agreed.join()
    return agreed


def on(agreed: Agreed, name: str) -> Container:
    """The container of the clustered network on a host."""
    return agreed[name].container(f"on-{name}")


def test_neighbours_on_other_hosts_are_reached_as_who_they_are(three: Agreed) -> None:
    three.cluster.underlay.beyond.serve(tcp=(80,))
    for asking, asked in OTHERS:
        pairs = zip(both(on(three, asking)), both(on(three, asked)), strict=True)
        for source, to in pairs:
            expected = Answer(f"on-{asked}", source)
            assert on(three, asking).reach(to, 80) == expected, (asking, asked)
            assert on(three, asking).reach(to, 80, "udp") == expected, (asking, asked)
    for name in "abc":
        stations = three.cluster.station(name).addresses
        for address, own in zip((BEYOND, BEYOND6), stations, strict=True):
            assert on(three, name).reach(address, 80) == Answer("beyond", own)
    healthy(three)


def test_the_host_itself_asks_with_its_own_address_there(three: Agreed) -> None:
    for asking, asked in OTHERS:
        for own, to in zip(NET.own(asking), both(on(three, asked)), strict=True):
            assert three[asking].here.reach(to, 80) == Answer(f"on-{asked}", str(own))
        bound = three.cluster.station(asking).addresses[0]  # whatever a program chooses
        answer = three[asking].here.reach(on(three, asked).address, 80, source=bound)
        assert answer == Answer(f"on-{asked}", str(NET.own(asking)[0]))


def test_who_may_reach_a_clustered_network_does_so_as_its_host(three: Agreed) -> None:
    local = three["a"].attach("local", annotations={"io.watcher.network": "local"})
    stranger = three["a"].attach("stranger", annotations={"io.watcher.network": "stranger"})
    for asked in "bc":
        for own, to in zip(NET.own("a"), both(on(three, asked)), strict=True):
            for protocol in ("tcp", "udp"):
                answer = local.reach(to, 80, protocol)
                assert answer == Answer(f"on-{asked}", str(own))
            assert no(local, to, 81)
            assert no(stranger, to)
    assert no(on(three, "b"), local.address)
    healthy(three)


def test_a_network_of_the_host_alone_reaches_the_clustered_one_on_its_own_host(
    three: Agreed,
) -> None:
    """What a bridge sends goes to no other host, so the rules for other hosts let it pass."""
    local = three["a"].attach("local", annotations={"io.watcher.network": "local"})
    stranger = three["a"].attach("stranger", annotations={"io.watcher.network": "stranger"})
    for source, to in zip(both(local), both(on(three, "a")), strict=True):
        for protocol in ("tcp", "udp"):
            assert local.reach(to, 80, protocol) == Answer("on-a", source)
        assert no(local, to, 81)
        assert no(stranger, to)
    for asking in (local, stranger):
        own = three.cluster.station("a").addresses
        for source, to in zip(both(asking), own, strict=True):
            assert asking.reach(to, 8080) == Answer("on-a", source)
            assert asking.reach(to, 8080, "udp") == Answer("on-a", source)
    healthy(three)


def test_published_ports_are_reached_by_the_host_s_addresses(three: Agreed) -> None:
    for asking, asked in OTHERS:
        mine, theirs = (three.cluster.station(name).addresses for name in (asking, asked))
        for source, to in zip(mine, theirs, strict=True):
            assert on(three, asking).reach(to, 8080) == Answer(f"on-{asked}", source)
            assert on(three, asking).reach(to, 8080, "udp") == Answer(f"on-{asked}", source)
            assert three[asking].here.reach(to, 8080) == Answer(f"on-{asked}", source)
        for to6 in map(str, NET.own(asked)):  # an address of that host like any other
            answer = on(three, asking).reach(to6, 8080)
            assert answer is not None
            assert answer.who == f"on-{asked}"
    for name in "abc":  # hairpin and localhost
        own = three.cluster.station(name).addresses
        for to in own:
            assert on(three, name).reach(to, 8080) is not None
        for to in ("127.0.0.1", "::1"):
            assert three[name].here.reach(to, 8080) is not None


def test_an_address_that_nobody_has_is_refused_at_once(three: Agreed) -> None:
    for free in ("172.19.77.5", "fd00:19::7705"):
        assert attempt(on(three, "a").place, free, 80) in ("EHOSTUNREACH", "ENETUNREACH")


def test_isolated_sandboxes_are_isolated_across_hosts(make_cluster: ClusterMaker) -> None:
    config = NET.config("isolate = true") + LOCAL
    agreed = Agreed(make_cluster(), config)
    for name in "abc":
        serving(agreed, name, f"on-{name}", ports="8080:80")
    local = agreed["a"].attach("local", annotations={"io.watcher.network": "local"})
    agreed.join()
    for asking, asked in OTHERS:
        for own, to in zip(NET.own(asking), both(on(agreed, asked)), strict=True):
            assert no(on(agreed, asking), to)
            assert agreed[asking].here.reach(to, 80) == Answer(f"on-{asked}", str(own))
        to = agreed.cluster.station(asked).addresses[0]
        assert on(agreed, asking).reach(to, 8080) is not None
    answer = local.reach(on(agreed, "b").address, 80)
    assert answer == Answer("on-b", str(NET.own("a")[0]))
    healthy(agreed)


def test_an_internal_network_is_one_across_hosts_and_nothing_leaves_it(
    make_cluster: ClusterMaker,
) -> None:
    config = FRONT.config('reach = ["back"]') + BACK.config("internal = true", 'reach = ["front"]')
    agreed = Agreed(make_cluster(), config, FRONT, BACK)
    agreed.cluster.underlay.beyond.serve(tcp=(80,))
    found: dict[tuple[str, str], Container] = {}
    for name in "abc":
        for net in ("front", "back"):
            found[net, name] = serving(
                agreed, name, f"{net}-{name}", annotations={"io.watcher.network": net}
            )
    agreed.join()
    for asking, asked in OTHERS:
        for version in (0, 1):
            inside, outside = (both(found[net, asked])[version] for net in ("back", "front"))
            back, front = found["back", asking], found["front", asking]
            assert back.reach(inside, 80) == Answer(f"back-{asked}", both(back)[version])
            assert no(front, inside)  # it has no way back
            assert no(back, outside)
            assert no(back, (BEYOND, BEYOND6)[version])
    healthy(agreed)


def test_networks_reach_the_ports_of_others_across_hosts(make_cluster: ClusterMaker) -> None:
    config = FRONT.config('reach = ["back:80/tcp"]') + BACK.config()
    agreed = Agreed(make_cluster(), config, FRONT, BACK)
    front = {n: serving(agreed, n, f"f-{n}", annotations=_in("front")) for n in "abc"}
    back = {n: serving(agreed, n, f"b-{n}", annotations=_in("back")) for n in "abc"}
    agreed.join()
    for asking, asked in OTHERS:
        for source, to in zip(both(front[asking]), both(back[asked]), strict=True):
            assert front[asking].reach(to, 80) == Answer(f"b-{asked}", source)
            assert front[asking].reach(to, 81, timeout=LATENCY_FREE_NO) is None
            assert front[asking].reach(to, 80, "udp", timeout=LATENCY_FREE_NO) is None
        assert no(back[asking], front[asked].address)


def _in(network: str) -> dict[str, str]:
    return {"io.watcher.network": network}


def test_rules_and_elements_come_back(three: Agreed) -> None:
    host = three["a"]
    for command in (
        ("nft", "flush", "ruleset"),
        ("nft", "flush", "set", "inet", "watcher", "blocks4_24"),
        ("nft", "delete", "element", "inet", "watcher", "peers4", "{ 203.0.113.13 }"),
        ("nft", "flush", "map", "inet", "watcher", "own6"),
        ("nft", "add", "element", "inet", "watcher", "blocks6_120", "{ fd00:19::7700 }"),
        ("nft", "delete", "table", "inet", "watcher"),
    ):
        host.command(*command)
        assert host.watcher("sync", "--dry-run").stdout != "nothing to do\n", command
        host.watcher("sync")
        healthy(three)
    for asked in "bc":
        for to in both(on(three, asked)):
            assert on(three, "a").reach(to, 80) is not None


def test_the_check_of_a_container_knows_the_rules_for_other_hosts(three: Agreed) -> None:
    for name in "abc":
        (line,) = [x for x in checked(three[name], f"on-{name}") if x["check"] == "ports"]
        assert (line["level"], line["what"]) == ("ok", "its 2 port maps are in force")


def test_what_vxlan_carries_is_in_the_table_of_connections_once(three: Agreed) -> None:
    assert on(three, "a").reach(on(three, "c").address, 80, "udp") is not None
    for name in "ac":
        table = three[name].command("cat", "/proc/net/nf_conntrack").stdout
        assert "dport=80 " in table
        assert "dport=4789" not in table


def test_a_flow_to_another_host_that_nobody_answers_is_left_alone(three: Agreed) -> None:
    """It has the translation that it should have: none."""
    a, b = on(three, "a"), on(three, "b")
    with (
        traffic.make_socket(b.place.netns, socket.AF_INET, socket.SOCK_DGRAM) as silent,
        traffic.make_socket(a.place.netns, socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        silent.bind(("", 4242))
        sender.sendto(b"x", (b.address, 4242))
        assert silent.recv(10) == b"x"
        for name in "ab":
            three[name].watcher("sync")
            table = three[name].command("cat", "/proc/net/nf_conntrack").stdout
            assert f"src={a.address} dst={b.address}" in table
