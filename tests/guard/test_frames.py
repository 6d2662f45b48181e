"""Frames that are cut, tagged or in pieces; and what arrives at programs."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

import pytest

from handlers.guard.program import Facts
from tests.support import chains, packets, traffic
from tests.support.frames import OUTSIDE, OUTSIDE6, TAGS, Identity, forged, honest, identity
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
from tests.support.hearing import END, PORT, Sockets, heard
from tests.support.host import BEYOND, BEYOND6, GATEWAY, UPLINK, UPLINK6, Host
from tests.support.packets import BROADCAST, IPV4, IPV6, Wire, ether
from tests.support.verdicts import passes

if TYPE_CHECKING:
    from tests.support.host import HostMaker

MAC_OF_ALL_NODES: Final = "33:33:00:00:00:01"

CUT: Final = (
    "an ARP answer",
    "IPv4",
    "IPv6 of its leased address",
    "an advertisement of its leased address",
    "a probe for its link-local address",
    "a report by nobody",
    "UDP behind three headers",
    "an advertisement behind AH",
    "a later fragment",
    "a router behind options for each hop",
    "an advertisement of web behind a fragment header",
)


@pytest.mark.parametrize("mode", MODES)
def test_a_frame_that_is_cut_is_heard_or_not_as_the_reference_says(
    make_host: HostMaker, mode: str
) -> None:
    host = make_host(in_mode(mode))
    unaided(host)
    web, thief = two(host)
    me, of_web = identity(thief), identity(web)
    subnets = (ip_network("172.19.0.0/16"), ip_network("fd00:19::/64"))
    facts = Facts(me.mac, (ip_address(me.ip4), ip_address(me.ip6)), subnets=subnets)
    all_ = listeners(host, web, thief, mode)
    wire = Wire(host, thief.place)
    for name, frame in (honest(me, of_web) | forged(me, of_web, of_web)).items():
        if name not in CUT:
            continue
        cuts = [frame[:length] for length in range(14, len(frame))]
        end = packets.mark()
        wire.send(*cuts, end_of(me, end))
        for who, listener in all_.items():
            came = set(listener.until(end))
            passed = {len(cut) for cut in cuts if passes(facts, cut)}
            assert {len(cut) for cut in cuts if cut in came} == passed, (name, who)


def test_what_the_kernel_keeps_in_other_pages_is_seen(make_host: HostMaker) -> None:
    host = make_host(f"{DUAL}mtu = 9000\n")
    unaided(host)
    web, thief = two(host)
    me, wire = identity(thief), Wire(host, thief.place)
    listener = Wire(host, web.place)
    long = (chains.options(255), chains.routing(255), chains.options(255), chains.options(200))
    end = packets.mark()
    for body in (
        packets.router_advert(me.mac, "2001:db8::"),
        packets.advert(me.mac, identity(web).ip6),
        packets.solicit(identity(web).ip6) + packets.said(end.decode()),
    ):
        packet = packets.icmp6(me.ip6, packets.ALL_NODES, body, long)
        wire.send_scattered(ether(me.mac, BROADCAST, IPV6, packet))
    came = [frame for frame in listener.until(lambda frame: end in frame) if len(frame) > 4096]
    assert len(came) == 1


def test_a_tag_is_no_part_of_the_frame_that_the_guard_sees(host: Host) -> None:
    """The kernel has put it aside, as it does where a card or a VLAN's link takes it off or on."""
    web = host.attach("web")
    (link,) = web.place.ip("link", "show", "dev", "eth0")
    wire = Wire(host, host.here, web.veth)
    for tags in TAGS.values():
        mark = packets.mark()
        payload = packets.udp(web.address, GATEWAY, 9, mark)
        sent = ether(link["address"], BROADCAST, IPV4, payload, tags)
        Wire(host, web.place).send(sent)
        assert wire.with_tags_until(mark)[-1] == (sent[:12] + sent[16:], tags[0])


