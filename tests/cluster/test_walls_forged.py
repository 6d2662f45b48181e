"""What only claims to come from a sandbox of another host arrives nowhere.

Each test has a control: a packet made in the same way that may arrive, and does.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

import pytest

from tests.cluster.conftest import ClusterMaker
from tests.cluster.test_walls import LOCAL, NET, both, on, serving
from tests.support import packets, traffic
from tests.support.cluster import FAR, LAN
from tests.support.cluster.agreed import Agreed
from tests.support.cluster.played import Played
from tests.support.host import Host, Place
from tests.support.packets import IPV4, IPV6, Wire, ether
from tests.support.traffic import Answer
from tests.support.waiting import eventually
from watcher.model.cluster import vni, vtep_mac

VXLAN, SENT_FROM = 4789, 600
UNGUARDED = """
[network.wild]
bridge = "wild0"
subnets = ["172.24.0.0/16"]
guard = false
"""
ANYBODY = "02:00:00:00:00:66"


@pytest.fixture
def three(make_cluster: ClusterMaker) -> Agreed:
    """Three hosts with a container each, and networks of their own."""
    agreed = Agreed(make_cluster(), NET.config() + LOCAL + UNGUARDED)
    for name in "abc":
        serving(agreed, name, f"on-{name}", ports="8080:80,8080:80/udp")
    agreed.join()
    return agreed


def kind_of(address: str) -> int:
    return IPV4 if ip_address(address).version == 4 else IPV6


def tunnelled(
    agreed: Agreed, name: str, source: str, to: str, content: bytes, *, number: int
) -> bytes:
    """What VXLAN carries in a datagram to a host."""
    mac = vtep_mac(agreed.address(name), NET.number)
    frame = ether(ANYBODY, mac, kind_of(to), packets.udp(source, to, 80, content))
    return struct.pack("!BBHI", 8, 0, 0, number << 8) + frame


def send(place: Place, address: str, port: int, content: bytes, *, source: str = "") -> None:
    """A datagram, as any program sends it."""
    with traffic.make_socket(place.netns, traffic.family_of(address), socket.SOCK_DGRAM) as sender:
        sender.bind((source, SENT_FROM if port == VXLAN else 0))
        sender.sendto(content, (address, port))


def mac_of(place: Place, name: str) -> str:
    link = place.link(name)
    assert link is not None
    return str(link["address"])


class Ear:
    """Hears what arrives at an interface, up to a datagram of somebody who may send there."""

    def __init__(self, host: Host, place: Place, name: str = "eth0") -> None:
        self._wire = Wire(host, place, name)

    def heard(self, end: bytes, *marks: bytes) -> list[bytes]:
        """Those of `marks` that came before `end`."""
        frames = self._wire.until(lambda frame: end in frame)
        return [mark for mark in marks if any(mark in frame for frame in frames)]


def ear(agreed: Agreed, name: str) -> Ear:
    """Of the container on a host."""
    return Ear(agreed[name], on(agreed, name).place)


def marks(count: int) -> list[bytes]:
    return [packets.mark() for _ in range(count)]


def test_vxlan_is_taken_from_hosts_of_the_cluster_alone(three: Agreed) -> None:
    mallory = three.cluster.underlay.new_station("mallory", LAN, 66)
    wire, listener = Wire(three["a"], mallory.place, "uplink"), ear(three, "a")
    mine, theirs = map(str, (mallory.ipv4, three.address("a")))
    pairs = list(zip(both(on(three, "c")), both(on(three, "a")), strict=True))
    forged, end = marks(4), packets.mark()
    for (source, to), by_socket, by_frame in zip(pairs, forged[:2], forged[2:], strict=True):
        inner = tunnelled(three, "a", source, to, by_socket, number=vni(1))
        send(mallory.place, theirs, VXLAN, inner)
        inner = tunnelled(three, "a", source, to, by_frame, number=vni(1))
        outer = packets.udp(mine, theirs, VXLAN, inner, source_port=SENT_FROM)
        wire.send(ether(mallory.mac, three.cluster.station("a").mac, IPV4, outer))
    # The underlay is trusted: who has the address of a host there is that host.
    inner = tunnelled(three, "a", *pairs[0], end, number=vni(1))
    outer = packets.udp(str(three.address("c")), theirs, VXLAN, inner, source_port=SENT_FROM)
    wire.send(ether(mallory.mac, three.cluster.station("a").mac, IPV4, outer))
    assert listener.heard(end, *forged) == []


def test_vxlan_over_ipv6_is_taken_from_hosts_of_the_cluster_alone(
    make_cluster: ClusterMaker,
) -> None:
    three = Agreed(make_cluster(), NET.config(), version=6)
    for name in "abc":
        serving(three, name, f"on-{name}")
    three.join()
    mallory = three.cluster.underlay.new_station("mallory", LAN, 66)
    listener, forged, end = ear(three, "a"), marks(2), packets.mark()
    for source, to, mark in zip(both(on(three, "c")), both(on(three, "a")), forged, strict=True):
        inner = tunnelled(three, "a", source, to, mark, number=vni(1))
        send(mallory.place, str(three.address("a")), VXLAN, inner)
        send(on(three, "c").place, str(three.address("a")), VXLAN, inner)
        assert on(three, "c").reach(to, 80) == Answer("on-a", source)
    send(on(three, "c").place, on(three, "a").address, 80, end)
    assert listener.heard(end, *forged) == []


def test_a_host_without_containers_has_its_walls(make_cluster: ClusterMaker) -> None:
    played = Played(make_cluster())
    try:
        host = played.add("a")
        played.add("c", FAR)
        played.tell()
        eventually(lambda: "netnsx1" in host.here.links())
        table = host.nft("list", "table", "inet", "watcher").stdout
        assert f"udp dport {VXLAN}" in table
        peers = host.nft("list", "set", "inet", "watcher", "peers4").stdout
        assert played.address("c") in peers
        host.nft("flush", "ruleset")
        eventually(
            lambda: (
                played.address("c") in host.nft("list", "set", "inet", "watcher", "peers4").stdout
            )
        )
    finally:
        played.close()


def test_vxlan_of_other_programs_goes_on(three: Agreed) -> None:
    mallory = three.cluster.underlay.new_station("mallory", LAN, 66)
    ends = (three["a"].here, str(three.address("a"))), (mallory.place, str(mallory.ipv4))
    for number, ((place, local), (_, remote)) in enumerate((ends, ends[::-1]), 1):
        tunnel = f"id 42 dstport {VXLAN} local {local} remote {remote}"
        place.ip("link", "add", "other", "type", "vxlan", *tunnel.split())
        place.ip("addr", "add", f"10.77.0.{number}/24", "dev", "other")
        place.ip("link", "set", "other", "up")
    mallory.place.serve(tcp=(80,))
    assert three["a"].here.reach("10.77.0.2", 80) == Answer("mallory", "10.77.0.1")


def test_no_sandbox_sends_into_the_tunnel_of_its_host(three: Agreed) -> None:
    host, far = three["a"], three.cluster.station("c")
    inside = [host.attach(n, annotations={"io.watcher.network": n}) for n in ("local", "wild")]
    inside.append(on(three, "a"))
    uplink, listener = Ear(three["c"], far.place, "uplink"), ear(three, "c")
    source, to = both(on(three, "b"))[0], both(on(three, "c"))[0]
    forged, others, end = marks(4), marks(3), packets.mark()
    for container, mark, other in zip(inside, forged, others, strict=False):
        inner = tunnelled(three, "c", source, to, mark, number=vni(1))
        send(container.place, str(far.ipv4), VXLAN, inner)
        inner = tunnelled(three, "c", source, to, other, number=42)
        send(container.place, str(far.ipv4), VXLAN, inner)
    # As an answer to somebody on the other host who is in league with it.
    accomplice = on(three, "c").place
    with (
        traffic.make_socket(inside[2].place.netns, socket.AF_INET, socket.SOCK_DGRAM) as server,
        traffic.make_socket(accomplice.netns, socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        on(three, "a")
        client.bind(("", VXLAN))
        server.bind(("", 4242))
        host.watcher("publish", "on-a", "4242:4242/udp")
        client.sendto(b"open", (str(three.address("a")), 4242))
        server.settimeout(traffic.ENOUGH)
        _, asker = server.recvfrom(100)
        server.sendto(tunnelled(three, "c", source, to, forged[3], number=vni(1)), asker)
    send(on(three, "a").place, str(far.ipv4), 4999, end)
    assert uplink.heard(end, *forged, *others) == others
    send(on(three, "b").place, to, 80, end)
    assert listener.heard(end, *forged) == []


def test_no_user_of_a_host_sends_into_its_tunnel(three: Agreed) -> None:
    host, far = three["a"], str(three.cluster.station("c").ipv4)
    listener = ear(three, "c")
    source, to = both(on(three, "b"))[0], both(on(three, "c"))[0]
    (forged,), end = marks(1), packets.mark()
    for mark, user, port in ((forged, 1000, 0), (end, 0, SENT_FROM)):
        inner = tunnelled(three, "c", source, to, mark, number=vni(1))
        send_from = (
            f"s.bind(('', {port})); s.sendto(bytes.fromhex('{inner.hex()}'), ('{far}', {VXLAN}))"
        )
        program = f"import socket; s = socket.socket(type=socket.SOCK_DGRAM); {send_from}"
        as_user = ("setpriv", f"--reuid={user}", "--clear-groups")
        host.command(*as_user, "/usr/bin/python3", "-c", program)
    assert listener.heard(end, forged) == []


def test_no_sandbox_sends_into_the_tunnel_as_another_host(three: Agreed) -> None:
    host = three["a"]
    wild = host.attach("wild", annotations={"io.watcher.network": "wild"})
    peer = str(three.address("c"))
    wild.place.ip("addr", "add", peer, "dev", "eth0")
    listener, to = ear(three, "a"), on(three, "a").address
    source = both(on(three, "c"))[0]
    targets = [str(three.address("a")), "172.24.0.1", str(NET.own("a")[0])]
    forged, end = marks(len(targets)), packets.mark()
    for target, mark in zip(targets, forged, strict=True):
        inner = tunnelled(three, "a", source, to, mark, number=vni(1))
        send(wild.place, target, VXLAN, inner, source=peer)
    send(on(three, "b").place, to, 80, end)
    assert listener.heard(end, *forged) == []


def test_a_source_is_believed_only_by_the_link_that_leads_there(three: Agreed) -> None:
    host = three["a"]
    mallory = three.cluster.underlay.new_station("mallory", LAN, 66)
    guest = host.machine("guest", "192.168.7.0/24")
    other = serving(three, "a", "other")
    by_lan = Wire(host, mallory.place, "uplink"), mallory.mac, three.cluster.station("a").mac
    link = mac_of(guest, "uplink"), mac_of(host.here, "guest")
    by_guest = Wire(host, guest, "uplink"), *link
    end = packets.mark()
    listener, forged = ear(three, "a"), list[bytes]()
    unknown = ("172.19.77.5", "fd00:19::7705")
    own = tuple(map(str, NET.own("a")))
    false = {
        by_lan: (both(on(three, "c")), both(other), own, unknown),
        by_guest: (both(on(three, "b")), both(on(three, "c")), both(other), own, unknown),
    }
    published = three.cluster.station("a").addresses
    for (wire, mine, theirs), claimed in false.items():
        for sources in claimed:
            for source, direct, mapped in zip(
                sources, both(on(three, "a")), published, strict=True
            ):
                for to, port in ((direct, 80), (mapped, 8080)):
                    forged.append(packets.mark())
                    packet = packets.udp(source, to, port, forged[-1])
                    wire.send(ether(mine, theirs, kind_of(to), packet))
    wire, mine, theirs = by_lan  # who is on a link with a host can be that host
    packet = packets.udp(on(three, "b").address, on(three, "a").address, 80, end)
    wire.send(ether(mine, theirs, IPV4, packet))
    assert listener.heard(end, *forged) == []


def test_a_host_is_no_router_to_others(three: Agreed) -> None:
    host, far = three["a"], three.cluster.station("c")
    mallory = three.cluster.underlay.new_station("mallory", LAN, 66)
    guest = host.machine("guest", "192.168.7.0/24")
    host.command("nft", "-f", "-", stdin=MASQUERADE)
    listeners = {name: ear(three, name) for name in "bc"}
    uplink = Ear(three["c"], far.place, "uplink")
    forged, ends = list[bytes](), {name: packets.mark() for name in "bc"}
    links = (
        (Wire(host, mallory.place, "uplink"), mallory.mac, three.cluster.station("a").mac),
        (Wire(host, guest, "uplink"), mac_of(guest, "uplink"), mac_of(host.here, "guest")),
    )
    strangers = ("192.168.7.2", "2001:db8:66::2")
    for wire, mine, theirs in links:
        for name in "bc":
            for sources in (both(on(three, "a")), strangers):
                for source, to in zip(sources, both(on(three, name)), strict=True):
                    forged.append(packets.mark())
                    packet = packets.udp(source, to, 80, forged[-1])
                    wire.send(ether(mine, theirs, kind_of(to), packet))
    forged.append(packets.mark())
    source, to = on(three, "b").address, on(three, "c").address
    inner = tunnelled(three, "c", source, to, forged[-1], number=vni(1))
    send(guest, str(far.ipv4), VXLAN, inner)
    passing = packets.mark()
    send(guest, str(far.ipv4), 4999, passing)
    assert uplink.heard(passing, forged[-1]) == []
    for name, listener in listeners.items():
        send(on(three, "a").place, on(three, name).address, 80, ends[name])
        assert listener.heard(ends[name], *forged) == []


MASQUERADE = """
table ip own_nat {
    chain post { type nat hook postrouting priority 100; ip saddr 192.168.7.0/24 masquerade; }
}
"""
"""As Docker and others have it for what is behind their bridges."""
