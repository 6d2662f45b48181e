"""A sandbox that the network's static routes lead to sends from what is behind it, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support import packets
from tests.support.frames import identity
from tests.support.guarded import DUAL, GATEWAY6, end_of, listeners, router_of, unaided
from tests.support.hearing import PORT, heard
from tests.support.host import GATEWAY, Container, Host, Place
from tests.support.packets import ARP, BROADCAST, IPV4, IPV6, arp, ether
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO

if TYPE_CHECKING:
    from tests.support.host import HostMaker

ROUTER, ROUTER6 = "172.19.0.9", "fd00:19::9"
ROUTES: Final = ", ".join(
    f'{{ to = "{to}", via = "{ROUTER6 if ":" in to else ROUTER}" }}'
    for to in ("10.8.0.0/13", "172.16.0.0/12", "2001:db8:8::/47", "fd00:19::/32")
)
BEHIND = (
    "10.8.0.7",
    "10.15.255.255",
    "172.20.9.9",
    "2001:db8:8::7",
    "2001:db8:9::7",
    "fd00:19:1::7",
)
NOT_BEHIND = (
    "10.7.255.255", "10.16.0.0", "172.19.0.1", "172.19.9.9", "203.0.113.7", "0.0.0.0",
    "2001:db8:7::7", "2001:db8:a::7", "fd00:19::1", "fd00:19::9:9", "fe80::1", "::",
)  # fmt: skip


def joined(make_host: HostMaker, routes: str = ROUTES) -> tuple[Host, Container, Container]:
    """A host, a router, and a neighbour of it."""
    host = make_host(f"{DUAL}routes = [{routes}]\n")
    unaided(host)
    host.run("router", annotations={"io.watcher.ip": f"{ROUTER},{ROUTER6}"})
    host.run("web")
    return host, host.attached("router"), host.attached("web")


def test_who_may_be_heard_in_the_name_of_what_is_behind_a_router(make_host: HostMaker) -> None:
    host, router, web = joined(make_host)
    for sender, neighbour, allowed in ((router, web, set(BEHIND)), (web, router, set[str]())):
        me, other = identity(sender), identity(neighbour)
        frames = {}
        for address in (*BEHIND, *NOT_BEHIND, other.ip4, other.ip6, other.local):
            six = ":" in address
            packet = packets.udp(
                address, other.ip6 if six else other.ip4, PORT, f"{address}.".encode()
            )
            frames[address] = ether(me.mac, BROADCAST, IPV6 if six else IPV4, packet)
            if six:
                name = f"an advertisement of {address}"
                body = packets.advert(me.mac, address) + packets.said(f"{name}.")
                packet = packets.icmp6(me.ip6, packets.ALL_NODES, body)
                frames[name] = ether(me.mac, BROADCAST, IPV6, packet)
            elif address != "0.0.0.0":
                name = f"an ARP answer for {address}"
                payload = arp(2, me.mac, address, other.ip4) + f"{name}.".encode()
                frames[name] = ether(me.mac, BROADCAST, ARP, payload)
            all_ = listeners(host, neighbour, sender, "bridge")
        found = heard(host, frames, sender.place, all_, [end_of(me)])
        assert {name for name, who in found.items() if who == set(all_)} == allowed
        assert {name for name, who in found.items() if who} == allowed


def test_what_is_behind_a_router_answers(make_host: HostMaker) -> None:
    _, router, web = joined(make_host)
    me = identity(web)
    router.serve(tcp=(80,))
    for address, of_web in (("10.8.0.7", me.ip4), ("2001:db8:8::7", me.ip6)):
        router.place.ip("addr", "add", address, "dev", "lo")
        assert web.reach(address, 80) == Answer("router", of_web)


@pytest.mark.parametrize(
    ("via", "to", "outside", "forged"),
    [
        (ROUTER, "0.0.0.0/0", "203.0.113.7", (GATEWAY, "172.19.9.9")),
        (ROUTER6, "::/0", "2001:db8:7::7", (GATEWAY6, "fd00:19::9:9", "::")),
    ],
)
def test_a_default_router_may_not_speak_for_its_neighbours(
    make_host: HostMaker, via: str, to: str, outside: str, forged: tuple[str, ...]
) -> None:
    host, router, web = joined(make_host, f'{{ to = "{to}", via = "{via}" }}')
    me, other = identity(router), identity(web)
    locals_ = (other.local, router_of(host, router, "bridge").local, "fe80::1", "ff02::1")
    kind, target = (IPV6, other.ip6) if ":" in to else (IPV4, other.ip4)
    frames = {
        address: ether(
            me.mac, BROADCAST, kind, packets.udp(address, target, PORT, f"{address}.".encode())
        )
        for address in (target, *forged, outside, *(locals_ if ":" in to else ()))
    }
    found = heard(host, frames, router.place, listeners(host, web, router, "bridge"), [end_of(me)])
    assert {name for name, who in found.items() if who} == {outside}


DOCUMENTED: Final = (
    '{ to = "10.8.0.0/16", via = "172.19.0.2" }, { to = "2001:db8:8::/48", via = "fd00:19::2" }'
)
"""The example of `deploy/watcher.toml`, and the same by IPv6."""


def network_behind(host: Host, router: Container) -> Place:
    """A machine on a link of the router's own, as one at the other end of its tunnel."""
    behind = host.machine("behind", "10.8.0.0/24")
    router.place.run("sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad")
    host.command("ip", "link", "set", "behind", "netns", f"/proc/{router.pid}/ns/net")
    router.place.run(
        "ip",
        "-batch",
        "-",
        stdin="""link set behind up
addr add 10.8.0.1/24 dev behind
addr add 2001:db8:8::1/64 dev behind nodad
""",
    )
    for setting in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        router.place.run("sh", "-c", f"echo 1 > /proc/sys/net/{setting}")
    behind.run(
        "ip",
        "-batch",
        "-",
        stdin="""addr add 2001:db8:8::2/64 dev uplink nodad
route add default via 2001:db8:8::1
""",
    )
    return behind