# --- what arrives at programs ----------------------------------------------------------------


def in_name_of_others(me: Identity, web: Identity, gateway: Identity) -> dict[str, bytes]:
    """Datagrams to the host, to a neighbour and to a machine beyond, as others."""
    frames = {}
    for target, (mac, four, six) in {
        "the host": (gateway.mac, GATEWAY, GATEWAY6),
        "the host's uplink": (gateway.mac, UPLINK, UPLINK6),
        "beyond": (gateway.mac, BEYOND, BEYOND6),
        "web": (gateway.mac, web.ip4, web.ip6),
    }.items():
        for sender, addresses in {
            "web": (web.ip4, web.ip6, web.local),
            "the gateway": (gateway.ip4, gateway.ip6, gateway.local),
            "nobody": ("172.19.9.9", "fd00:19::9:9", "fe80::9:9"),
            "one outside": (OUTSIDE, OUTSIDE6),
        }.items():
            for address in addresses:
                name = f"{address} of {sender} to {target}"
                version, to = (IPV6, six) if ":" in address else (IPV4, four)
                packet = packets.udp(address, to, PORT, f"{name}.".encode())
                frames[name] = ether(me.mac, mac, version, packet)
    return frames


@pytest.mark.parametrize("guard", ["true", "false"])
@pytest.mark.parametrize("mode", MODES)
def test_no_program_gets_a_datagram_in_anothers_name(
    make_host: HostMaker, mode: str, guard: str
) -> None:
    host = make_host(in_mode(mode) + f"guard = {guard}\n")
    unaided(host)
    web, thief = two(host)
    me, of_web, gateway = identity(thief), identity(web), router_of(host, thief, mode)
    places = {"host": host.here, "web": web.place, "beyond": host.beyond}
    last = [
        ether(me.mac, gateway.mac, kind, packets.udp(source, to, PORT, END))
        for kind, source, targets in (
            (IPV4, me.ip4, (GATEWAY, of_web.ip4, BEYOND)),
            (IPV6, me.ip6, (GATEWAY6, of_web.ip6, BEYOND6)),
        )
        for to in targets
    ]
    found = heard(
        host,
        in_name_of_others(me, of_web, gateway),
        thief.place,
        {name: Sockets(host, place) for name, place in places.items()},
        last,
    )
    by = {(who, ":" in name) for name, all_ in found.items() for who in all_}
    assert by == (
        set() if guard == "true" else {(who, v6) for who in places for v6 in (True, False)}
    )


@pytest.mark.parametrize("guard", ["true", "false"])
def test_a_router_that_comes_in_pieces_is_not_put_together(
    make_host: HostMaker, guard: str
) -> None:
    host = make_host(DUAL + f"guard = {guard}\n")
    unaided(host)
    web, thief = two(host)
    me = identity(thief)
    with traffic.entered(web.place.netns):
        raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, packets.ICMP6)
    host.on_close(raw.close)
    raw.settimeout(20)
    whole = packets.message6(
        me.local, packets.ALL_NODES, packets.router_advert(me.mac, "2001:db8::")
    )
    wire = Wire(host, thief.place)
    for header, content in (
        (chains.fragment(more=True), whole[:8]),
        (chains.fragment(1), whole[8:]),
    ):
        first, payload = chains.behind((header,), packets.ICMP6, content)
        packet = packets.ipv6(me.local, packets.ALL_NODES, first, payload)
        wire.send(ether(me.mac, MAC_OF_ALL_NODES, IPV6, packet))
    end = packets.icmp6(me.local, packets.ALL_NODES, struct.pack("!BBHI", 128, 0, 0, 1))
    wire.send(ether(me.mac, MAC_OF_ALL_NODES, IPV6, end))
    came = set()
    while 128 not in came:
        came.add(raw.recv(2048)[0])
    assert (packets.ROUTER_ADVERT in came) == (guard == "false")
