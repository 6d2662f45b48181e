"""A sandbox that is held to a list and has every capability in its namespace does not get out."""

from __future__ import annotations

import socket
import struct
from itertools import chain
from typing import TYPE_CHECKING, Final

import pytest

from tests.support import chains, packets, traffic
from tests.support.dialled import talkative
from tests.support.guarded import GATEWAY6, MODES, in_mode, router_of, unaided
from tests.support.host import BEYOND, BEYOND6, GATEWAY, UPLINK, UPLINK6
from tests.support.packets import ACK, IPV4, IPV6, RST, SYN, Wire, ether
from tests.support.tampering import powerful

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.host import Container, Host, HostMaker

OPEN: Final = 9
"""The only port beyond that is on the list; the host itself is on it with all its ports."""

LIST: Final = f"{GATEWAY},{UPLINK},{GATEWAY6},{UPLINK6},{BEYOND}:{OPEN}/udp,[{BEYOND6}]:{OPEN}/udp"
_SETTINGS: Final = ("ipv4/conf/{}/accept_source_route", "ipv6/conf/{}/accept_source_route",
                    "ipv6/conf/{}/seg6_enabled", "ipv6/conf/{}/rpl_seg_enabled")  # fmt: skip


class Attacker:
    """What is sent by a sandbox, and who must not hear of it."""

    def __init__(self, host: Host, container: Container, mode: str) -> None:
        link = container.place.link("eth0")
        assert link is not None
        self.mac = link["address"]
        self.router = router_of(host, container, mode)
        self.ip4 = container.address
        self.ip6 = next(a.split("/")[0] for a in container.place.addresses() if ":" in a)
        self.local = packets.link_local(self.mac)
        self._wire = Wire(host, container.place)
        self._beyond = Wire(host, host.beyond, "uplink")

    def send(self, packet: bytes) -> None:
        kind = IPV4 if packet[0] >> 4 == 4 else IPV6
        self._wire.send(ether(self.mac, self.router.mac, kind, packet))

    def heard(self, end: bytes) -> list[bytes]:
        """All that has come beyond, up to the end."""
        self.send(packets.udp(self.ip4, BEYOND, OPEN, end))
        return self._beyond.until(lambda frame: end in frame)


def open_host(host: Host) -> None:
    """A host that forwards whatever it is asked to."""
    unaided(host)
    talkative(host)
    for setting in _SETTINGS:
        files = f"/proc/sys/net/{setting.format('*')}"
        host.command("sh", "-c", f"for f in {files}; do echo 1 > $f; done", check=False)


def attacker(make_host: HostMaker, mode: str, egress: str = LIST) -> tuple[Host, Attacker]:
    host = make_host(in_mode(mode))
    host.service()
    container = host.attach(
        "attacker",
        annotations={"io.watcher.egress": egress},
        edit=powerful,
        ports="7000:7000,7000:7000/udp",
    )
    open_host(host)
    host.beyond.run("ip", "route", "add", "172.19.0.0/16", "via", UPLINK)
    return host, Attacker(host, container, mode)


