"""Crafted frames: what no honest program sends, and who gets to see it.

Frames are bytes from the Ethernet header on. A :class:`Wire` sends and hears them on one interface,
as a program with `CAP_NET_RAW` does. Sources: RFC 826 (ARP), RFC 791, RFC 8200, RFC 4443 and 4861
(ICMPv6 and neighbour discovery), RFC 2710 and 3810 (MLD), RFC 9260 (SCTP).
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from tests.support import chains, traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.host import Host, Place

ALL: Final = 3
"""ETH_P_ALL: every protocol, as bind(2) of a packet socket wants it."""

BROADCAST: Final = "ff:ff:ff:ff:ff:ff"
ALL_NODES: Final = "ff02::1"
PATIENCE: Final = 20.0

ARP, IPV4, IPV6, VLAN, SERVICE_VLAN, LLDP = 0x0806, 0x0800, 0x86DD, 0x8100, 0x88A8, 0x88CC
NOBODY: Final = "00:00:00:00:00:00"
ICMP6, SCTP = 58, 132
SYN, RST, ACK = 2, 4, 16
ROUTER_ADVERT, NEIGHBOR_SOLICIT, NEIGHBOR_ADVERT, REDIRECT = 134, 135, 136, 137
MLD_REPORT, MLD2_REPORT = 131, 143

_SO_RCVBUFFORCE: Final = 33
_SOL_PACKET, _PACKET_AUXDATA, _PACKET_VNET_HDR, _VLAN_VALID = 263, 8, 15, 0x10
_AUXDATA: Final = struct.Struct("=I12xHH")
"""`tpacket_auxdata`: `tp_status`, `tp_vlan_tci`, `tp_vlan_tpid` (`linux/if_packet.h`)."""
_numbers = itertools.count(1)


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ip(text: str) -> bytes:
    return ip_address(text).packed


def ether(
    source: str, destination: str, kind: int, payload: bytes, tags: Sequence[tuple[int, int]] = ()
) -> bytes:
    """A frame; `tags` are pairs of an ethertype and a VLAN's number (0 is a priority alone)."""
    tagged = b"".join(struct.pack("!HH", *tag) for tag in tags)
    frame = mac(destination) + mac(source) + tagged + struct.pack("!H", kind) + payload
    return frame.ljust(60, b"\0")


def arp(
    operation: int, sender_mac: str, sender: str, target: str, target_mac: str = NOBODY
) -> bytes:
    """The payload of an ARP request (1) or reply (2)."""
    head = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation)
    return head + mac(sender_mac) + ip(sender) + mac(target_mac) + ip(target)


def ipv4(
    source: str,
    destination: str,
    protocol: int,
    payload: bytes,
    *,
    options: bytes = b"",
    number: int = 0,
    fragment: int = 0,
) -> bytes:
    """A packet; `number` is its identification, and `fragment` the flags and the offset."""
    size = 20 + len(options)
    first, length = 0x40 | size >> 2, size + len(payload)
    head = struct.pack("!BBHHHBBH", first, 0, length, number, fragment, 64, protocol, 0)
    head += ip(source) + ip(destination) + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(source: str, destination: str, next_header: int, payload: bytes) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(payload), next_header, 255)
    return head + ip(source) + ip(destination) + payload


def udp(
    source: str, destination: str, port: int, payload: bytes, *, source_port: int = 4242
) -> bytes:
    """A whole IP packet, of the family of the addresses."""
    length = 8 + len(payload)
    bare = struct.pack("!HHHH", source_port, port, length, 0) + payload
    datagram = bare[:6] + struct.pack("!H", _sum_of(source, destination, 17, bare)) + bare[8:]
    make = ipv4 if ip_address(source).version == 4 else ipv6
    return make(source, destination, 17, datagram)


def tcp(
    source: str,
    destination: str,
    port: int,
    flags: int,
    *,
    source_port: int = 4242,
    sequence: int = 1,
    acknowledged: int = 0,
    payload: bytes = b"",
) -> bytes:
    """A whole IP packet of one segment, of the family of the addresses (RFC 9293)."""
    head = (source_port, port, sequence, acknowledged, 5 << 4, flags, 65535, 0, 0)
    bare = struct.pack("!HHIIBBHHH", *head) + payload
    segment = bare[:16] + struct.pack("!H", _sum_of(source, destination, 6, bare)) + bare[18:]
    make = ipv4 if ip_address(source).version == 4 else ipv6
    return make(source, destination, 6, segment)


def tcp_syn(source: str, destination: str, port: int) -> bytes:
    """The packet that asks for a connection."""
    return tcp(source, destination, port, SYN)


