"""The guard's program gives the verdicts of an independent reference, whatever it is shown."""

from __future__ import annotations

import struct
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from handlers.guard.program import Facts, program
from tests.support import chains, packets
from tests.support.frames import Identity, forged, honest
from tests.support.packets import ARP, BROADCAST, ICMP6, IPV4, IPV6, ether
from tests.support.programs import Kernel
from tests.support.verdicts import passes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from watcher.model.address import Address, Subnet

ME = Identity("02:42:ac:13:00:02", "172.19.0.2", "fd00:19::2")
WEB = Identity("02:42:ac:13:00:03", "172.19.0.3", "fd00:19::3")
HOST = Identity("02:42:ac:13:00:01", "172.19.0.1", "fd00:19::1")

SUBNETS = (ip_network("172.19.0.0/16"), ip_network("fd00:19::/64"))
OWN = (ip_address(ME.ip4), ip_address(ME.ip6))
FACTS: Final = {
    "both": Facts(ME.mac, OWN, subnets=SUBNETS),
    "IPv4": Facts(ME.mac, OWN[:1], subnets=SUBNETS[:1]),
    "IPv6": Facts(ME.mac, OWN[1:], subnets=SUBNETS[1:]),
}

FORCED: Final = {
    name: Facts(ME.mac, facts.addresses, subnets=SUBNETS, router=HOST.mac)
    for name, facts in FACTS.items()
}
"""Links whose frames all go to the host."""

AT_ONCE = Identity(ME.mac, ME.ip4, "fd00:19:aaaa:bbbb:1:2:3:4")
ALSO = Identity(ME.mac, "172.19.9.7", "fd00:19:aaaa:bbbb:8000:7006:5004:3002")
BEHIND = Identity(ME.mac, "10.13.0.1", "2001:db8:7f:1:2:3:4:5")
BESIDE = Identity(ME.mac, "172.20.9.7", "fd00:19:aaaa:bbba:1:2:3:4")
ROUTER: Final = Facts(
    ME.mac,
    tuple(ip_address(text) for own in (AT_ONCE, ALSO) for text in (own.ip4, own.ip6)),
    tuple(
        ip_network(text)
        for text in ("10.8.0.0/13", "172.16.0.0/12", "2001:db8:40::/42", "fd00:19:aaaa::/48")
    ),
    (ip_network("172.19.0.0/16"), ip_network("fd00:19:aaaa:bbbb::/64")),
)
"""With as little that is alike in its addresses as can be."""

FORGED: Final = forged(ME, WEB, HOST)
HONEST: Final = honest(ME, WEB)

PHASES: Final = (Phase.explicit, Phase.reuse, Phase.generate)
"""A frame is short enough to be read as it is; to make it shorter takes longer than a test may."""

type Draw = st.DrawFn


@pytest.mark.parametrize("families", FACTS)
def test_each_known_frame_has_the_verdict_that_it_should_have(families: str) -> None:
    facts = FACTS[families]
    versions = {f"{address.version}" for address in facts.addresses}
    with Kernel(program(facts)) as kernel:
        assert [name for name, frame in FORGED.items() if kernel.passes(frame)] == []
        assert {name for name, frame in HONEST.items() if kernel.passes(frame)} == {
            name
            for name, frame in HONEST.items()
            if families == "both" or version(frame) in versions
        } | {name for name in HONEST if name == "an ARP probe"}


def version(frame: bytes) -> str:
    return "6" if frame[12:14] == packets.IPV6.to_bytes(2, "big") else "4"


def test_the_reference_has_these_verdicts_as_well() -> None:
    assert [name for name, frame in FORGED.items() if passes(FACTS["both"], frame)] == []
    assert [name for name, frame in HONEST.items() if not passes(FACTS["both"], frame)] == []


def to(mac: str, frame: bytes) -> bytes:
    """`frame`, sent to another MAC."""
    return packets.mac(mac) + frame[6:]


