"""The annotations `io.watcher.…` of a container: what they ask for, and what cannot be asked."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from watcher.containers.annotations import KEYS, parse_request, valid_id
from watcher.model.errors import InvalidRequest
from watcher.model.keys import PREFIX
from watcher.model.request import PortMap, Request


def request(**annotations: str) -> Request:
    return parse_request({PREFIX + key: value for key, value in annotations.items()})


def refusal(**annotations: str) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as error:
        request(**annotations)
    assert str(error.value).isprintable()
    assert error.value.remedy
    return error.value


def test_without_annotations_a_container_asks_for_nothing() -> None:
    assert parse_request({"bundle": "/bundle", "io.watch": "x"}) == Request()


def test_each_annotation_has_its_place_in_the_request() -> None:
    assert request(
        ports="8080:80",
        network="front, back",
        ip="172.19.0.50,fd00::50",
        mac="02-42-AC-13-00-32",
        sysctl='{"net.ipv4.conf.eth0.arp_notify": "1", "net/ipv6/conf/eth0.7/mtu": "1400"}',
        name="DB, app-1",
    ) == Request(
        networks=("front", "back"),
        ports=(PortMap("tcp", None, 8080, 80),),
        addresses=(ip_address("172.19.0.50"), ip_address("fd00::50")),
        mac="02:42:ac:13:00:32",
        sysctl=(("ipv4/conf/eth0/arp_notify", "1"), ("ipv6/conf/eth0.7/mtu", "1400")),
        annotated=True,
        names=("db", "app-1"),
    )
    assert request(share="db", ports="80:80") == Request(
        share="db", ports=(PortMap("tcp", None, 80, 80),), annotated=True
    )
    assert request(network="none") == Request(networks=(), annotated=True)


def test_an_unknown_annotation_suggests_the_nearest() -> None:
    error = refusal(port="8080:80")
    assert error.key == "io.watcher.port"
    assert str(error) == ('io.watcher.port = "8080:80": unknown annotation; write io.watcher.ports')
    assert refusal(quux="").remedy.startswith("write one of io.watcher.ports, ")


def test_an_error_names_annotation_value_and_reason() -> None:
    error = refusal(ports="80:80/icmp")
    assert (error.key, error.value) == ("io.watcher.ports", "80:80/icmp")
    assert error.reason == '"80:80/icmp": unknown protocol "icmp"'
    assert error.remedy == "write one of tcp, udp, sctp"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "an empty name"),
        ("front,,back", "an empty name"),
        ("front,none", '"none" together with a network'),
        ("front,front", "network front is repeated"),
        ("-front", '"-front" is no network\'s name'),
        ("f" * 33, "is no network's name"),
        ("front\nback", "is no network's name"),
        (",".join(f"n{i}" for i in range(11)), "11 networks"),
        ("n," * 5000, "10000 characters"),
    ],
)
def test_networks_are_different_names_or_none(value: str, reason: str) -> None:
    assert reason in refusal(network=value).reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "is no address"),
        ("172.19.0", "is no address"),
        ("172.19.0.50/16", "has a prefix length"),
        ("fe80::1%eth0", "has a zone"),
        ("172.19.0.50,172.19.0.51", "more than one IPv4 address"),
        ("fd00::1,fd00::2", "more than one IPv6 address"),
        ("0.0.0.0", "the unspecified address"),
        ("::", "the unspecified address"),
        ("127.0.0.1", "a loopback address"),
        ("ff02::1", "a multicast address"),
    ],
)
def test_fixed_addresses_are_one_of_each_family(value: str, reason: str) -> None:
    assert reason in refusal(ip=value).reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "not a MAC address"),
        ("02:42:ac:13:00", "not a MAC address"),
        ("2:42:ac:13:0:32", "not a MAC address"),
        ("0242ac130032", "not a MAC address"),
        ("03:42:ac:13:00:32", "multicast"),
        ("ff:ff:ff:ff:ff:ff", "multicast"),
        ("00:00:00:00:00:00", "zero"),
    ],
)
def test_a_fixed_mac_is_that_of_one_interface(value: str, reason: str) -> None:
    assert reason in refusal(mac=value).reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", '"" is no DNS label'),
        ("db,", '"" is no DNS label'),
        ("my_db", '"my_db" is no DNS label'),
        ("-db", "is no DNS label"),
        ("db-", "is no DNS label"),
        ("a.b", "is no DNS label"),
        ("a" * 64, "is no DNS label"),
        ("\u212a8s", "is no DNS label"),  # a Kelvin sign, which is a k in lower case
        ("db\n,b\x1b", "is no DNS label"),
        ("Host", '"Host" is reserved'),
        ("db,localhost", '"localhost" is reserved'),
        ("db,DB", "name db is repeated"),
        (",".join(f"n{i}" for i in range(17)), "17 names"),
        ("n," * 5000, "10000 characters"),
    ],
)
def test_a_name_is_a_dns_label(value: str, reason: str) -> None:
    assert reason in refusal(name=value).reason


def test_a_multicast_mac_is_mended() -> None:
    assert '"02:42:ac:13:00:32"' in refusal(mac="03:42:AC:13:00:32").remedy


def test_a_setting_is_written_as_sysctl_takes_it() -> None:
    value = """{"net.ipv4.conf.eth0/7.arp_notify": "1", "net/ipv6/conf/eth0.7/mtu": "1400",
        "net.ipv4.tcp_rmem": "4096 65536\\t1000000"}"""
    assert request(sysctl=value).sysctl == (
        ("ipv4/conf/eth0.7/arp_notify", "1"),
        ("ipv6/conf/eth0.7/mtu", "1400"),
        ("ipv4/tcp_rmem", "4096 65536\t1000000"),
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "not JSON"),
        ("[" * 4000, "not JSON"),
        ("[]", "not a JSON object"),
        ('"net.ipv4.ip_forward"', "not a JSON object"),
        ('{"net.ipv4.ip_forward": 1}', "is no string"),
        ('{"net.ipv4.ip_forward": true}', "is no string"),
        ('{"net.ipv4.ip_forward": {"a": "b"}}', "is no string"),
        ('{"net.ipv4.ip_forward": ""}', "no setting can have"),
        ('{"net.ipv4.ip_forward": "1\\n"}', "no setting can have"),
        ('{"net.ipv4.ip_forward": "\\u0000"}', "no setting can have"),
        ('{"net.ipv4.ip_forward": "\\ud800"}', "no setting can have"),
        ('{"net.a.b": "1", "net/a/b": "1"}', '"net/a/b" is repeated'),
        ('{"net.a.b": "1", "net.a.b": "2"}', '"net.a.b" is repeated'),
        ('{"kernel.shmmax": "1"}', "is no setting of a network namespace"),
        ('{"net": "1"}', "is no setting of a network namespace"),
        ('{"": "1"}', "is no setting of a network namespace"),
        ('{"/net/ipv4/ip_forward": "1"}', "is no setting of a network namespace"),
        ('{"netfilter.a": "1"}', "is no setting of a network namespace"),
        ('{"net/../kernel/core_pattern": "|/x"}', "is no setting's name"),
        ('{"net.//.kernel.core_pattern": "|/x"}', "is no setting's name"),
        ('{"net/./a": "1"}', "is no setting's name"),
        ('{"net/ipv4//a": "1"}', "is no setting's name"),
        ('{"net/ipv4/": "1"}', "is no setting's name"),
        ('{"net/a\\u0000": "1"}', "is no setting's name"),
        ('{"net/\\ud800": "1"}', "is no setting's name"),
        ('{"net/a b": "1"}', "is no setting's name"),
        ('{"net.ipv4.tcp_congestion_control": "x"}', "would change the whole host"),
        ('{"net.ipv6.conf.eth0.disable_ipv6": "1"}', "comes too late"),
        ('{"net/netfilter/nf_hooks_lwtunnel": "1"}', "would change the whole host"),
        (json.dumps({f"net.a{n}": "1" for n in range(65)}), "65 settings"),
        (" " * 5000, "5000 characters"),
    ],
)
def test_settings_are_those_of_a_network_namespace(value: str, reason: str) -> None:
    assert reason in refusal(sysctl=value).reason


@pytest.mark.parametrize("value", ["", ".", "..", "a/b", "a b", "db\n", "dé", "a" * 256])
def test_only_a_container_id_can_be_shared(value: str) -> None:
    assert refusal(share=value).reason == "not a container id"


SETTING = '{"net.ipv4.ip_forward": "1"}'


@pytest.mark.parametrize("key", ["network", "ip", "mac", "sysctl"])
def test_a_shared_sandbox_has_its_network_already(key: str) -> None:
    values = {"network": "front", "ip": "172.19.0.50", "mac": "02:42:ac:13:00:32"}
    values |= {"sysctl": SETTING}
    error = refusal(share="db", **{key: values[key]})
    assert error.key == PREFIX + key
    assert "io.watcher.share" in error.reason


@pytest.mark.parametrize("key", ["ports", "ip", "mac", "sysctl"])
def test_no_network_means_none_of_its_properties(key: str) -> None:
    values = {"ports": "80:80", "ip": "172.19.0.50", "mac": "02:42:ac:13:00:32"}
    values |= {"sysctl": SETTING}
    error = refusal(network="none", **{key: values[key]})
    assert error.key == PREFIX + key
    assert "io.watcher.network = none" in error.reason


@pytest.mark.parametrize("id", ["web", "a", "A-1_b.c+d", "...", "a" * 255])
def test_ids_that_runc_takes(id: str) -> None:  # noqa: A002
    assert valid_id(id)


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "a\0", "a\n", "é", "\udcff", "a" * 256])
def test_ids_that_runc_refuses_or_that_cannot_name_a_pin(id: str) -> None:  # noqa: A002
    assert not valid_id(id)


ANYTHING = st.one_of(
    st.text(st.characters(), max_size=100),  # with NULs, newlines and surrogates
    st.binary(max_size=100).map(lambda data: data.decode("utf-8", "surrogateescape")),
    st.text("0123456789abcdef:.-,/%[]{}none ", max_size=40),
)


def outcome(labels: dict[str, str]) -> Request | InvalidRequest:
    """What `labels` are read as: a request, or the error."""
    try:
        return parse_request(labels)
    except InvalidRequest as error:
        return error


@given(st.dictionaries(st.sampled_from(KEYS) | ANYTHING, ANYTHING, max_size=3))
def test_any_annotations_are_a_request_or_an_error_of_one_line(annotations: dict[str, str]) -> None:
    found = outcome({PREFIX + key: value for key, value in annotations.items()})
    if isinstance(found, InvalidRequest):
        assert str(found).isprintable()
        assert len(str(found)) < 3000
        assert found.reason
        assert found.remedy
    else:
        assert found.annotated == bool(annotations)
        assert set(annotations) <= set(KEYS)


@pytest.mark.parametrize("key", [*KEYS, "x" * 1_000_000, "\0\n"])
@pytest.mark.parametrize("filler", ["a", ",", ":", "\0", "\n", "[{", "9", "\udcff", "1:1,"])
def test_megabytes_are_refused_in_a_line(key: str, filler: str) -> None:
    error = refusal(**{key: filler * 1_000_000})
    assert len(str(error)) < 2000


def test_requests_can_be_compared_and_kept() -> None:
    one = request(ports="80:80")
    assert replace(one, ports=()) == Request(annotated=True)
    assert len({one, request(ports="80:80/tcp")}) == 1
