"""A fixed address that comes back with another MAC is reached at once by who knew the last one."""

from __future__ import annotations

from socket import AF_INET, SOCK_DGRAM
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import packets, traffic
from tests.support.host import SUBNET, Container, Host
from tests.support.packets import ARP, Wire
from tests.support.traffic import Datagrams

if TYPE_CHECKING:
    from tests.support.host import HostMaker

DUAL = f'[network.default]\nmode = "{{}}"\nsubnets = ["{SUBNET}", "fd00:19::/64"]\n'
ADDRESSES = "172.19.0.77", "fd00:19::77"
MACS = "", "02:00:00:00:00:01", ""
"""The MAC of each container that has the addresses, one after the other; empty: the usual one."""


def start(host: Host, name: str, mac: str) -> Container:
    asked: dict[str, Any] = {"io.watcher.ip": ",".join(ADDRESSES)}
    container = host.attach(name, annotations=asked | ({"io.watcher.mac": mac} if mac else {}))
    container.serve(udp=(80,))
    return container


def replaced(host: Host, clients: list[Datagrams]) -> None:
    """Has clients ask one container after the other that has the addresses."""
    for number, mac in enumerate(MACS):
        name = f"c{number}"
        container = start(host, name, mac)
        for client in clients:
            answer = client.ask()
            assert answer is not None, (name, mac, client.version)
            assert answer.who == name
        host.delete(name)
        host.gone(container)


@pytest.mark.parametrize(("mode", "serve"), [("bridge", True), ("routed", True), ("bridge", False)])
def test_a_neighbour_and_the_host_reach_the_next_at_once(
    make_host: HostMaker, mode: str, serve: bool
) -> None:
    host = make_host(DUAL.format(mode))
    if serve:
        host.service()
    neighbour = host.attach("neighbour")
    places = neighbour.place, host.here
    replaced(host, [place.datagrams(to, 80) for place in places for to in ADDRESSES])


def test_a_machine_beyond_a_bridge_of_somebody_else_reaches_it_at_once(
    make_host: HostMaker,
) -> None:
    host = make_host(DUAL.format("bridge") + 'bridge = "theirs0"\nmanaged = false\n')
    host.ip("link", "add", "theirs0", "type", "bridge")
    host.ip("link", "set", "theirs0", "up")
    host.ip("addr", "add", "172.19.0.1/16", "dev", "theirs0")
    far = host.machine("vm0", "172.19.200.0/24")
    host.ip("addr", "flush", "dev", "vm0")
    host.ip("link", "set", "vm0", "master", "theirs0")
    far.ip("addr", "flush", "dev", "uplink")
    far.ip("addr", "add", "172.19.200.2/16", "dev", "uplink")
    far.ip("addr", "add", "fd00:19::200:2/64", "dev", "uplink", "nodad")
    replaced(host, [far.datagrams(to, 80) for to in ADDRESSES])


def test_what_tells_nothing_new_is_not_announced(served: Host) -> None:
    watching = served.attach("watching")
    wire, end = Wire(served, watching.place), packets.mark()
    for name in ("first", "again"):
        container = served.attach(name)
        client = traffic.make_socket(container.place.netns, AF_INET, SOCK_DGRAM)
        with client:
            client.sendto(end if name == "again" else b"?", (watching.address, 9))
        served.delete(name)
    heard = [
        frame for frame in wire.until(lambda frame: end in frame) if frame[12:14] == ARP.to_bytes(2)
    ]
    assert heard, "they ask for the address that they send to"
    assert not [frame for frame in heard if frame[28:32] == frame[38:42]]