def to_groups() -> dict[str, bytes]:
    """Packets to groups and to all, which the host would take in without a route."""
    found = {}
    for target in ("224.0.0.251", "239.1.2.3", "255.255.255.255", "240.0.0.1"):
        found[target] = (IPV4, packets.udp(ME.ip4, target, 9, b"hidden"))
    for target in ("ff02::fb", "ff02::1", "ff05::2", "ff0e::101"):
        found[target] = (IPV6, packets.udp(ME.ip6, target, 9, b"hidden"))
        echo = packets.icmp6(ME.ip6, target, struct.pack("!BBHI", 128, 0, 0, 1))
        found[f"an echo to {target}"] = (IPV6, echo)
        behind = packets.icmp6(ME.ip6, target, packets.solicit(WEB.ip6), (chains.options(),))
        found[f"behind options to {target}"] = (IPV6, behind)
        pieces = packets.icmp6(ME.ip6, target, packets.solicit(WEB.ip6), (chains.fragment(),))
        found[f"in pieces to {target}"] = (IPV6, pieces)
    return {
        f"{name} by {how}": ether(ME.mac, mac, kind, packet)
        for name, (kind, packet) in found.items()
        for how, mac in (("the host", HOST.mac), ("all", BROADCAST), ("web", WEB.mac),
                         ("a group", "33:33:00:00:00:01"), ("one of IPv4", "01:00:5e:00:00:fb"))
    }  # fmt: skip


def finding() -> dict[str, bytes]:
    """What a forced sandbox may say to groups of the link."""
    local = packets.link_local(ME.mac)
    reports = (chains.options(kind=chains.HOP_BY_HOP),)
    bodies = {
        "a solicitation": (ME.ip6, packets.solicit(WEB.ip6), ()),
        "a probe": ("::", packets.solicit(ME.ip6), ()),
        "an advertisement": (ME.ip6, packets.advert(ME.mac, ME.ip6), ()),
        "a router solicitation": (local, struct.pack("!BBHI", 133, 0, 0, 0), ()),
        "a report": (local, struct.pack("!BBHHH", 143, 0, 0, 0, 0), reports),
        "a report of nobody": ("::", struct.pack("!BBHHH", 143, 0, 0, 0, 0), reports),
    }
    return {
        name: ether(
            ME.mac, "33:33:00:00:00:01", IPV6, packets.icmp6(source, "ff02::1", body, chain)
        )
        for name, (source, body, chain) in bodies.items()
    }


@pytest.mark.parametrize("families", FORCED)
def test_frames_of_a_forced_sandbox_go_to_the_host_alone(families: str) -> None:
    facts = FORCED[families]
    groups = to_groups()
    with Kernel(program(facts)) as kernel:
        assert [name for name, frame in groups.items() if kernel.passes(frame)] == []
        found = [name for name, frame in finding().items() if kernel.passes(frame)]
        assert found == ([] if families == "IPv4" else list(finding()))
        for name, frame in (HONEST | FORGED).items():
            assert not kernel.passes(to(WEB.mac, frame)), name
            arp = frame[12:14] == packets.ARP.to_bytes(2, "big")
            group = name in HONEST and frame[12:14] == IPV6.to_bytes(2, "big") and frame[38] == 0xFF
            if not arp and not group:
                assert not kernel.passes(to("ff:ff:ff:ff:ff:ff", frame)), name
                assert kernel.passes(to(HOST.mac, frame)) == passes(FACTS[families], frame), name
            for length in range(len(frame) + 1):
                cut = to(HOST.mac, frame)[:length]
                assert kernel.passes(cut) == passes(facts, cut), (name, length)
        for name, frame in finding().items():
            for length in range(len(frame) + 1):
                cut = frame[:length]
                assert kernel.passes(cut) == passes(facts, cut), (name, length)
            for changed in with_a_bit_changed(frame, range(min(len(frame), 70))):
                assert kernel.passes(changed) == passes(facts, changed), (name, changed.hex())


@pytest.mark.parametrize("families", FACTS)
def test_a_frame_that_is_cut_anywhere_has_the_verdict_of_the_reference(families: str) -> None:
    facts = FACTS[families]
    with Kernel(program(facts)) as kernel:
        for name, frame in (HONEST | FORGED).items():
            for length in range(len(frame) + 1):
                cut = frame[:length]
                assert kernel.passes(cut) == passes(facts, cut), (name, length)


