"""Frames with a name in them: what a sandbox may not send, and what it may.

Each is for all to hear and has its name with a full stop somewhere in it, by which it is known
wherever it arrives.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.support import chains, packets
from tests.support.packets import ARP, BROADCAST, IPV4, IPV6, SERVICE_VLAN, VLAN, arp, ether

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.host import Container

OUTSIDE, OUTSIDE6 = "203.0.113.7", "2001:db8:7::7"
STRANGER: Final = "02:00:00:00:00:77"

HEADERS: Final[dict[str, tuple[chains.Header, ...]]] = {
    "options for each hop": (chains.options(kind=chains.HOP_BY_HOP),),
    "long options": (chains.options(3),),
    "a routing header": (chains.routing(),),
    "a fragment header": (chains.fragment(),),
    "AH": (chains.authentication(),),
    "a short AH": (chains.authentication(1),),
    "three headers": (
        chains.options(1, chains.HOP_BY_HOP),
        chains.routing(2),
        chains.options(),
    ),
}
"""Extension headers; none of them is more than the guard walks."""

TAGS: Final[dict[str, tuple[tuple[int, int], ...]]] = {
    "with a priority": ((VLAN, 0xE000),),
    "in a VLAN": ((VLAN, 7),),
    "in a provider's VLAN": ((SERVICE_VLAN, 7),),
    "with two priorities": ((VLAN, 0), (VLAN, 0)),
    "in two VLANs": ((SERVICE_VLAN, 7), (VLAN, 8)),
}

ETHERTYPES: Final = {
    "LLDP": packets.LLDP,
    "LACP": 0x8809,
    "EAPOL": 0x888E,
    "RARP": 0x8035,
    "PTP": 0x88F7,
    "PPPoE": 0x8863,
    "MPLS": 0x8847,
    "a loop test": 0x9000,
    "the first ethertype": 0x0600,
    "a spanning tree": 38,
    "the longest frame with a length": 1500,
    "an empty frame with a length": 0,
}
"""IANA's registry of ethertypes; below 0x600 it is a length (IEEE 802.3)."""


class Identity(NamedTuple):
    """What an interface may call itself."""

    mac: str
    ip4: str
    ip6: str

    @property
    def local(self) -> str:
        return packets.link_local(self.mac)


def identity(container: Container) -> Identity:
    """What the guard lets the `eth0` of a container with both families call itself."""
    link = container.place.link("eth0")
    assert link is not None
    ip6 = next(a.split("/")[0] for a in container.place.addresses() if ":" in a)
    return Identity(link["address"], container.address, ip6)


class _Named:
    """Frames that are made by one sender, by their names."""

    def __init__(self, me: Identity, to: Identity) -> None:
        self.frames: dict[str, bytes] = {}
        self._me, self._to = me, to

    def add(self, name: str, kind: int, payload: bytes, *, source: str = "") -> None:
        self.frames[name] = ether(source or self._me.mac, BROADCAST, kind, payload)

    def arps(self, name: str, operation: int, mac: str, ip: str, *, source: str = "") -> None:
        payload = arp(operation, mac, ip, self._to.ip4) + f"{name}.".encode()
        self.add(name, ARP, payload, source=source)

    def says(self, name: str, sender: str, *, source: str = "") -> None:
        four = ":" not in sender
        target = self._to.ip4 if four else self._to.ip6
        packet = packets.udp(sender, target, 9, f"{name}.".encode())
        self.add(name, IPV4 if four else IPV6, packet, source=source)

    def icmp(
        self, name: str, sender: str, body: bytes, headers: Sequence[chains.Header] = ()
    ) -> None:
        packet = packets.icmp6(sender, packets.ALL_NODES, body + packets.said(f"{name}."), headers)
        self.add(name, IPV6, packet)

    def holds(
        self,
        name: str,
        protocol: int,
        content: bytes,
        headers: Sequence[chains.Header] = (),
        *,
        sender: str = "",
    ) -> None:
        """An IPv6 packet with its name in an extension header, and `content` behind all."""
        first, payload = chains.behind((chains.saying(f"{name}."), *headers), protocol, content)
        packet = packets.ipv6(sender or self._me.ip6, packets.ALL_NODES, first, payload)
        self.add(name, IPV6, packet)

    def tagged(self, name: str, kind: int, make: Callable[[bytes], bytes]) -> None:
        """The frame with what `make` makes of its name, with any tags."""
        for how, tags in TAGS.items():
            payload = make(f"{name}, {how}.".encode())
            self.frames[f"{name}, {how}"] = ether(self._me.mac, BROADCAST, kind, payload, tags)


