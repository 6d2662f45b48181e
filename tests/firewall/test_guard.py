"""The guard: a sandbox is held to the addresses and the MAC of its lease, whatever it can do.

The frames are crafted ones, sent from inside with all privileges over that namespace.
"""

from __future__ import annotations

import operator
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tests.support import packets, traffic
from tests.support.host import BEYOND, BEYOND6, GATEWAY, UPLINK, Container, Host
from tests.support.packets import ARP, BROADCAST, IPV4, IPV6, Wire, arp, ether
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO, eventually

if TYPE_CHECKING:
    from tests.support.host import HostMaker

DUAL = '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
GATEWAY6 = "fd00:19::1"
OUTSIDE, OUTSIDE6 = "203.0.113.7", "2001:db8:7::7"
STRANGER = "02:00:00:00:00:77"


class Identity(NamedTuple):
    """What an interface may call itself."""

    mac: str
    ip4: str
    ip6: str

    @property
    def local(self) -> str:
        return packets.link_local(self.mac)


def identity(container: Container) -> Identity:
    link = container.place.link("eth0")
    assert link is not None
    ip6 = next(a.split("/")[0] for a in container.place.addresses() if ":" in a)
    return Identity(link["address"], container.address, ip6)


def two(host: Host) -> tuple[Container, Container]:
    """Two containers of a host, `web` and `thief`."""
    host.run("web")
    host.run("thief")
    return host.attached("web"), host.attached("thief")


def forged(me: Identity, web: Identity, gateway: Identity) -> dict[str, bytes]:
    """What `me` may not send, each for all to hear, and with its name and a full stop in it."""
    frames: dict[str, bytes] = {}

    def for_all(kind: int, payload: bytes, source: str, vlan: int) -> bytes:
        return ether(source or me.mac, BROADCAST, kind, payload, vlan=vlan)

    def arps(
        name: str, operation: int, mac: str, ip: str, *, source: str = "", vlan: int = -1
    ) -> None:
        payload = arp(operation, mac, ip, web.ip4) + f"{name}.".encode()
        frames[name] = for_all(ARP, payload, source, vlan)

    def says(name: str, sender: str, *, source: str = "", vlan: int = -1) -> None:
        four = ":" not in sender
        packet = packets.udp(sender, web.ip4 if four else web.ip6, 9, f"{name}.".encode())
        frames[name] = for_all(IPV4 if four else IPV6, packet, source, vlan)

    def icmp(
        name: str, sender: str, body: bytes, *, vlan: int = -1, extended: bool = False
    ) -> None:
        body += packets.said(f"{name}.")
        packet = packets.icmp6(sender, packets.ALL_NODES, body, extended=extended)
        frames[name] = for_all(IPV6, packet, "", vlan)

    arps("an ARP question as web", 1, me.mac, web.ip4)
    arps("an ARP answer for web", 2, me.mac, web.ip4)
    arps("an ARP answer for the gateway", 2, me.mac, gateway.ip4)
    arps("an ARP answer for an address of nobody", 2, me.mac, "172.19.9.9")
    arps("an ARP answer with the MAC of web in it", 2, web.mac, me.ip4)
    arps("an ARP probe with the MAC of web in it", 1, web.mac, "0.0.0.0")
    arps("an ARP answer all as web", 2, web.mac, web.ip4, source=web.mac)
    arps("an ARP answer for web, tagged", 2, me.mac, web.ip4, vlan=0)
    says("IPv4 as web", web.ip4)
    says("IPv4 as web, tagged", web.ip4, vlan=0)
    says("IPv4 as web, in another VLAN", web.ip4, vlan=7)
    says("IPv4 as the gateway", gateway.ip4)
    says("IPv4 as an address outside", OUTSIDE)
    says("IPv4 as localhost", "127.0.0.1")
    says("IPv4 as nobody", "0.0.0.0")
    says("IPv4 by the MAC of web", me.ip4, source=web.mac)
    says("IPv4 by an unknown MAC", me.ip4, source=STRANGER)
    says("IPv4 all as web", web.ip4, source=web.mac)
    says("IPv6 as web", web.ip6)
    says("IPv6 as web, tagged", web.ip6, vlan=0)
    says("IPv6 as the link-local address of web", web.local)
    says("IPv6 as the gateway", gateway.ip6)
    says("IPv6 as an address outside", OUTSIDE6)
    says("IPv6 as nobody", "::")
    says("IPv6 by the MAC of web", me.ip6, source=web.mac)
    icmp("an advertisement of web", me.ip6, packets.advert(me.mac, web.ip6))
    icmp("the same behind a header", me.ip6, packets.advert(me.mac, web.ip6), extended=True)
    icmp("the same, tagged", me.ip6, packets.advert(me.mac, web.ip6), vlan=0)
    icmp("an advertisement of web as web", web.ip6, packets.advert(me.mac, web.ip6))
    icmp("one of the link-local address of web", me.local, packets.advert(me.mac, web.local))
    icmp("an advertisement of the gateway", me.ip6, packets.advert(me.mac, gateway.ip6))
    icmp("a solicitation as web", web.ip6, packets.solicit(gateway.ip6, me.mac))
    icmp("the intent to take the address of web", "::", packets.solicit(web.ip6))
    icmp("a router", me.local, packets.router_advert(me.mac, "2001:db8:66::"))
    icmp("a redirect of the gateway", gateway.local, packets.redirect(OUTSIDE6, me.ip6))
    icmp("a redirect of its own", me.local, packets.redirect(OUTSIDE6, me.ip6))
    return frames