@pytest.mark.parametrize("sender", [AT_ONCE, ALSO, BEHIND, BESIDE])
def test_a_frame_with_any_bit_changed_has_it(sender: Identity) -> None:
    with Kernel(program(ROUTER)) as kernel:
        for name, frame in honest(sender, WEB).items():
            if " behind " in name:
                continue  # the next test has them
            for changed in with_a_bit_changed(frame, range(len(frame))):
                assert kernel.passes(changed) == passes(ROUTER, changed), (name, changed.hex())


@pytest.mark.parametrize("depth", range(6))
def test_chains_of_headers_that_are_cut_or_changed_have_it(depth: int) -> None:
    with Kernel(program(ROUTER)) as kernel:
        for last in LINKS if depth else LINKS[:1]:
            headers = (chains.options(),) * (depth - 1) + (last,) * (depth > 0)
            for source, body in (
                (AT_ONCE.ip6, packets.advert(ME.mac, ALSO.ip6)),
                (AT_ONCE.ip6, packets.solicit(WEB.ip6)),
                ("::", packets.solicit(AT_ONCE.ip6)),
            ):
                packet = packets.icmp6(source, packets.ALL_NODES, body, headers)
                frame = ether(ME.mac, BROADCAST, IPV6, packet)
                cuts = [frame[:length] for length in range(54, len(frame))]
                for shown in (*cuts, *with_a_bit_changed(frame, (20, *range(54, len(frame))))):
                    assert kernel.passes(shown) == passes(ROUTER, shown), shown.hex()


LINKS: Final = (
    chains.options(kind=chains.HOP_BY_HOP),
    chains.options(),
    chains.routing(),
    chains.authentication(2),
    chains.fragment(),
    chains.fragment(1),
)


def with_a_bit_changed(frame: bytes, places: Iterable[int]) -> Iterator[bytes]:
    """`frame` with one bit changed, for each bit of the bytes at `places`."""
    for place in places:
        for bit in range(8):
            yield frame[:place] + bytes((frame[place] ^ 1 << bit,)) + frame[place + 1 :]


def test_nobody_is_not_just_anybody() -> None:
    """Whoever routes everything may pass on an echo of all addresses but `::`."""
    facts = Facts(ME.mac, OWN, (ip_network("0.0.0.0/0"), ip_network("::/0")), SUBNETS)
    echo = packets.icmp6("::", packets.ALL_NODES, struct.pack("!BBHI", 128, 0, 0, 1))
    frame = ether(ME.mac, BROADCAST, IPV6, echo)
    with Kernel(program(facts)) as kernel:
        assert not kernel.passes(frame)
        for changed in with_a_bit_changed(frame, range(22, 38)):
            assert kernel.passes(changed) == passes(facts, changed), changed.hex()


def test_very_many_prefixes_are_told_apart() -> None:
    """More of them than a jump of the program can pass over."""
    four = [ip_network((0x0A000000 + (number << 9), 24)) for number in range(300)]
    six = [ip_network(((0x20010DB8 << 96) + (number << 65), 64)) for number in range(100)]
    facts = Facts(ME.mac, OWN, (*four, *six), SUBNETS)
    with Kernel(program(facts)) as kernel:
        for net in (*four, *six):
            kind, to = (IPV4, WEB.ip4) if net.version == 4 else (IPV6, WEB.ip6)
            for source in (net.network_address, net.broadcast_address, net.broadcast_address + 1):
                frame = ether(ME.mac, BROADCAST, kind, packets.udp(str(source), to, 9, b""))
                assert kernel.passes(frame) == passes(facts, frame) == (source in net)


@settings(max_examples=100, phases=PHASES)
@given(data=st.data())
def test_any_frame_has_the_verdict_of_the_reference(data: st.DataObject) -> None:
    facts = data.draw(links())
    with Kernel(program(facts)) as kernel:
        for frame in data.draw(st.lists(frames(facts), min_size=4, max_size=16)):
            assert kernel.passes(frame) == passes(facts, frame), frame.hex()


