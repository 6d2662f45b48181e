"""Lists across hosts: a sender is held to its own by its host, and to the others by theirs."""

from __future__ import annotations

from tests.cluster.conftest import ClusterMaker
from tests.cluster.test_walls import NET, both, healthy, on, serving
from tests.cluster.test_walls_forged import ear, mac_of, marks, send
from tests.support import packets
from tests.support.cluster import LAN
from tests.support.cluster.agreed import Agreed
from tests.support.host import Container
from tests.support.packets import IPV4, Wire, ether
from tests.support.refused import REJECTED, attempt
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO

PLENTY = ("ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit")
"""Without these, an answer to many attempts in a row comes late."""


def agreed(make_cluster: ClusterMaker, *lines: str, **asked: dict[str, str]) -> Agreed:
    """Three hosts with a container each, that asks for annotations of its host's name."""
    made = Agreed(make_cluster(), NET.config(*lines))
    for name in "abc":
        made[name].command("sh", "-c", f"cd /proc/sys/net; echo 0 | tee {' '.join(PLENTY)}")
        serving(made, name, f"on-{name}", annotations=asked.get(name, {}))
    made.join()
    return made


def outcomes(asking: Container, asked: Container, port: int) -> list[str]:
    """What comes of attempts by both families and both protocols, without duplicates."""
    found = []
    for to in both(asked):
        rejected = REJECTED[6 if ":" in to else 4]
        for protocol in ("tcp", "udp"):
            outcome = attempt(asking.place, to, port, protocol)
            found.append("rejected" if outcome == rejected else outcome)
    return sorted(set(found))


def test_a_list_of_destinations_holds_across_hosts(make_cluster: ClusterMaker) -> None:
    listed = "172.19.2.0/24:80,172.19.3.0/24:80,[fd00:19::200]/120:80,[fd00:19::300]/120:80"
    three = agreed(make_cluster, a={"io.watcher.egress": listed})
    for other in "bc":
        assert outcomes(on(three, "a"), on(three, other), 80) == [f"on-{other}"]
        assert outcomes(on(three, "a"), on(three, other), 81) == ["rejected"]
        for port in (80, 81):  # its network is closed, and answers pass
            assert outcomes(on(three, other), on(three, "a"), port) == ["on-a"]
    healthy(three)


def test_a_list_of_sources_holds_across_hosts(make_cluster: ClusterMaker) -> None:
    prefixes = "172.19.3.0/24,[fd00:19::300]/120"
    three = agreed(
        make_cluster,
        b={"io.watcher.ingress": "network:80"},
        c={"io.watcher.ingress": f"host,{prefixes},172.19.1.0/24:80,[fd00:19::100]/120:80"},
    )
    for asked in "bc":
        assert outcomes(on(three, "a"), on(three, asked), 80) == [f"on-{asked}"]
        assert outcomes(on(three, "a"), on(three, asked), 81) == ["rejected"]
    assert outcomes(on(three, "b"), on(three, "c"), 80) == ["rejected"]
    assert outcomes(on(three, "c"), on(three, "b"), 80) == ["on-b"]
    for address in both(on(three, "c")):  # another host is a neighbour, and never the host
        assert attempt(three["c"].here, address, 81) == "on-c"
        assert attempt(three["b"].here, address, 80) == REJECTED[6 if ":" in address else 4]
    for address, own in zip(both(on(three, "b")), NET.own("a"), strict=True):
        assert three["a"].here.reach(address, 80) == Answer("on-b", str(own))
    healthy(three)


def test_neighbours_of_all_hosts_are_kept_out(make_cluster: ClusterMaker) -> None:
    three = agreed(make_cluster, 'ingress = ["any:80", "!network"]')
    for asking, asked in ("ab", "ba", "ac", "ca"):
        assert outcomes(on(three, asking), on(three, asked), 80) == ["rejected"]
    healthy(three)


def test_a_network_with_a_list_lets_neighbours_of_all_hosts_in(make_cluster: ClusterMaker) -> None:
    three = agreed(make_cluster, 'ingress = ["network:80"]')
    for asking, asked in ("ab", "ba", "ac", "ca"):
        assert outcomes(on(three, asking), on(three, asked), 80) == [f"on-{asked}"]
        assert outcomes(on(three, asking), on(three, asked), 81) == ["rejected"]
    healthy(three)


