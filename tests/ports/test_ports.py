"""`io.watcher.ports`: what may be written there, and what `watcher ls` shows of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.containers.ports import (
    MAX_MAPS,
    PROTOCOLS,
    format_ports,
    merged,
    parse_ports,
)
from watcher.model.errors import BadValue
from watcher.model.request import PortMap, Protocol


def port_map(
    protocol: Protocol, host_ip: str | None, host_port: int, port: int, length: int = 1
) -> PortMap:
    return PortMap(protocol, ip_address(host_ip) if host_ip else None, host_port, port, length)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("8080:80", [("tcp", None, 8080, 80)]),
        ("8080:80/tcp", [("tcp", None, 8080, 80)]),
        ("8080:80/SCTP", [("sctp", None, 8080, 80)]),
        ("127.0.0.1:5353:53/udp", [("udp", "127.0.0.1", 5353, 53)]),
        ("0.0.0.0:80:80", [("tcp", "0.0.0.0", 80, 80)]),
        ("[::1]:8443:443", [("tcp", "::1", 8443, 443)]),
        ("9000-9001:80-81/udp", [("udp", None, 9000, 80, 2)]),
        ("80:80,81:81,82-90:82-90,92:92", [("tcp", None, 80, 80, 11), ("tcp", None, 92, 92)]),
        ("81:81,80:80", [("tcp", None, 81, 81), ("tcp", None, 80, 80)]),
        ("80:80,81:82", [("tcp", None, 80, 80), ("tcp", None, 81, 82)]),
        ("80:80,81:81/udp", [("tcp", None, 80, 80), ("udp", None, 81, 81)]),
        ("[::1]:80:80,81:81", [("tcp", "::1", 80, 80), ("tcp", None, 81, 81)]),
        (" 8081:81 ,\t8080:80\n", [("tcp", None, 8081, 81), ("tcp", None, 8080, 80)]),
        ("[]", []),
    ],
)
def test_reads_the_notation_of_the_manual(value: str, expected: list[tuple[Any, ...]]) -> None:
    assert parse_ports(value) == tuple(port_map(*item) for item in expected)


def test_reads_the_port_mappings_of_cni() -> None:
    mappings = [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 5353, "containerPort": 53, "protocol": "UDP", "hostIP": "127.0.0.1"},
        {"hostPort": 8443, "containerPort": 443, "hostIP": ""},
    ]
    assert parse_ports(json.dumps(mappings, indent=1)) == (
        port_map("tcp", None, 8080, 80),
        port_map("udp", "127.0.0.1", 5353, 53),
        port_map("tcp", None, 8443, 443),
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "it is empty"),
        (" ", "it is empty"),
        ("80:80,", "an empty entry"),
        (":80", '"" is no port'),
        ("0:80", '"0" is no port'),
        ("0", '"0" is no port'),
        ("80:65536", '"65536" is no port'),
        ("8080::80", '"8080" is no host address'),
        ("9000-9010", "no host ports for a range"),
        ("127.0.0.1:80", "no host port on an address"),
        ("127.0.0.1::80", "no host port on an address"),
        ("[::1]:80", "no host port on an address"),
        ("[::1]::80", "no host port on an address"),
        ("80,8080:80,80/tcp", "a free host port for 80/tcp is repeated"),
        ("-1:80", '"" is no port'),
        ("8 0:80", '"8 0" is no port'),
        ("٨٠:80", "is no port"),
        ("90-80:90-80", "range 90-80 descends"),
        ("80-89:80", "10 host ports onto 1"),
        (":80:80", '"" is no host address'),
        ("localhost:80:80", '"localhost" is no host address'),
        ("::1:80:80", '"::1" is no host address'),
        ("[127.0.0.1]:80:80", "is no host address"),
        ("[fe80::1%eth0]:80:80", "with a zone"),
        ("[::ffff:10.0.0.1]:80:80", "IPv4-mapped"),
        ("224.0.0.1:80:80", "no address of a host"),
        ("80:80/icmp", 'unknown protocol "icmp"'),
        ("80:80/", 'unknown protocol ""'),
        ('[{"hostPort": 0, "containerPort": 80}]', "mapping 0: hostPort 0 is no port"),
        ('[{"hostPort": 80, "containerPort": 65536}]', "containerPort 65536 is no port"),
        ('[{"hostPort": "80", "containerPort": 80}]', "Expected `int`, got `str`"),
        ('[{"hostPort": 80}]', "missing required field `containerPort`"),
        ('[{"hostPort": 80, "containerPort": 80, "hostIp": ""}]', "unknown field `hostIp`"),
        ('[{"hostPort": 80, "containerPort": 80, "hostIP": "x"}]', '"x" is no host address'),
        ('[{"hostPort": 80', "not CNI port mappings"),
    ],
)
def test_names_what_is_wrong(value: str, reason: str) -> None:
    with pytest.raises(BadValue) as error:
        parse_ports(value)
    assert reason in error.value.reason
    assert error.value.remedy


def test_an_unknown_protocol_suggests_the_known_ones() -> None:
    with pytest.raises(BadValue) as error:
        parse_ports("80:80/upd")
    assert error.value.remedy == "write one of tcp, udp, sctp"


@pytest.mark.parametrize(
    "value",
    [
        "80:80,80:80",
        "80:80,80:81",
        "80-90:80-90,85:5",
        "127.0.0.1:80:80,127.0.0.1:80:80",
        "[::1]:80:80,[0:0::1]:80:81",
        "80:80,127.0.0.1:80:80",
        "127.0.0.1:80:80,80:81",
        "0.0.0.0:80:80,127.0.0.1:80:80",
        "[::1]:80:80,[::]:80:80",
        "80:80,[::]:80:80",
    ],
)
def test_no_two_may_want_the_same_traffic(value: str) -> None:
    with pytest.raises(BadValue, match="repeated"):
        parse_ports(value)


@pytest.mark.parametrize(
    "value",
    [
        "80:80/tcp,80:80/udp",
        "80:80,81:80",
        "127.0.0.1:80:80,127.0.0.2:80:80",
        "0.0.0.0:80:80,[::]:80:80",
        "0.0.0.0:80:80,[::1]:80:80",
    ],
)
def test_different_traffic_may_have_one_port(value: str) -> None:
    assert len(parse_ports(value)) == 2


def test_a_value_is_bounded() -> None:
    with pytest.raises(BadValue, match="characters"):
        parse_ports("80:80," * 20_000)
    with pytest.raises(BadValue, match=f"more than {MAX_MAPS} port maps"):
        parse_ports("1-65535:1-65535/tcp,1-65535:1-65535/udp")
    widest = parse_ports("1-65535:1-65535,1:1/udp")
    assert sum(port.length for port in widest) == MAX_MAPS


def test_consecutive_ports_are_shown_as_a_range() -> None:
    ports = parse_ports("81:81,80:80,82:90,[::1]:83:83,53:53/udp,54:54/udp,127.0.0.1:54:55")
    assert format_ports(ports) == (
        "80-81:80-81/tcp,82:90/tcp,127.0.0.1:54:55/tcp,[::1]:83:83/tcp,53-54:53-54/udp"
    )
    assert format_ports(()) == ""


HOST_IPS = st.one_of(
    st.none(),
    st.sampled_from([IPv4Address("0.0.0.0"), IPv6Address("::"), IPv6Address("::1")]),
    st.integers(0x0A000000, 0x0A000003).map(IPv4Address),
)
PORTS = st.integers(1, 12) | st.integers(1, 65535)
PORT_MAPS = st.builds(PortMap, st.sampled_from(PROTOCOLS), HOST_IPS, PORTS, PORTS)
RANGES = st.builds(
    PortMap, st.sampled_from(PROTOCOLS), HOST_IPS, st.integers(1, 40), PORTS, st.integers(1, 20)
).filter(lambda port: port.port + port.length <= 65536)


def outcome(text: str) -> tuple[PortMap, ...] | BadValue:
    """What `text` is read as: port maps, or the error."""
    try:
        return parse_ports(text)
    except BadValue as error:
        return error


def in_order(ports: Iterable[PortMap]) -> list[PortMap]:
    """By protocol, address (any, IPv4, IPv6), host port and port."""
    return sorted(
        ports,
        key=lambda port: (
            port.protocol,
            port.host_ip.version if port.host_ip else 0,
            int(port.host_ip or 0),
            port.host_port,
            port.port,
        ),
    )


@given(st.lists(PORT_MAPS, min_size=1, max_size=30))
def test_what_is_written_is_read_again(candidates: list[PortMap]) -> None:
    ports: set[PortMap] = set()
    for port in candidates:
        if isinstance(outcome(",".join(map(str, [*ports, port]))), tuple):
            ports.add(port)
    assert parse_ports(format_ports(ports)) == merged(in_order(ports))
    read = parse_ports(",".join(map(str, ports)))
    assert {one for port in read for one in port.singles()} == ports


def wants_the_same(one: PortMap, other: PortMap) -> bool:
    """Whether a packet that one port map is for is also one for another."""
    if one.protocol != other.protocol or one.host_port != other.host_port:
        return False
    if one.host_ip is None or other.host_ip is None:
        return True
    if one.host_ip.version != other.host_ip.version:
        return False
    wildcards = one.host_ip.is_unspecified or other.host_ip.is_unspecified
    return wildcards or one.host_ip == other.host_ip


@given(st.lists(RANGES, min_size=1, max_size=5))
def test_ranges_are_refused_where_one_of_their_ports_is_repeated(ranges: list[PortMap]) -> None:
    before: list[PortMap] = []
    first: PortMap | None = None
    for entry in ranges:
        singles = list(entry.singles())
        taken = [one for one in singles if any(wants_the_same(one, b) for b in before)]
        if taken:
            first = taken[0]
            break
        before += singles
    found = outcome(",".join(map(str, ranges)))
    if first is None:
        assert isinstance(found, tuple)
        assert [one for port in found for one in port.singles()] == before
    else:
        assert f"host port {first.host_port}/{first.protocol} is repeated" in str(found)


@given(st.text(st.characters(), max_size=200) | st.text("0123456789-:,/[]{}%. tcpud", max_size=60))
def test_any_text_is_port_maps_or_an_error_of_one_line(text: str) -> None:
    found = outcome(text)
    if isinstance(found, BadValue):
        assert str(found).isprintable()
        assert found.reason
        assert found.remedy
    elif found:
        assert parse_ports(format_ports(found)) == merged(in_order(found))


def test_a_port_that_names_no_host_port_gets_one() -> None:
    wanted = parse_ports("80, 8080:80,53/udp,81,80/sctp")
    assert [port.to_choose for port in wanted] == [True, False, True, True, True]
    assert [str(port) for port in wanted] == [
        "80/tcp", "8080:80/tcp", "53/udp", "81/tcp", "80/sctp"
    ]  # fmt: skip
    assert parse_ports(format_ports(wanted)) == parse_ports("80/sctp,80,81,8080:80,53/udp")


@pytest.mark.parametrize("value", ["127.0.0.1:80", "[::1]::80", "10.0.0.1::80"])
def test_the_remedy_for_a_choice_on_an_address_can_be_written(value: str) -> None:
    with pytest.raises(BadValue) as error:
        parse_ports(value)
    example = error.value.remedy.split('"')[1]
    assert parse_ports(example)[0].host_port == 8080