def sctp_init(port: int, source_port: int = 4242) -> bytes:
    """A packet of SCTP with one INIT chunk."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 0xCAFE, 65536, 1, 1, 1)
    head = struct.pack("!HHI", source_port, port, 0)
    return head + _crc32c(head + bytes(4) + chunk) + chunk


def advert(source_mac: str, target: str) -> bytes:
    """A neighbour advertisement: `target` is at `source_mac`, whatever was known before."""
    body = struct.pack("!BBHI", NEIGHBOR_ADVERT, 0, 0, 0x20000000) + ip(target)
    return body + b"\x02\x01" + mac(source_mac)


def solicit(target: str, source_mac: str = "") -> bytes:
    """A neighbour solicitation; the question whether `target` is taken tells no MAC."""
    body = struct.pack("!BBHI", NEIGHBOR_SOLICIT, 0, 0, 0) + ip(target)
    return body + (b"\x01\x01" + mac(source_mac) if source_mac else b"")


def router_advert(source_mac: str, prefix: str) -> bytes:
    """A router advertisement of `prefix`/64, from a router for half an hour."""
    body = struct.pack("!BBHBBHII", ROUTER_ADVERT, 0, 0, 64, 0, 1800, 0, 0)
    body += b"\x01\x01" + mac(source_mac)
    return body + struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 1800, 1800, 0) + ip(prefix)


def redirect(target: str, better: str) -> bytes:
    """The word of a router that `better` is the way to `target`."""
    return struct.pack("!BBHI", REDIRECT, 0, 0, 0) + ip(better) + ip(target)


def said(text: str) -> bytes:
    """An option of neighbour discovery that nobody knows and everybody passes over."""
    content = text.encode()
    units = -(-(2 + len(content)) // 8)
    return bytes((253, units)) + content.ljust(8 * units - 2, b"\0")


def mld_report(group: str) -> bytes:
    """The word of a listener that it is in `group` (version 1)."""
    return struct.pack("!BBHHH", MLD_REPORT, 0, 0, 0, 0) + ip(group)


def mld2_report(group: str) -> bytes:
    """The same, of version 2: from now on all sources are wanted."""
    return struct.pack("!BBHHHBBH", MLD2_REPORT, 0, 0, 0, 1, 4, 0, 0) + ip(group)


def message6(source: str, destination: str, body: bytes) -> bytes:
    """The ICMPv6 message `body`, its checksum filled in."""
    return body[:2] + struct.pack("!H", _sum_of(source, destination, ICMP6, body)) + body[4:]


def icmp6(
    source: str, destination: str, body: bytes, headers: Sequence[chains.Header] = ()
) -> bytes:
    """A packet of the ICMPv6 message `body`, its checksum filled in, behind `headers`."""
    first, content = chains.behind(headers, ICMP6, message6(source, destination, body))
    return ipv6(source, destination, first, content)


def link_local(mac_: str) -> str:
    """The link-local address that the kernel makes of a MAC."""
    raw = bytearray(mac(mac_))
    raw[0] ^= 2
    return str(ip_address(ip("fe80::")[:8] + raw[:3] + b"\xff\xfe" + raw[3:]))


class Wire:
    """One interface of a place, on which any frame is sent and every frame that comes is heard.

    With the `protocol` :data:`ALL` a frame is heard before any filter of the interface, and before
    its bridge. With any other, it is heard where that protocol is handed it, if it gets there.
    """

    def __init__(self, host: Host, place: Place, name: str = "eth0", protocol: int = ALL) -> None:
        self._socket = traffic.make_socket(place.netns, socket.AF_PACKET, socket.SOCK_RAW)
        host.on_close(self._socket.close)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 23)
        self._socket.bind((name, protocol))

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self._socket.send(frame)

    def send_scattered(self, *frames: bytes) -> None:
        """Sends frames of more than a page so that all but their Ethernet headers is elsewhere.

        That is how a card and TCP have theirs (`packet_alloc_skb` in `net/packet/af_packet.c`).
        """
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        head = struct.pack("=BBHHHH", 0, 0, 14, 0, 0, 0)
        for frame in frames:
            self._socket.send(head + frame)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 0)

    def until(self, last: Callable[[bytes], bool]) -> list[bytes]:
        """What comes, up to the first frame for which `last` holds, that one included."""
        heard: list[bytes] = []
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if select.select([self._socket], [], [], deadline - time.monotonic())[0]:
                frame, address = self._socket.recvfrom(65536)
                if address[2] == socket.PACKET_OUTGOING:
                    continue
                heard.append(frame)
                if last(frame):
                    return heard
        raise AssertionError(f"not heard: {[frame.hex() for frame in heard]}")

    def with_tags_until(self, end: bytes) -> list[tuple[bytes, tuple[int, int]]]:
        """What comes, up to the first frame with `end`; each with the tag that is kept beside it.

        A tag is an ethertype and a VLAN's number with its priority; `(0, 0)` if there is none.
        """
        self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self._socket.settimeout(PATIENCE)
        heard: list[tuple[bytes, tuple[int, int]]] = []
        while not heard or end not in heard[-1][0]:
            frame, ((_, _, data),), *_ = self._socket.recvmsg(65536, 64)
            status, number, kind = _AUXDATA.unpack(data)
            heard.append((frame, (kind, number) if status & _VLAN_VALID else (0, 0)))
        return heard

    def so_far(self) -> list[bytes]:
        """What has come and was not asked for yet."""
        heard: list[bytes] = []
        while select.select([self._socket], [], [], 0)[0]:
            frame, address = self._socket.recvfrom(65536)
            if address[2] != socket.PACKET_OUTGOING:
                heard.append(frame)
        return heard


def mark() -> bytes:
    """A few bytes that are never the same."""
    return b"mark %d of %d." % (next(_numbers), os.getpid())


def _sum_of(source: str, destination: str, protocol: int, content: bytes) -> int:
    """The checksum of an upper layer, with the pseudo header that both families have."""
    pseudo = ip(source) + ip(destination) + struct.pack("!II", len(content), protocol)
    return checksum(pseudo + content)


def checksum(data: bytes) -> int:
    """The checksum of IP and what it carries (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _crc32c(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return (crc ^ 0xFFFFFFFF).to_bytes(4, "little")


def sctp_is_whole(packet: bytes) -> bool:
    """Whether the checksum of an SCTP packet is right."""
    return _crc32c(packet[:8] + bytes(4) + packet[12:]) == packet[8:12]