def forged(me: Identity, web: Identity, gateway: Identity) -> dict[str, bytes]:
    """What `me` may not send."""
    made = _Named(me, web)
    _forged_names(made, me, web, gateway)
    _forged_neighbours(made, me, web, gateway)
    _forged_by_nobody(made, me, web)
    for name, kind in ETHERTYPES.items():
        made.add(name, kind, f"{name}.".encode())
    made.tagged("an ARP answer", ARP, arp(2, me.mac, me.ip4, web.ip4).__add__)
    for name, of in (("of its own", me), ("as web", web)):
        made.tagged(f"IPv4 {name}", IPV4, partial(packets.udp, of.ip4, web.ip4, 9))
        made.tagged(f"IPv6 {name}", IPV6, partial(packets.udp, of.ip6, web.ip6, 9))
    return made.frames


def _forged_names(made: _Named, me: Identity, web: Identity, gateway: Identity) -> None:
    """Another one's MAC or address."""
    made.arps("an ARP question as web", 1, me.mac, web.ip4)
    made.arps("an ARP answer for web", 2, me.mac, web.ip4)
    made.arps("an ARP answer for the gateway", 2, me.mac, gateway.ip4)
    made.arps("an ARP answer for an address of nobody", 2, me.mac, "172.19.9.9")
    made.arps("an ARP answer with the MAC of web in it", 2, web.mac, me.ip4)
    made.arps("an ARP probe with the MAC of web in it", 1, web.mac, "0.0.0.0")
    made.arps("an ARP answer all as web", 2, web.mac, web.ip4, source=web.mac)
    made.arps("an ARP answer by the MAC of web", 2, me.mac, me.ip4, source=web.mac)
    head = arp(2, me.mac, me.ip4, web.ip4)
    for name, at, other in (
        ("an ARP answer of other hardware", 0, b"\0\6"),
        ("an ARP answer of another protocol", 2, b"\x86\xdd"),
        ("an ARP answer with longer MACs", 4, b"\x08"),
        ("an ARP answer with longer addresses", 5, b"\x10"),
    ):
        payload = head[:at] + other + head[at + len(other) :]
        made.add(name, ARP, payload + f"{name}.".encode())
    for name, sender in (
        ("web", web.ip4),
        ("the gateway", gateway.ip4),
        ("an address outside", OUTSIDE),
        ("localhost", "127.0.0.1"),
        ("nobody", "0.0.0.0"),
        ("everybody", "255.255.255.255"),
        ("a group", "224.0.0.1"),
    ):
        made.says(f"IPv4 as {name}", sender)
    for name, sender in (
        ("web", web.ip6),
        ("the link-local address of web", web.local),
        ("the gateway", gateway.ip6),
        ("the link-local address of the gateway", gateway.local),
        ("an address outside", OUTSIDE6),
        ("localhost", "::1"),
        ("a group", packets.ALL_NODES),
        ("its IPv4 address", f"::ffff:{me.ip4}"),
    ):
        made.says(f"IPv6 as {name}", sender)
    for version, own, others in ((4, me.ip4, web.ip4), (6, me.ip6, web.ip6)):
        made.says(f"IPv{version} by the MAC of web", own, source=web.mac)
        made.says(f"IPv{version} by an unknown MAC", own, source=STRANGER)
        made.says(f"IPv{version} all as web", others, source=web.mac)


def _forged_neighbours(made: _Named, me: Identity, web: Identity, gateway: Identity) -> None:
    """What only a router may say, and what only another neighbour may."""
    made.icmp("an advertisement of web as web", web.ip6, packets.advert(me.mac, web.ip6))
    made.icmp("an advertisement of web's local", me.local, packets.advert(me.mac, web.local))
    made.icmp("an advertisement of the gateway", me.ip6, packets.advert(me.mac, gateway.ip6))
    made.icmp("an advertisement of nobody", me.ip6, packets.advert(me.mac, "::"))
    made.icmp("a solicitation as web", web.ip6, packets.solicit(gateway.ip6, me.mac))
    made.icmp("a redirect of the gateway", gateway.local, packets.redirect(OUTSIDE6, me.ip6))
    made.icmp("a report as web", web.local, packets.mld_report("ff02::1234"))
    messages = {
        "a router": (me.local, packets.router_advert(me.mac, "2001:db8:66::")),
        "a router by its leased address": (me.ip6, packets.router_advert(me.mac, "2001:db8:66::")),
        "a redirect": (me.local, packets.redirect(OUTSIDE6, me.ip6)),
        "an advertisement of web": (me.ip6, packets.advert(me.mac, web.ip6)),
    }
    for name, (sender, body) in messages.items():
        made.icmp(name, sender, body)
        for before, headers in HEADERS.items():
            made.icmp(f"{name} behind {before}", sender, body, headers)
    whole = packets.message6(me.ip6, packets.ALL_NODES, packets.advert(me.mac, me.ip6))
    first = (chains.fragment(more=True),)
    long = bytes((packets.ICMP6, 20)) + bytes(6)
    made.holds("a message that is all in the next fragment", packets.ICMP6, b"", first)
    made.holds("a header that goes on in the next fragment", chains.OPTIONS, long, first)
    made.holds("a header that begins in the next fragment", chains.OPTIONS, b"", first)
    made.holds("a message without its type", packets.ICMP6, b"")
    made.holds("an advertisement without all of its target", packets.ICMP6, whole[:23])
    made.holds("more headers than are walked", 17, bytes(40), (chains.options(),) * 4)


