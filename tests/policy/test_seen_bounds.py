"""What is told of rejected packets, however many there are and whatever is in them."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import TYPE_CHECKING, Final

from hypothesis import given
from hypothesis import strategies as st

from handlers.kernel import nflog
from handlers.kernel.messages import attribute
from handlers.kernel.nflog import Logged
from tests.support import packets
from watcher.facts.kinds import ConnectionsFull, Detached, Rejected
from watcher.model.container import Process
from watcher.model.policy.entries import parse_list
from watcher.model.policy.needed import entry_of
from watcher.model.request import PortMap
from watcher.model.sandbox import Interface, Member, Sandbox
from watcher.service.rejections import ALL_BURST, BURST, NEW_BURST, PAUSE, SAME, Rejections

if TYPE_CHECKING:
    from watcher.facts.kinds import Fact
    from watcher.model.address import Address, AddressWithPrefix

FAR: Final = IPv4Address("192.0.2.1")


def own(number: int) -> IPv4Address:
    return IPv4Address("172.19.0.0") + number


def logged(number: int, port: int, prefix: str = "egress saddr") -> Logged:
    """A packet of a sandbox to a port of somebody."""
    return Logged(prefix, own(number).packed, FAR.packed, 6, port)


class World:
    """What is told, of sandboxes that have all addresses, at a time of its own."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.told: list[Fact] = []
        self.rejections = Rejections(self.find, self.told.append, lambda: self.now)

    def find(self, address: Address) -> Sandbox:
        eth0 = Interface(0, "default", "eth0", "netnsv0-1", "", ())
        ports = (PortMap("tcp", None, 8080, 80, 2),)
        member = Member("", str(address), Process(1, 1), ports)
        return Sandbox(1, str(address), Process(1, 1), 1, (eth0,), (member,), ())

    def tells(self, packet: Logged) -> bool:
        before = len(self.told)
        self.rejections.heard(packet)
        return len(self.told) > before


def test_the_same_is_told_once_a_minute() -> None:
    world = World()
    assert [world.tells(logged(1, 80)) for _ in range(3)] == [True, False, False]
    assert world.tells(logged(2, 80))
    world.now += SAME
    assert world.tells(logged(1, 80))
    assert world.told[0] == Rejected(world.find(own(1)), "egress", "192.0.2.1:80/tcp")


def test_what_differs_is_told_a_burst_at_a_time() -> None:
    world = World()
    assert sum(world.tells(logged(1, port)) for port in range(1000)) == BURST
    world.now += PAUSE
    assert [world.tells(logged(1, port)) for port in (2000, 2001)] == [True, False]


def test_however_many_flood_a_quiet_one_is_told_of() -> None:
    world = World()
    flood = sum(world.tells(logged(n, port)) for n in range(2, 200) for port in range(50))
    assert ALL_BURST <= flood <= ALL_BURST + NEW_BURST
    assert world.tells(logged(1, 80))


def test_who_comes_to_an_address_is_another_one() -> None:
    world = World()
    assert world.tells(logged(1, 80))
    gone = Detached(world.find(own(1)), (), 0.0)
    world.rejections.note(gone)
    assert not world.tells(logged(1, 80))  # it had another address
    there = Interface(0, "default", "eth0", "netnsv0-1", "", (_with_prefix(own(1)),))
    gone = Detached(Sandbox(1, "x", Process(1, 1), 1, (there,), (), ()), (), 0.0)
    world.rejections.note(gone)
    assert world.tells(logged(1, 80))


def test_what_comes_in_names_the_port_that_was_dialled() -> None:
    def told(prefix: str) -> Fact | None:
        world = World()
        packet = Logged(prefix, FAR.packed, own(1).packed, 6, 81)
        return world.told[0] if world.tells(packet) else None

    web = World().find(own(1))
    assert told("ingress daddr mapped") == Rejected(web, "ingress", "192.0.2.1:8081/tcp")
    assert told("ingress daddr") == Rejected(web, "ingress", "192.0.2.1:81/tcp")
    assert told("ingress daddr host mapped") == Rejected(web, "ingress", "host:8081/tcp")
    assert told("connections daddr") == ConnectionsFull(web)
    for other in ("", "egres", "someone else's"):
        assert told(other) is None


@given(
    st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16),
    st.integers(0, 255),
    st.none() | st.integers(0, 65535),
)
def test_what_is_told_is_an_entry_of_a_list(
    address: bytes, protocol: int, port: int | None
) -> None:
    if len(address) == 16 and IPv6Address(address).ipv4_mapped:
        return
    if protocol not in (6, 17, 132):
        port = None
    (entry,) = parse_list(entry_of(address, protocol, port), "egress")
    assert str(ip_address(address)) in entry
    if port is not None:
        assert f":{port}" in entry


def body(packet: bytes) -> memoryview:
    """A message of the kernel with a logged packet."""
    content = attribute(10, b"egress saddr\0") + attribute(9, packet)
    return memoryview(struct.pack("!BBH", 2, 0, 29) + content)


def read(packet: bytes) -> tuple[int, int | None] | None:
    """Protocol and port of a packet, as they are read."""
    found = nflog.logged(body(packet))
    return None if found is None else (found.protocol, found.port)


def test_ports_are_found_behind_extension_headers() -> None:
    payload = packets.udp("2001:db8::2", "2001:db8::1", 53, b"x")[40:]
    hop = bytes((60, 0)) + bytes(6)
    options = bytes((51, 1)) + bytes(14)
    authentication = bytes((44, 4)) + bytes(22)
    fragment = bytes((17, 0, 0, 1)) + bytes(4)
    chain = hop + options + authentication + fragment + payload
    whole = packets.ipv6("2001:db8::2", "2001:db8::1", 0, chain)
    assert read(whole) == (17, 53)
    later = chain.replace(fragment, bytes((17, 0, 1, 1)) + bytes(4))
    assert read(packets.ipv6("2001:db8::2", "2001:db8::1", 0, later)) == (17, None)
    for size in range(len(whole)):
        read(whole[:size])
    endless = packets.ipv6("2001:db8::2", "2001:db8::1", 0, (bytes(8)) * 12)
    assert read(endless) == (0, None)


@given(st.binary(max_size=128))
def test_no_packet_is_too_strange(packet: bytes) -> None:
    for first in (b"", b"\x45", b"\x4f", b"\x60"):
        read(first + packet)


def _with_prefix(address: IPv4Address) -> AddressWithPrefix:
    return ip_interface(f"{address}/16")