def heard(host: Host, web: Container, thief: Container) -> dict[str, set[str]]:
    """Of each frame that should not be, who heard it when `thief` sent it: `web`, `host`."""
    link = host.here.link("netns0")
    assert link is not None
    gateway = Identity(link["address"], GATEWAY, GATEWAY6)
    me = identity(thief)
    wires = {"web": Wire(host, web.place), "host": Wire(host, host.here, "netns0")}
    wire = Wire(host, thief.place)
    frames = forged(me, identity(web), gateway)
    wire.send(*frames.values())
    # What comes after them is honest: when it is there, they would have been.
    end = packets.mark()
    wire.send(ether(me.mac, BROADCAST, IPV4, packets.udp(me.ip4, "172.19.255.255", 9, end)))
    found: dict[str, set[str]] = {name: set() for name in frames}
    for who, listener in wires.items():
        for frame in listener.until(lambda frame: end in frame):
            for name in frames:
                if f"{name}.".encode() in frame:
                    found[name].add(who)
    return found


def test_nobody_hears_what_a_sandbox_says_in_anothers_name(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    found = heard(host, *two(host))
    assert {name: who for name, who in found.items() if who} == {}


def test_without_the_guard_everybody_hears_it(make_host: HostMaker) -> None:
    host = make_host(DUAL + "guard = false\n")
    found = heard(host, *two(host))
    assert {name: who for name, who in found.items() if who != {"web", "host"}} == {}


def test_nobody_is_poisoned(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    web, thief = two(host)
    web.serve(tcp=(80,))
    host.here.serve(tcp=(80,))
    for address in (GATEWAY, GATEWAY6):
        assert web.reach(address, 80) is not None
    heard(host, web, thief)

    me, of_web = identity(thief), identity(web)
    link = host.here.link("netns0")
    assert link is not None
    for place, known in (
        (web.place, {GATEWAY: link["address"], GATEWAY6: link["address"]}),
        (host.here, {of_web.ip4: of_web.mac, of_web.ip6: of_web.mac}),
    ):
        neighbours = {entry["dst"]: entry.get("lladdr") for entry in place.ip("neigh")}
        assert {address: neighbours[address] for address in known} == known
        assert me.mac not in [mac for ip, mac in neighbours.items() if ip not in me]
    routes = web.place.ip("-6", "route")
    assert [r["gateway"] for r in routes if r["dst"] == "default"] == [GATEWAY6]
    for address in (of_web.ip4, of_web.ip6):
        assert host.here.reach(address, 80) is not None


def test_a_mac_is_not_learned_from_frames_that_no_bridge_forwards(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    web, thief = two(host)
    of_web, me = identity(web), identity(thief)
    host.command("ip", "neigh", "flush", "dev", "netns0")
    web.serve(tcp=(80,))
    assert host.here.reach(web.address, 80) == Answer("web", GATEWAY)
    wire, end = Wire(host, thief.place), packets.mark()
    listener = Wire(host, host.here, "netns0")
    for group in (*range(2, 16), 0x20, 0x21):  # IEEE 802.1D, table 7-10
        wire.send(ether(of_web.mac, f"01:80:c2:00:00:{group:02x}", packets.LLDP, b""))
    wire.send(ether(me.mac, BROADCAST, IPV4, packets.udp(me.ip4, GATEWAY, 9, end)))
    listener.until(lambda frame: end in frame)

    entries = host.command("bridge", "fdb", "show", "br", "netns0").stdout.splitlines()
    (port,) = {line.split()[2] for line in entries if line.startswith(of_web.mac)}
    assert port == web.veth


def test_an_address_taken_inside_leads_nowhere(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.beyond.serve(tcp=(80,))
    web, thief = two(host)
    web.serve(tcp=(80,))
    of_web, me = identity(web), identity(thief)
    for address, own, beyond in (
        (of_web.ip4, me.ip4, BEYOND),
        (of_web.ip6, me.ip6, BEYOND6),
    ):
        thief.place.ip("addr", "add", f"{address}/24", "dev", "eth0", *["nodad"] * (":" in address))
        forged = thief.place.reach(beyond, 80, source=address, timeout=LATENCY_FREE_NO)
        assert forged is None, address
        answer = host.here.reach(address, 80)
        assert answer is not None
        assert answer.who == "web"
        assert thief.place.reach(beyond, 80, source=own) is not None


def test_a_mac_taken_inside_leads_nowhere(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.beyond.serve(tcp=(80,))
    web, thief = two(host)
    web.serve(tcp=(80,))
    own = identity(thief).mac
    thief.place.ip("link", "set", "eth0", "address", identity(web).mac)
    assert thief.reach(BEYOND, 80, timeout=LATENCY_FREE_NO) is None
    assert host.here.reach(web.address, 80) == Answer("web", GATEWAY)
    thief.place.ip("link", "set", "eth0", "address", own)
    eventually(lambda: thief.reach(BEYOND, 80) == Answer("beyond", UPLINK))


def test_without_the_guard_a_sandbox_may_run_addresses_of_its_own(make_host: HostMaker) -> None:
    host = make_host(DUAL + "guard = false\n")
    web = host.attach("web")
    web.serve(tcp=(80,))
    web.place.ip("addr", "add", "172.19.99.99/16", "dev", "eth0")
    assert host.here.reach("172.19.99.99", 80) == Answer("web", GATEWAY)


def test_each_interface_is_held_to_its_own_addresses(make_host: HostMaker) -> None:
    host = make_host('[network.back]\nbridge = "back0"\nsubnets = ["172.20.0.0/24"]\n')
    web = host.attach("web", annotations={"io.watcher.network": "default,back"})
    links = {name: web.place.link(name) for name in ("eth0", "eth1")}
    macs = {name: link["address"] for name, link in links.items() if link}
    front, back = (web.place.addresses(name)[0].split("/")[0] for name in links)
    wire, listener = Wire(host, web.place, "eth1"), Wire(host, host.here, "back0")
    forged, end = packets.mark(), packets.mark()
    wire.send(
        ether(macs["eth0"], BROADCAST, IPV4, packets.udp(front, "172.20.0.1", 9, forged)),
        ether(macs["eth1"], BROADCAST, IPV4, packets.udp(front, "172.20.0.1", 9, forged)),
        ether(macs["eth1"], BROADCAST, ARP, arp(1, macs["eth1"], front, "172.20.0.1")) + forged,
        ether(macs["eth1"], BROADCAST, IPV4, packets.udp(back, "172.20.0.1", 9, end)),
    )
    assert not [f for f in listener.until(lambda frame: end in frame) if forged in f]


# --- what is honest --------------------------------------------------------------------------


def test_a_link_local_address_is_probed_for_and_can_be_used(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    web, neighbour = two(host)
    local = identity(web).local
    listener = Wire(host, neighbour.place)
    web.place.ip("-6", "addr", "flush", "dev", "eth0", "scope", "link")
    web.place.ip("-6", "addr", "add", f"{local}/64", "dev", "eth0")

    def probes(frame: bytes) -> bool:
        return frame[22:38] == bytes(16) and frame[54] == 135 and frame[62:78] == packets.ip(local)

    listener.until(probes)

    def is_usable() -> bool:
        link = web.place.link("eth0")
        assert link is not None
        (entry,) = (a for a in link["addr_info"] if a["scope"] == "link")
        return not entry.get("tentative") and not entry.get("dadfailed")

    eventually(is_usable)
    assert "1 packets received" in neighbour.exec("ping6", "-c1", "-W5", f"{local}%eth0").stdout


def test_a_multicast_group_is_joined(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    web = host.attach("web")
    listener = Wire(host, host.here, "netns0")
    with traffic.make_socket(web.place.netns, socket.AF_INET6, socket.SOCK_DGRAM) as member:
        index = web.place.ip("link", "show", "dev", "eth0")[0]["ifindex"]
        group = packets.ip("ff02::1234")
        member.setsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack("@I", index)
        )
        listener.until(lambda frame: frame[20] == 0 and group in frame[54:])


def test_an_address_may_be_probed_for_and_announced(host: Host) -> None:
    web, neighbour = two(host)
    (link,) = web.place.ip("link", "show", "dev", "eth0")
    mac = link["address"]
    wire, listener = Wire(host, web.place), Wire(host, neighbour.place)
    for sender in ("0.0.0.0", web.address):
        question = ether(mac, BROADCAST, ARP, arp(1, mac, sender, web.address))
        wire.send(question)
        listener.until(partial(operator.eq, question))