def source_routed(me: Attacker, name: bytes) -> Iterator[bytes]:
    """IPv4 packets to the host that ask it to send them on, loosely and strictly."""
    for kind in (131, 137):
        for host in (GATEWAY, UPLINK):
            for before in (b"", b"\1", b"\1\1\1", b"\x07\x07\4\0\0\0\0"):
                option = before + struct.pack("!BBB", kind, 7, 4) + packets.ip(BEYOND)
                option = option.ljust(-(-len(option) // 4) * 4, b"\0")
                datagram = packets.udp(me.ip4, host, 7, name)[20:]
                yield packets.ipv4(me.ip4, host, 17, datagram, options=option)


def segment_routed(me: Attacker, name: bytes) -> Iterator[bytes]:
    """IPv6 packets to the host whose routing headers lead on: types 0, 2, 3 and 4."""
    for host in (GATEWAY6, UPLINK6):
        for kind, middle in ((0, bytes(4)), (2, bytes(4)), (3, bytes(4)), (4, b"\1\0\0\0")):
            segments = packets.ip(BEYOND6) + packets.ip(host)
            for units, left in ((4, 1), (2, 1)):
                head = struct.pack("!BBB", units, kind, left) + middle
                header = chains.Header(chains.ROUTING, head + segments[: 8 * units])
                for before in ((), (chains.options(),), (chains.options(kind=0),)):
                    datagram = packets.udp(me.ip6, BEYOND6, 7, name)[40:]
                    first, content = chains.behind((*before, header), 17, datagram)
                    yield packets.ipv6(me.ip6, host, first, content)


def in_pieces(me: Attacker, name: bytes) -> Iterator[bytes]:
    """Datagrams to another port in fragments: small ones, from the end, and overlapping."""
    whole = packets.udp(me.ip4, BEYOND, 7, name * 4)[20:]
    for number, cut in enumerate((8, 16)):
        parts = [(0x2000, whole[:cut]), (cut >> 3, whole[cut:])]
        longer = [(0x2000, packets.udp(me.ip4, BEYOND, OPEN, name)[20:36]), *parts]
        for turn, some in enumerate((parts, parts[::-1], longer, longer[::-1])):
            for at, part in some[: 2 if cut == 16 else 3]:
                which = 1 + 16 * number + turn
                yield packets.ipv4(me.ip4, BEYOND, 17, part, number=which, fragment=at)
    whole6 = packets.udp(me.ip6, BEYOND6, 7, name * 4)[40:]
    for cut in (8, 16):
        parts6 = [(0, True, whole6[:cut]), (cut >> 3, False, whole6[cut:])]
        for pieces in (parts6, parts6[::-1]):
            for offset, more, part in pieces:
                header = chains.fragment(offset, more=more, number=cut)
                yield packets.ipv6(me.ip6, BEYOND6, *chains.behind((header,), 17, part))


def behind_headers(me: Attacker, name: bytes) -> Iterator[bytes]:
    datagram = packets.udp(me.ip6, BEYOND6, 7, name)[40:]
    for headers in (
        (chains.options(kind=chains.HOP_BY_HOP),),
        (chains.options(),) * 3,
        (chains.routing(),),
        (chains.fragment(),),
        (chains.authentication(),),
        (chains.options(), chains.fragment(), chains.options()),
    ):
        yield packets.ipv6(me.ip6, BEYOND6, *chains.behind(headers, 17, datagram))


def out_of_order(me: Attacker, name: bytes) -> Iterator[bytes]:
    """Segments of no connection, and datagrams from the ports of incoming ones."""
    for source, target in ((me.ip4, BEYOND), (me.ip6, BEYOND6)):
        for flags in (ACK, SYN | ACK, RST, RST | ACK, 1 | ACK, 0, 0x3F):
            yield packets.tcp(source, target, 443, flags, payload=name)
        for port in (OPEN, 7000, 53, 67):
            yield packets.udp(source, target, 7, name, source_port=port)
            yield packets.tcp(source, target, 7, SYN, source_port=port, payload=name)


def by_others(me: Attacker, name: bytes) -> Iterator[bytes]:
    """What comes from other addresses."""
    for source in ("172.19.9.9", GATEWAY, UPLINK, "10.9.9.9"):
        yield packets.udp(source, BEYOND, 7, name)
    for source in ("fd00:19::99", GATEWAY6, UPLINK6, me.local):
        yield packets.udp(source, BEYOND6, 7, name)


def raw(me: Attacker, name: bytes) -> Iterator[bytes]:
    for number in (4, 41, 47, 50, 51, 89, 132, 136, 255):
        yield packets.ipv4(me.ip4, BEYOND, number, packets.udp(me.ip4, BEYOND, OPEN, name))
        yield packets.ipv6(me.ip6, BEYOND6, number, packets.udp(me.ip6, BEYOND6, OPEN, name))
    yield packets.ipv4(me.ip4, BEYOND, 1, b"\x08\0" + bytes(6) + name)
    yield packets.icmp6(me.ip6, BEYOND6, b"\x80\0\0\0" + bytes(4) + name)


WAYS: Final[tuple[Callable[[Attacker, bytes], Iterator[bytes]], ...]] = (
    source_routed, segment_routed, in_pieces, behind_headers, out_of_order, by_others, raw,
)  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_nothing_gets_out_but_what_is_on_the_list(make_host: HostMaker, mode: str) -> None:
    _, me = attacker(make_host, mode)
    for way in WAYS:
        name, end = packets.mark(), packets.mark()
        sent = list(way(me, name))
        for packet in chain(sent, sent):
            me.send(packet)
        # The same once there are connections between these ports.
        me.send(packets.udp(me.ip4, GATEWAY, 7, b"open"))
        me.send(packets.udp(me.ip4, UPLINK, 7, b"open"))
        me.send(packets.udp(me.ip6, GATEWAY6, 7, b"open"))
        for packet in sent:
            me.send(packet)
        assert not [frame for frame in me.heard(end) if name in frame], way.__name__


@pytest.mark.parametrize("mode", MODES)
def test_errors_are_no_way_out(make_host: HostMaker, mode: str) -> None:
    """It knows another sandbox's connection, and says that its answers do not arrive."""
    host, me = attacker(make_host, mode)
    victim = host.attach("victim")
    ip6 = next(a.split("/")[0] for a in victim.place.addresses() if ":" in a)
    host.beyond.serve(udp=(53,))
    name, end = packets.mark(), packets.mark()
    for source, target, ours in ((victim.address, BEYOND, UPLINK), (ip6, BEYOND6, UPLINK6)):
        asking = victim.place.datagrams(target, 53)
        assert asking.ask() is not None
        port = asking._socket.getsockname()[1]
        for seen in (source, ours):
            inner = packets.udp(target, seen, port, name, source_port=53)
            if target == BEYOND:
                sum_ = packets.checksum(b"\3\3\0\0\0\0\0\0" + inner)
                body = b"\3\3" + struct.pack("!H", sum_) + bytes(4) + inner
                me.send(packets.ipv4(me.ip4, target, 1, body))
            else:
                me.send(packets.icmp6(me.ip6, target, b"\1\4\0\0\0\0\0\0" + inner))
    assert not [frame for frame in me.heard(end) if name in frame]


@pytest.mark.parametrize("mode", MODES)
def test_the_host_is_not_reached_by_its_other_addresses(make_host: HostMaker, mode: str) -> None:
    """By link-local ones, by groups, and by everybody's address."""
    host, me = attacker(make_host, mode, f"{GATEWAY}:{OPEN}/udp")
    heard = []
    for family in (socket.AF_INET, socket.AF_INET6):
        sock = traffic.make_socket(host.here.netns, family, socket.SOCK_DGRAM)
        host.on_close(sock.close)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("", OPEN))
        sock.setblocking(False)
        heard.append(sock)
    name, end = packets.mark(), packets.mark()
    for target in (UPLINK, "172.19.255.255", "255.255.255.255", "224.0.0.1", "127.0.0.1"):
        me.send(packets.udp(me.ip4, target, OPEN, name))
    local = packets.link_local(me.router.mac)
    for target in (local, "fe80::1", GATEWAY6, UPLINK6, "ff02::1", "ff02::2", "::1"):
        for source in (me.ip6, me.local):
            me.send(packets.udp(source, target, OPEN, name))
    me.send(packets.udp(me.ip4, GATEWAY, OPEN, end))
    heard[0].settimeout(10)
    assert heard[0].recv(100) == end
    with pytest.raises(BlockingIOError):
        heard[1].recv(100)