def _forged_by_nobody(made: _Named, me: Identity, web: Identity) -> None:
    """What a sender without an address may not say."""
    made.says("IPv6 as nobody", "::")
    for target, whose in ((web.ip6, "web"), (web.local, "web's local")):
        made.icmp(f"the intent to take the address of {whose}", "::", packets.solicit(target))
        for before, headers in HEADERS.items():
            name = f"the same for {whose} behind {before}"
            made.icmp(name, "::", packets.solicit(target), headers)
    for name, body in (
        ("an advertisement by nobody", packets.advert(me.mac, me.ip6)),
        ("a router by nobody", packets.router_advert(me.mac, "2001:db8:66::")),
        ("an echo of nobody", struct.pack("!BBHI", 128, 0, 0, 1)),
        ("a router's solicitation by nobody", struct.pack("!BBHI", 133, 0, 0, 0)),
        ("a listeners' query by nobody", struct.pack("!BBHI", 130, 0, 0, 0) + bytes(16)),
    ):
        made.icmp(name, "::", body)
    later = (chains.fragment(1),)
    made.holds("a later fragment by nobody", packets.ICMP6, bytes(40), later, sender="::")
    made.holds(
        "an intent without all of its target", packets.ICMP6, b"\x87" + bytes(22), sender="::"
    )


def honest(me: Identity, web: Identity) -> dict[str, bytes]:
    """What `me` may send."""
    made = _Named(me, web)
    made.arps("an ARP question", 1, me.mac, me.ip4)
    made.arps("an ARP answer", 2, me.mac, me.ip4)
    made.arps("an ARP probe", 1, me.mac, "0.0.0.0")
    made.says("IPv4", me.ip4)
    for whose, sender in (("its leased address", me.ip6), ("its link-local address", me.local)):
        made.says(f"IPv6 of {whose}", sender)
        made.icmp(f"an advertisement of {whose}", me.ip6, packets.advert(me.mac, sender))
        made.icmp(f"a solicitation of {whose}", sender, packets.solicit(web.ip6, me.mac))
        made.icmp(f"a probe for {whose}", "::", packets.solicit(sender))
        made.icmp(f"a report of {whose}", sender, packets.mld2_report("ff02::1234"))
        made.icmp(f"an echo of {whose}", sender, struct.pack("!BBHI", 128, 0, 0, 1))
        made.icmp(f"a router's solicitation of {whose}", sender, struct.pack("!BBHI", 133, 0, 0, 0))
    by_hop = HEADERS["options for each hop"]
    made.icmp("a report by nobody", "::", packets.mld_report("ff02::1234"), by_hop)
    made.icmp("a report of version 2 by nobody", "::", packets.mld2_report("ff02::1234"), by_hop)
    for before, headers in HEADERS.items():
        made.icmp(
            f"a report by nobody behind {before}", "::", packets.mld_report("ff02::9"), headers
        )
        own = packets.advert(me.mac, me.ip6)
        made.icmp(f"an advertisement behind {before}", me.ip6, own, headers)
        made.icmp(f"a probe behind {before}", "::", packets.solicit(me.ip6), headers)
        made.holds(f"UDP behind {before}", 17, bytes(40), headers)
    made.holds("as many headers as are walked", 17, bytes(40), (chains.options(),) * 3)
    made.holds("a later fragment", packets.ICMP6, b"\x86" + bytes(40), (chains.fragment(1),))
    for name, protocol in (("ESP", 50), ("nothing", 59), ("TCP", 6), ("SCTP", 132), ("HIP", 139)):
        made.holds(f"{name} without a byte of it", protocol, b"")
    return made.frames