@pytest.mark.parametrize("filtered", [False, True])
def test_the_documented_route_carries_packets_both_ways(
    make_host: HostMaker, *, filtered: bool
) -> None:
    """With `filtered`, the host's rules see what its bridge forwards."""
    host = make_host(f"{DUAL}routes = [{DOCUMENTED}]\n")
    for name in ("ip", "ip6", "arp"):
        value = int(filtered)
        host.command("sh", "-c", f"echo {value} > /proc/sys/net/bridge/bridge-nf-call-{name}tables")
    host.service()
    host.run("web")
    router = host.run("router", annotations={"io.watcher.ip": "172.19.0.2,fd00:19::2"})
    end = router.place.link("eth0") or {}
    assert not any(address.get("tentative") for address in end["addr_info"]), "it forwards at once"
    web = host.attached("web")
    behind = network_behind(host, router)
    behind.serve(tcp=(80,), udp=(80,))
    web.serve(tcp=(80,), udp=(80,))
    host.here.serve(tcp=(80,), udp=(80,))
    me = identity(web)
    # The host itself takes no route from a network: whoever wants one adds it.
    host.command("ip", "route", "add", "10.8.0.0/16", "via", "172.19.0.2")
    host.command("ip", "-6", "route", "add", "2001:db8:8::/48", "via", "fd00:19::2")
    for there, of_web, of_host in (
        ("10.8.0.2", me.ip4, GATEWAY),
        ("2001:db8:8::2", me.ip6, GATEWAY6),
    ):
        for protocol in ("tcp", "udp"):
            assert web.reach(there, 80, protocol) == Answer("behind", of_web)
            assert behind.reach(of_web, 80, protocol) == Answer("web", there)
            assert host.here.reach(there, 80, protocol) == Answer("behind", of_host)
            assert behind.reach(of_host, 80, protocol) == Answer("host", there)
    behind.run("ip", "link", "set", "uplink", "down")
    for address in ("10.8.0.2", "2001:db8:8::2"):  # the same from anybody else is forged
        nodad = ["nodad"] * (":" in address)
        web.place.run("ip", "addr", "add", address, "dev", "eth0", *nodad)
        to = GATEWAY6 if ":" in address else GATEWAY
        assert web.place.reach(to, 80, source=address, timeout=LATENCY_FREE_NO) is None