@settings(max_examples=50, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_frame_that_passes_has_it_when_cut(data: st.DataObject) -> None:
    facts = data.draw(links())
    frame = data.draw(frames(facts).filter(partial(passes, facts)))
    with Kernel(program(facts)) as kernel:
        for length in range(min(len(frame), 400) + 1):
            assert kernel.passes(frame[:length]) == passes(facts, frame[:length]), (frame, length)


@given(frame=st.binary(max_size=200))
def test_any_bytes_have_it(frame: bytes) -> None:
    for facts in FACTS.values():
        with Kernel(program(facts)) as kernel:
            assert kernel.passes(frame) == passes(facts, frame)


# --- links -----------------------------------------------------------------------------------


WIDE: Final = tuple(
    ip_network(text) for text in ("0.0.0.0/0", "127.0.0.0/8", "::/0", "fe80::/10", "ff00::/8")
)
"""Prefixes with addresses that are nobody's or everybody's."""


@st.composite
def links(draw: Draw) -> Facts:
    """Facts of a link with 1 to 12 addresses, and up to 12 prefixes that may come from it."""
    mac = draw(st.binary(min_size=6, max_size=6))
    own = [address for version in (4, 6) for address in draw(some(addresses(version), 6))]
    own = own or [draw(addresses(6))]
    routed = draw(some(st.one_of(subnets(), st.sampled_from(WIDE)), 12))
    around = tuple(
        draw(subnets(draw(st.sampled_from(own)))) for _ in range(draw(st.integers(0, 2)))
    )
    router = draw(st.sampled_from(("", HOST.mac)))
    return Facts(mac.hex(":"), tuple(own), tuple(routed), around, router)


def some[T](of: st.SearchStrategy[T], most: int) -> st.SearchStrategy[list[T]]:
    """None, one, or up to so many."""
    return st.sampled_from((0, 1, 2, most)).flatmap(
        lambda size: st.lists(of, min_size=min(1, size), max_size=size, unique=True)
    )


def addresses(version: int) -> st.SearchStrategy[Address]:
    """Addresses that are much alike, and others."""
    if version == 4:
        near = st.integers(0, 3).map(lambda n: IPv4Address("172.19.0.0") + n)
        return st.one_of(near, st.integers(0, 2**32 - 1).map(IPv4Address))
    near6 = st.tuples(*(st.integers(0, 1),) * 4).map(
        lambda words: IPv6Address(struct.pack("!4I", *(0xFD000019 + word for word in words)))
    )
    return st.one_of(near6, st.integers(1, 2**128 - 1).map(IPv6Address))


@st.composite
def subnets(draw: Draw, around: Address | None = None) -> Subnet:
    """Any subnet, or one `around` an address."""
    address = around or draw(st.one_of(addresses(4), addresses(6)))
    length = draw(
        st.one_of(st.integers(0, address.max_prefixlen), st.sampled_from((0, 8, 16, 24, 32)))
    )
    return ip_network((address, length), strict=False)


# --- frames ----------------------------------------------------------------------------------


@st.composite
def frames(draw: Draw, facts: Facts) -> bytes:
    """A frame that `facts` may allow; most of the others differ little from one that they do."""
    macs = st.sampled_from((facts.mac,) * 12 + (flipped(draw, packets.mac(facts.mac)).hex(":"),))
    kind = draw(st.sampled_from((IPV4, ARP) + (IPV6,) * 6 + (packets.VLAN, packets.LLDP, 46)))
    make: Callable[[Draw, Facts], bytes] = {IPV4: ipv4, ARP: arp}.get(kind, ipv6)
    targets = st.sampled_from((BROADCAST, HOST.mac, "33:33:00:00:00:01"))
    frame = ether(draw(macs), draw(targets), kind, make(draw, facts))
    change = draw(st.sampled_from(("none",) * 6 + ("cut", "longer", "bit", "byte")))
    at = draw(st.integers(0, len(frame) - 1))
    if change == "cut":
        return frame[:at]
    if change == "longer":
        return frame + draw(st.binary(max_size=40))
    if change == "bit":
        return flipped(draw, frame)
    if change == "byte":
        return frame[:at] + draw(st.binary(min_size=1, max_size=1)) + frame[at + 1 :]
    return frame


def flipped(draw: Draw, raw: bytes) -> bytes:
    """`raw` with one bit changed."""
    bit = 1 << draw(st.integers(0, 8 * len(raw) - 1))
    return (int.from_bytes(raw, "big") ^ bit).to_bytes(len(raw), "big")


def known(draw: Draw, facts: Facts, version: int) -> bytes:
    """An address that `facts` have something to say about, or one that is nearly one."""
    own = [address.packed for address in facts.addresses if address.version == version]
    edges = [
        edge.packed
        for net in (*facts.routed, *facts.subnets)
        if net.version == version
        for edge in (net.network_address, net.broadcast_address)
    ]
    if version == 6:
        own.append(packets.ip(packets.link_local(facts.mac)))
        edges += [bytes(16), packets.ip("fe80::1"), packets.ip("ff02::1")]
    else:
        edges += [bytes(4), packets.ip("127.0.0.1"), b"\xff" * 4]
    as_itself = bool(own) and draw(st.booleans())
    found = draw(st.sampled_from(own if as_itself else edges))
    change = draw(st.integers(0, 9))
    if change == 1:
        found = flipped(draw, found)
    elif change == 2:
        found = (int.from_bytes(found, "big") + 1).to_bytes(17, "big")[-len(found) :]
    return found


def ipv4(draw: Draw, facts: Facts) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 17, 0)
    return head + known(draw, facts, 4) + packets.ip(WEB.ip4) + bytes(20)


