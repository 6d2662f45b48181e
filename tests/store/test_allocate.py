"""The choice of addresses and MACs, against books that are plain dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.model.address import Address, Subnet
from watcher.model.container import Container, Namespace, Process
from watcher.model.errors import InvalidRequest
from watcher.model.naming import hashed_mac, interface_names, mac_of
from watcher.model.network import Network, gateway
from watcher.store.ipam import FIRST, POOL, choose, place_fixed, pool_end, pool_of, refusal

V4 = IPv4Network("172.19.0.0/16")
V6 = IPv6Network("fd00::/64")

subnets = st.one_of(
    st.builds(
        lambda address, prefix: IPv4Network((int(address), prefix), strict=False),
        st.ip_addresses(v=4),
        st.integers(8, 32),
    ),
    st.builds(
        lambda address, prefix: IPv6Network((int(address), prefix), strict=False),
        st.ip_addresses(v=6),
        st.integers(48, 128),
    ),
)


@dataclass
class PlainBook:
    """Held and freed addresses as two lists; the freed ones in the order of their freeing."""

    cursor: int = FIRST
    held: list[Address] = field(default_factory=list)
    remembered: list[Address] = field(default_factory=list)
    mine: list[Address] = field(default_factory=list)

    def take(self, address: Address) -> bool:
        return address not in self.held and address not in self.remembered

    def free(self, address: Address) -> bool:
        return address not in self.held

    def had(self) -> list[Address]:
        return self.mine

    def freed(self) -> list[Address]:
        return self.remembered


def container(**labels: str) -> Container:
    return Container("/run/runc", "web", Process(7, 1), "/b", labels, Namespace.OWN, "", 4026532000)


def test_what_is_leased_on_request_only_is_left_out() -> None:
    had, other = IPv4Address("172.19.0.2"), IPv4Address("172.19.0.3")
    assert choose(PlainBook(), pool_of(V4), asked_for=[had]) == other
    assert choose(PlainBook(remembered=[had], mine=[had]), pool_of(V4), asked_for=[had]) == other
    full = PlainBook(remembered=[had, other], cursor=1 << 16)
    assert choose(full, pool_of(V4), asked_for=[had]) == other
    assert choose(PlainBook(), pool_of(V4), [had], [had]) == had, "an orphan keeps what it has"


def test_the_first_address_is_the_one_after_the_gateway() -> None:
    assert choose(PlainBook(), pool_of(V4)) == IPv4Address("172.19.0.2")
    assert choose(PlainBook(), pool_of(V6)) == IPv6Address("fd00::2")


def test_what_it_has_goes_before_what_it_had_and_that_before_a_new_one() -> None:
    has, had = IPv4Address("172.19.0.9"), IPv4Address("172.19.0.8")
    assert choose(PlainBook(remembered=[had], mine=[had]), pool_of(V4), [has]) == has
    assert choose(PlainBook(remembered=[had], mine=[had]), pool_of(V4)) == had


def test_what_it_has_is_passed_over_where_it_may_not_be_had() -> None:
    held = IPv4Address("172.19.0.2")
    adopt = [gateway(V4), V4.network_address, V4.broadcast_address, IPv4Address("10.0.0.1"), held]
    assert choose(PlainBook(held=[held]), pool_of(V4), adopt) == IPv4Address("172.19.0.3")


def test_new_addresses_go_before_freed_ones_and_the_longest_freed_before_others() -> None:
    subnet = IPv4Network("10.0.0.0/29")
    one, two = IPv4Address("10.0.0.3"), IPv4Address("10.0.0.2")
    book = PlainBook(remembered=[one, two])
    fresh = []
    while (address := choose(book, pool_of(subnet))) not in (None, one):
        assert address is not None
        fresh.append(str(address))
        book.held.append(address)
    assert fresh == ["10.0.0.4", "10.0.0.5", "10.0.0.6"]
    assert address == one
    assert choose(PlainBook(cursor=book.cursor, held=book.held), pool_of(subnet)) is None


def test_a_cursor_never_looks_twice_at_what_it_has_passed() -> None:
    looked: list[Address] = []

    class Counting(PlainBook):
        def take(self, address: Address) -> bool:
            looked.append(address)
            return super().take(address)

    book = Counting(held=[V4.network_address + n for n in range(2, 50)])
    choose(book, pool_of(V4))
    choose(book, pool_of(V4))
    assert len(looked) == len(set(looked)) == 50


@given(subnets)
def test_every_address_of_a_pool_may_be_had(subnet: Subnet) -> None:
    end = pool_end(subnet)
    assert end - FIRST <= POOL
    for offset in {FIRST, (FIRST + end) // 2, end - 1}:
        if FIRST <= offset < end:
            address = subnet.network_address + offset
            assert refusal(subnet, address) is None
            assert pool_of(subnet).has(address)
    assert not pool_of(subnet).has(gateway(subnet)) if subnet.num_addresses > 1 else end == FIRST


@given(subnets.filter(lambda subnet: subnet.num_addresses <= 1024))
def test_a_small_subnet_is_handed_out_whole(subnet: Subnet) -> None:
    book = PlainBook()
    given_out = set()
    while (address := choose(book, pool_of(subnet))) is not None:
        book.held.append(address)
        given_out.add(address)
    reserved = {subnet.network_address, subnet.network_address + (subnet.num_addresses > 1)}
    if subnet.version == 4:
        reserved.add(subnet.broadcast_address)
    assert given_out == set(subnet) - reserved


@given(subnets, st.ip_addresses())
def test_an_address_of_elsewhere_is_refused(subnet: Subnet, address: Address) -> None:
    if address not in subnet:
        assert refusal(subnet, address) == f"is not in {subnet}"
        assert not pool_of(subnet).has(address)


@pytest.mark.parametrize(
    ("subnet", "address", "why"),
    [
        ("172.19.0.0/16", "172.19.0.0", "is the network address of 172.19.0.0/16"),
        ("172.19.0.0/16", "172.19.0.1", "is the gateway of 172.19.0.0/16"),
        ("172.19.0.0/16", "172.19.255.255", "is the broadcast address of 172.19.0.0/16"),
        ("fd00::/64", "fd00::", "is the subnet-router anycast address of fd00::/64"),
        ("fd00::/64", "fd00::1", "is the gateway of fd00::/64"),
        ("fd00::/64", "fd00::ffff:ffff:ffff:ffff", None),
        ("172.19.0.0/16", "172.19.255.254", None),
    ],
)
def test_reserved_addresses(subnet: str, address: str, why: str | None) -> None:
    assert refusal(ip_network(subnet), ip_address(address)) == why


def test_a_mac_is_read_off_an_ipv4_address() -> None:
    assert mac_of(IPv4Address("172.19.0.50")) == "02:42:ac:13:00:32"


def test_a_mac_follows_from_an_ipv6_address() -> None:
    assert mac_of(IPv6Address("fd00::50")) == "02:43:9f:0f:5c:df"


@given(st.ip_addresses(), st.integers(0, 1000), st.integers(0, 1000))
def test_macs_are_local_unicast_and_no_two_attempts_agree(
    address: Address, one: int, other: int
) -> None:
    mac = mac_of(address, one)
    assert len(mac) == 17
    assert int(mac[:2], 16) & 3 == 2
    assert (mac == mac_of(address, other)) == (one == other)
    assert (hashed_mac(b"x", one) == hashed_mac(b"x", other)) == (one == other)


@pytest.mark.parametrize(
    ("interfaces", "names"),
    [
        ([], ()),
        (["eth0"], ("eth0",)),
        (["eth0", "eth0", "lan"], ("eth0", "eth1", "eth2")),
        (["net0", "eth0"], ("net0", "eth1")),
        (["eth1", "eth0", "eth0"], ("eth1", "eth2", "eth3")),
        (["eth2", "eth0", "eth0"], ("eth2", "eth1", "eth3")),
    ],
)
def test_interface_names(interfaces: list[str], names: tuple[str, ...]) -> None:
    networks = [Network(name=f"n{n}", interface=name) for n, name in enumerate(interfaces)]
    assert interface_names(networks) == names


def test_a_fixed_address_is_for_the_first_network_that_contains_it() -> None:
    networks = [
        Network(name="a", subnets=(IPv4Network("10.1.0.0/24"), V6)),
        Network(name="b", subnets=(V4,)),
        Network(name="c", subnets=(V4,)),
    ]
    four, six = IPv4Address("172.19.0.50"), IPv6Address("fd00::50")
    assert place_fixed(networks, [four, six]) == {(1, 4): four, (0, 6): six}


@pytest.mark.parametrize(
    ("addresses", "reason"),
    [
        (["10.9.9.9"], "10.9.9.9 is in no subnet of its networks (default)"),
        (["fd00::9"], "fd00::9 is in no subnet of its networks (default)"),
        (["172.19.0.1"], "172.19.0.1 is the gateway of 172.19.0.0/16"),
        (["172.19.0.5", "172.19.0.6"], "172.19.0.5 and 172.19.0.6 would be on one interface"),
    ],
)
def test_a_fixed_address_that_cannot_be_had(addresses: list[str], reason: str) -> None:
    fixed = [ip_address(text) for text in addresses]
    with pytest.raises(InvalidRequest) as caught:
        place_fixed([Network()], fixed)
    assert (caught.value.key, caught.value.reason) == ("io.watcher.ip", reason)
    assert caught.value.value == ",".join(addresses)
    assert "172.19.0.0/16" in caught.value.remedy or "one address" in caught.value.remedy


def test_an_error_quotes_the_annotation_as_it_stands() -> None:
    with pytest.raises(InvalidRequest) as caught:
        place_fixed([], [IPv4Address("10.9.9.9")], " 10.9.9.9 ")
    assert caught.value.value == " 10.9.9.9 "
    assert caught.value.remedy == "leave it out"