def test_a_network_with_a_list_of_destinations_is_one_across_hosts(
    make_cluster: ClusterMaker,
) -> None:
    three = agreed(make_cluster, 'egress = ["172.19.0.0/16:80", "[fd00:19::]/64:80"]')
    for asking, asked in ("ab", "ba", "ac", "ca"):
        assert outcomes(on(three, asking), on(three, asked), 80) == [f"on-{asked}"]
        assert outcomes(on(three, asking), on(three, asked), 81) == ["rejected"]
    healthy(three)


def test_only_a_neighbour_passes_for_one(make_cluster: ClusterMaker) -> None:
    three = agreed(make_cluster, a={"io.watcher.ingress": "network,any:81"})
    host = three["a"]
    mallory = three.cluster.underlay.new_station("mallory", LAN, 66)
    guest = host.machine("guest", "192.168.7.0/24")
    listener, end = ear(three, "a"), packets.mark()
    forged = marks(3)
    to, far, free = on(three, "a").address, on(three, "c").address, "172.19.77.5"
    station = three.cluster.station("a").mac
    ways = (
        (Wire(host, mallory.place, "uplink"), mallory.mac, station, far),
        (Wire(host, mallory.place, "uplink"), mallory.mac, station, free),
        (Wire(host, guest, "uplink"), mac_of(guest, "uplink"), mac_of(host.here, "guest"), far),
    )
    for (wire, mine, theirs, source), mark in zip(ways, forged, strict=True):
        wire.send(ether(mine, theirs, IPV4, packets.udp(source, to, 80, mark)))
    send(on(three, "b").place, to, 80, end)
    assert listener.heard(end, *forged) == []


def test_closed_networks_stay_closed_across_hosts(make_cluster: ClusterMaker) -> None:
    three = agreed(make_cluster, 'ingress = ["network:80"]', a={"io.watcher.egress": "none"})
    host, a, b = three["a"], on(three, "a"), on(three, "b")
    guest = host.machine("guest", "192.168.7.0/24")
    mallory = three.cluster.underlay.new_station("mallory", LAN, 66)
    wire, there = Wire(host, mallory.place, "uplink"), Wire(host, guest, "uplink")
    forged, passing, end = marks(4), packets.mark(), packets.mark()
    listener = ear(three, "a")
    for flushed in (True, False):
        if flushed:
            host.command("nft", "flush", "ruleset")
            send(b.place, a.address, 80, forged[0])
            send(b.place, a.address, 81, forged[1])
            assert attempt(a.place, b.address, 80, timeout=LATENCY_FREE_NO) == "nothing"
        else:
            host.watcher("sync")
        # What is forged on the wire with a source of the closed network goes nowhere.
        for source, mark in ((a.address, forged[2]), (b.address, forged[3])):
            packet = packets.udp(source, "192.168.7.2", 80, mark)
            wire.send(ether(mallory.mac, three.cluster.station("a").mac, IPV4, packet))
    packet = packets.udp(str(mallory.ipv4), "192.168.7.2", 80, passing)
    wire.send(ether(mallory.mac, three.cluster.station("a").mac, IPV4, packet))
    frames = there.until(lambda frame: passing in frame)
    assert not [frame for frame in frames if any(mark in frame for mark in forged)]
    send(b.place, a.address, 80, end)
    assert listener.heard(end, *forged) == []
    assert attempt(a.place, b.address, 80) == REJECTED[4]
    assert outcomes(b, a, 80) == ["on-a"]
    healthy(three)


def test_connections_to_other_hosts_count(make_cluster: ClusterMaker) -> None:
    three = agreed(make_cluster, a={"io.watcher.connections": "4"})
    for number in range(4):
        on(three, "a").place.stream(on(three, "bc"[number % 2]).address, 80)
    assert attempt(on(three, "a").place, on(three, "c").address, 80) == REJECTED[4]
    assert outcomes(on(three, "b"), on(three, "a"), 80) == ["on-a"]
