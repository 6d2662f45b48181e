"""The guard: a sandbox is held to the addresses and the MAC of its lease, whatever it can do.

The frames are crafted ones, sent from inside with all privileges over that namespace.
"""

from __future__ import annotations

import operator
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support import packets, traffic
from tests.support.frames import forged, honest, identity
from tests.support.guarded import (
    DUAL,
    GATEWAY6,
    MODES,
    end_of,
    in_mode,
    listeners,
    router_of,
    two,
    unaided,
)
from tests.support.hearing import Neighbour, heard
from tests.support.host import BEYOND, BEYOND6, GATEWAY, UPLINK, Host
from tests.support.packets import ARP, BROADCAST, IPV4, Wire, arp, ether
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO, eventually

if TYPE_CHECKING:
    from tests.support.host import HostMaker


def said(host: Host, mode: str, *, honestly: bool = False) -> tuple[set[str], dict[str, set[str]]]:
    """Who could hear something, and who heard what of the frames that `thief` sent."""
    unaided(host)
    web, thief = two(host)
    me, of_web = identity(thief), identity(web)
    frames = honest(me, of_web) if honestly else forged(me, of_web, router_of(host, thief, mode))
    all_ = listeners(host, web, thief, mode)
    return set(all_), heard(host, frames, thief.place, all_, [end_of(me)])


@pytest.mark.parametrize("mode", MODES)
def test_nobody_hears_what_a_sandbox_says_in_anothers_name(make_host: HostMaker, mode: str) -> None:
    _, found = said(make_host(in_mode(mode)), mode)
    assert {name: who for name, who in found.items() if who} == {}


@pytest.mark.parametrize("mode", MODES)
def test_without_the_guard_everybody_hears_it(make_host: HostMaker, mode: str) -> None:
    everybody, found = said(make_host(in_mode(mode) + "guard = false\n"), mode)
    assert {name: who for name, who in found.items() if who != everybody} == {}


@pytest.mark.parametrize("mode", MODES)
def test_everybody_hears_what_it_says_in_its_own(make_host: HostMaker, mode: str) -> None:
    everybody, found = said(make_host(in_mode(mode)), mode, honestly=True)
    assert {name: who for name, who in found.items() if who != everybody} == {}


def test_on_a_bridge_of_somebody_else_nobody_hears_it_either(make_host: HostMaker) -> None:
    host = make_host(f"{DUAL}managed = false\n")
    host.command("ip", "link", "add", "netns0", "type", "bridge", "stp_state", "0")
    for address in (f"{GATEWAY}/16", f"{GATEWAY6}/64"):
        host.command("ip", "address", "add", address, "dev", "netns0")
    host.command("ip", "link", "set", "netns0", "up")
    _, found = said(host, "bridge")
    assert {name: who for name, who in found.items() if who} == {}


def test_nobody_is_poisoned(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    web, thief = two(host)
    web.serve(tcp=(80,))
    host.here.serve(tcp=(80,))
    for address in (GATEWAY, GATEWAY6):
        assert web.reach(address, 80) is not None
    me, of_web = identity(thief), identity(web)
    frames = forged(me, of_web, router_of(host, thief, "bridge"))
    heard(host, frames, thief.place, {"web": Neighbour(host, web.place)}, [end_of(me)])

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