def arp(draw: Draw, facts: Facts) -> bytes:
    sender = draw(st.sampled_from((facts.mac,) * 4 + (WEB.mac,)))
    body = packets.arp(draw(st.integers(1, 2)), sender, WEB.ip4, WEB.ip4)
    return body[:14] + known(draw, facts, 4) + body[18:]


def ipv6(draw: Draw, facts: Facts) -> bytes:
    source = draw(st.sampled_from((bytes(16), known(draw, facts, 6), known(draw, facts, 6))))
    headers = draw(st.lists(extension_headers(), max_size=draw(st.sampled_from((0, 2, 4, 6)))))
    if draw(st.integers(0, 2)):
        protocol, content = ICMP6, icmp6(draw, facts)
    else:
        protocol, content = draw(st.integers(0, 255)), draw(st.binary(max_size=40))
    first, payload = chains.behind(headers, protocol, content)
    return packets.ipv6("::", packets.ALL_NODES, first, payload).replace(bytes(16), source, 1)


def icmp6(draw: Draw, facts: Facts) -> bytes:
    kind = draw(
        st.sampled_from((135, 136) * 3 + (131, 143, 134, 137, 128, 130, 132, 133, 138, 144))
    )
    body = struct.pack("!BBHI", kind, draw(st.integers(0, 1)), 0, 0) + known(draw, facts, 6)
    return body[: draw(st.sampled_from((24, 24, 24, 23, 8, 1, 0)))] + bytes(
        draw(st.sampled_from((0, 8)))
    )


@st.composite
def extension_headers(draw: Draw) -> chains.Header:
    """An extension header of any length; a fragment is mostly a first one."""
    kinds = (chains.HOP_BY_HOP, chains.OPTIONS, chains.ROUTING, chains.AUTHENTICATION)
    kind = draw(st.sampled_from((*kinds, chains.FRAGMENT)))
    units = draw(st.sampled_from((0, 0, 1, 1, 2, 3, 5, 31, 255)))
    if kind == chains.FRAGMENT:
        offset = draw(st.sampled_from((0,) * 5 + (1, 31, 32, 8191)))
        made = chains.fragment(offset, more=draw(st.booleans()))
        reserved, flags = draw(st.sampled_from(((0, 0),) * 6 + ((1, 0), (255, 0), (0, 2), (0, 6))))
        content = bytes((reserved, made.content[1], made.content[2] | flags)) + made.content[3:]
        return chains.Header(made.kind, content)
    if kind == chains.AUTHENTICATION:
        return chains.authentication(units)
    return chains.routing(units) if kind == chains.ROUTING else chains.options(units, kind)
