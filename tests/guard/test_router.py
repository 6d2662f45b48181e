"""A sandbox that the network's static routes lead to sends from what is behind it, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support import packets
from tests.support.frames import identity
from tests.support.guarded import DUAL, GATEWAY6, end_of, listeners, router_of, unaided
from tests.support.hearing import PORT, heard
from tests.support.host import GATEWAY, Container, Host
from tests.support.packets import ARP, BROADCAST, IPV4, IPV6, arp, ether
from tests.support.traffic import Answer

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
