"""Lists as users write them: what is read, what is refused, and which packets they let pass."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watcher.model.errors import BadValue
from watcher.model.policy.access import MAX_BOXES, AccessList, check_size
from watcher.model.policy.boxes import Box
from watcher.model.policy.entries import (
    EVERY_PORT,
    MAX_ENTRIES,
    Direction,
    Entry,
    checked,
    entry,
    parse_list,
)

_PROTOCOLS = {"tcp": (6,), "udp": (17,), "sctp": (132,), "icmp": (1, 58)}
_PLACES4 = ("0.0.0.0", "10.0.0.1", "10.1.0.0", "10.1.2.3", "192.0.2.1", "255.255.255.255")
_PLACES6 = ("::", "fd00::1", "fd00:1::", "2001:db8::5", "ffff:ffff::ffff")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("any", "any"),
        ("ANY:443/TCP", "any:443/tcp"),
        ("any:80-80", "any:80"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.1:22", "10.0.0.1/32:22"),
        ("!10.0.0.0/8/icmp", "!10.0.0.0/8/icmp"),
        ("2001:DB8::/32", "[2001:db8::]/32"),
        ("2001:db8::5/tcp", "[2001:db8::5]/128/tcp"),
        ("![2001:db8::]/32:53/udp", "![2001:db8::]/32:53/udp"),
        ("Api.GitHub.com.:443/tcp", "api.github.com:443/tcp"),
        ("*.pypi.org", "*.pypi.org"),
        ("_dns.resolver.arpa:8000-8063", "_dns.resolver.arpa:8000-8063"),
    ],
)
def test_an_entry_has_one_form(written: str, read: str) -> None:
    assert parse_list(written, "egress") == (read,)
    assert str(entry(read)) == read


@pytest.mark.parametrize(
    ("direction", "written", "reason"),
    [
        ("egress", "", "an empty entry"),
        ("egress", "any,,10.0.0.0/8", "an empty entry"),
        ("egress", "any,none", '"none" together with others'),
        ("ingress", "!none", '"none" together with others'),
        ("egress", "10.0.0.1/8", "bits behind its prefix; write 10.0.0.0/8"),
        ("egress", "10.0.0.0/33", "has no prefix"),
        ("egress", "10.0.0", "has no prefix"),
        ("egress", "010.0.0.1", "has no prefix"),
        ("egress", "1.2.3.4.5", "has no prefix"),
        ("egress", "any/8", "neither a prefix nor a name"),
        ("egress", "[10.0.0.0]/8", "no IPv6 address in its brackets"),
        ("egress", "fe80::1%eth0", "has a zone"),
        ("egress", "::ffff:10.0.0.1", "IPv4 written as IPv6"),
        ("egress", "::ffff:0:0/97:80", "IPv4 written as IPv6"),
        ("egress", "any : 443", "is no entry"),
        ("egress", "any:0", "not from 1 to 65535"),
        ("egress", "any:1-65536", "not from 1 to 65535"),
        ("egress", "any:90-80", "write 80-90"),
        ("egress", "any:http", "is no entry"),
        ("egress", "any:443/quic", "none of tcp, udp, sctp, icmp"),
        ("egress", "any:8/icmp", "ICMP has none"),
        ("egress", "!!any", "is no entry"),
        ("egress", "host", "is a source"),
        ("egress", "localhost", "a name without a domain"),
        ("egress", "*.org", "a name without a domain"),
        ("egress", "*", "neither a prefix nor a name"),
        ("egress", "a.*.org", "neither a prefix nor a name"),
        ("egress", "bücher.example", "not in ASCII"),
        ("egress", "api.GITHUB\u212a.com", "not in ASCII"),
        ("egress", "0x7f.1", "neither an address nor a name"),
        ("egress", "example.0x1", "neither an address nor a name"),
        ("egress", f"{'a' * 64}.org", "neither a prefix nor a name"),
        ("egress", f"{'a.' * 127}org", "neither a prefix nor a name"),
        ("egress", "api.example.org/tcp", 'write "api.example.org:443/tcp"'),
        ("egress", "api.example.org/icmp", "a protocol, but no port"),
        ("egress", "api.example.org:1-65", "65 ports of a name"),
        ("egress", "any,!bad.example.org", "takes names out of a list that has none"),
        ("ingress", "api.example.org", "a name, which no source has"),
        ("egress", ",".join(f"10.0.0.{n}" for n in range(MAX_ENTRIES + 1)), "129 entries"),
    ],
)
def test_what_is_no_list_is_refused(direction: Direction, written: str, reason: str) -> None:
    with pytest.raises(BadValue) as error:
        parse_list(written, direction)
    assert reason in str(error.value)
    assert str(error.value).isprintable()
    assert error.value.remedy


def test_none_is_the_empty_list() -> None:
    assert parse_list(" None ", "egress") == ()
    assert parse_list(" 10.0.0.0/8 ,\n10.0.0.0/8", "egress") == ("10.0.0.0/8",), (
        "blanks are nothing"
    )
    assert AccessList("egress", ((),)).boxes(4) == ()


ports = st.one_of(
    st.just(""),
    st.builds(
        lambda a, b: f":{min(a, b)}-{max(a, b)}",
        st.sampled_from((1, 22, 53, 80, 65535)),
        st.sampled_from((1, 22, 80, 443, 65535)),
    ),
)
prefixes = st.one_of(
    st.just("any"),
    st.builds(
        lambda at, length: str(ip_network(f"{at}/{length}", strict=False)),
        st.sampled_from(_PLACES4),
        st.integers(0, 32),
    ),
    st.builds(
        lambda at, length: "[{}]/{}".format(
            *str(ip_network(f"{at}/{length}", strict=False)).split("/")
        ),
        st.sampled_from(_PLACES6),
        st.integers(0, 128),
    ),
)
entries = st.builds(
    lambda out, prefix, port, protocol: (
        f"{out}{prefix}{port}{'' if port and protocol == '/icmp' else protocol}"
    ),
    st.sampled_from(("", "", "!")),
    prefixes,
    ports,
    st.sampled_from(("", "/tcp", "/udp", "/sctp", "/icmp")),
)
lists = st.lists(entries, min_size=1, max_size=12)


def passes(entries: list[Entry], address: IPv4Address | IPv6Address, number: int, at: int) -> bool:
    """Whether a list lets a packet pass, by asking each entry."""

    def has(one: Entry) -> bool:
        there = one.prefix is None or (address in one.prefix)
        if one.protocol:
            kind = number in _PROTOCOLS[one.protocol]
            kind = kind and (one.protocol != "icmp" or number == (1, 58)[address.version == 6])
        else:
            kind = one.ports == EVERY_PORT or number in (6, 17, 132)
        ported = number not in (6, 17, 132) or one.ports[0] <= at <= one.ports[1]
        return there and kind and ported

    return any(has(e) for e in entries if not e.out) and not any(has(e) for e in entries if e.out)


def within(box: Box, address: IPv4Address | IPv6Address, number: int, at: int) -> bool:
    return (
        box.addresses[0] <= int(address) <= box.addresses[1]
        and box.protocols[0] <= number <= box.protocols[1]
        and box.ports[0] <= at <= box.ports[1]
    )


def overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


@settings(max_examples=60, deadline=None)
@given(st.lists(lists, min_size=1, max_size=3))
def test_boxes_let_pass_what_the_entries_do_and_never_overlap(written: list[list[str]]) -> None:
    texts = tuple(checked(one, "egress") for one in written)
    parsed = [[entry(text) for text in one] for one in texts]
    assert all(str(e) == text for one, own in zip(texts, parsed, strict=True)
               for text, e in zip(one, own, strict=True))  # fmt: skip
    held = AccessList("egress", texts)
    for version, places in ((4, _PLACES4), (6, _PLACES6)):
        boxes = held.boxes(version)
        for i, one in enumerate(boxes):
            for other in boxes[i + 1 :]:
                both = (one.addresses, other.addresses), (one.protocols, other.protocols)
                assert not all(overlap(*x) for x in (*both, (one.ports, other.ports)))
        beside = [ip_address(int(ip_address(p)) ^ 1) if version == 4 else ip_address(p)
                  for p in places]  # fmt: skip
        points = product(
            [*map(ip_address, places), *beside], (0, 1, 6, 17, 47, 58, 132, 255), (1, 22, 23, 443)
        )
        for address, number, at in points:
            inside = any(within(box, address, number, at) for box in boxes)
            assert inside == all(passes(one, address, number, at) for one in parsed)


@settings(max_examples=30, deadline=None)
@given(lists, lists)
def test_a_second_list_only_narrows(first: list[str], second: list[str]) -> None:
    one = AccessList("egress", (checked(first, "egress"),))
    both = AccessList("egress", (checked(first, "egress"), checked(second, "egress")))
    for version in (4, 6):
        for box in both.boxes(version):  # a point of each is in the first list's
            at = ip_address(box.addresses[0])
            if version == 6:
                at = IPv6Address(box.addresses[0])
            there = one.boxes(version)
            assert any(within(b, at, box.protocols[0], box.ports[0]) for b in there)


@given(st.text(max_size=80), st.sampled_from(("egress", "ingress")))
def test_no_text_is_read_by_halves(text: str, direction: Direction) -> None:
    try:
        found = parse_list(text, direction)
    except BadValue:
        return
    assert all(str(entry(one)) == one for one in found)
    assert checked(found, direction) == found


def test_a_hostile_list_costs_no_more_than_others() -> None:
    holes = [f"!{n}.0.0.0/8" for n in range(1, 128, 2)]
    combs = [f"any:{2 * n + 1}" for n in range(MAX_ENTRIES - len(holes))]
    written = checked([*combs, *holes], "egress")
    with pytest.raises(BadValue, match=f"more than {MAX_BOXES} parts"):
        check_size(written, "egress")
    assert len(AccessList("egress", (written,)).boxes(4)) == MAX_BOXES, "what is too much is out"
    wide = checked([f"10.{n}.0.0/16:443/tcp" for n in range(MAX_ENTRIES)], "egress")
    check_size(wide, "egress")
    merged = AccessList("egress", (wide,)).boxes(4)
    assert len(merged) == 1, "those next to each other are one"
    assert all(a.addresses[1] < b.addresses[0] for a, b in pairwise(merged))


def test_who_is_held_to_names_asks_for_these_and_asks_nobody_else() -> None:
    asks = checked(["*.pypi.org:443/tcp", "!evil.pypi.org", "!old.pypi.org:22", "any"], "egress")
    held = AccessList("egress", (asks,))
    assert held.named
    assert [held.asks(name) for name in ("pypi.org", "a.pypi.org", "a.b.pypi.org")] == [
        False, True, True,
    ]  # fmt: skip
    assert not held.asks("evil.pypi.org")
    assert held.asks("old.pypi.org"), "only a port of it is taken out"
    assert not held.asks("api.github.com")
    resolver = ip_address("192.0.2.53")
    for at in (53, 853):
        for number in (6, 17):
            assert not any(within(box, resolver, number, at) for box in held.boxes(4))
    narrower = AccessList("egress", (asks, checked(["10.0.0.0/8"], "egress")))
    assert narrower.asks("a.pypi.org"), "a list without names says nothing of names"
    public, inside = IPv4Address("192.0.2.1"), IPv4Address("10.2.3.4")
    assert narrower.opened("a.pypi.org", public, rebinds=False) == ()
    assert narrower.opened("a.pypi.org", inside, rebinds=False) != ()
    assert held.opened("a.pypi.org", inside, rebinds=True) == ()


@pytest.mark.parametrize(
    ("written", "host", "network"),
    [
        ("192.0.2.0/24", True, True),
        ("192.0.2.0/24,!host", False, True),
        ("any,!network:5432", True, False),
        ("host", True, False),
        ("network:80/tcp,any", False, False),
        ("network,host", True, True),
        ("none", False, False),
    ],
)
def test_words_keep_the_host_and_neighbours_out(written: str, *, host: bool, network: bool) -> None:
    held = AccessList("ingress", (parse_list(written, "ingress"),))
    assert (held.lets_in("host"), held.lets_in("network")) == (host, network)
