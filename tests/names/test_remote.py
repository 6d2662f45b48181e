"""Containers of other hosts, in clustered networks: who resolves them, and when."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.names.world import World, container, endpoint, network, other_host, sandbox
from watcher.cluster.endpoints.lines import EndpointLine, HostLine
from watcher.names.zone.remote import Remote
from watcher.names.zone.segments import text_of
from watcher.names.zone.views import Use

AT = "172.19.0.2"
BACK = "172.20.0.2"


B = other_host("b", default=("172.19.4.0/24", "fd00:19::400/120"))


@pytest.fixture
def world() -> World:
    """Its container `web` is in `default`, and `other` in `back`."""
    world = World(
        network(cluster=True), network("back", 20, cluster=True), network("local", 21),
        sandbox(2, container("web"), default=AT), sandbox(3, container("other"), back=BACK),
        sandbox(4, container("alone"), local="172.21.0.2"),
    )  # fmt: skip
    world.remote.host(other_host("a", "this", default="172.19.0.0/24", back="172.20.0.0/24"))
    world.remote.host(B)
    world.remote.endpoint(endpoint("b", 1, ("db", "f00"), default=("172.19.4.2", "fd00:19::402")))
    return world


def test_it_resolves_as_a_local_one_does(world: World) -> None:
    for name in ("db", "f00", "db.watcher.internal", "DB.default.watcher.internal"):
        assert world.gets(AT, name) == ["172.19.4.2"], name
        assert world.gets(AT, name, "AAAA") == ["fd00:19::402"], name
        assert world.gets(AT, name, "TXT") == ["NODATA"], name
    for address in ("2.4.19.172.in-addr.arpa", f"{'2.0.4.0' + '.0' * 20}.9.1.0.0.0.0.d.f.ip6.arpa"):
        assert world.gets(AT, address, "PTR") == ["db.default.watcher.internal."]
    assert world.gets(AT, "3.4.19.172.in-addr.arpa", "PTR") == ["NXDOMAIN"]


def test_who_is_in_another_network_does_not_learn_of_it(world: World) -> None:
    for name in ("db", "db.watcher.internal", "db.default.watcher.internal", "db.default"):
        assert world.gets(BACK, name, at="back") in (["NXDOMAIN"], ["FORWARDED"])
        assert world.gets("172.21.0.2", name, at="local") in (["NXDOMAIN"], ["FORWARDED"])
    assert world.gets(BACK, "2.4.19.172.in-addr.arpa", "PTR", at="back") == ["NXDOMAIN"]
    assert not [q for q, *_ in world.forwarded if b"db" in q.name and len(q.name) != 2]


def test_a_network_of_this_host_alone_has_no_one_else(world: World) -> None:
    world.remote.host(other_host("b", default="172.19.4.0/24", local="172.21.4.0/24"))
    world.remote.endpoint(endpoint("b", 2, "stray", local="172.21.4.2"))
    assert world.gets("172.21.0.2", "stray", at="local") == ["NXDOMAIN"]
    assert world.gets("172.21.0.2", "2.4.21.172.in-addr.arpa", "PTR", at="local") == ["NXDOMAIN"]


def test_all_of_one_name_are_answered_wherever_they_are(world: World) -> None:
    world.remote.host(other_host("c", default="172.19.5.0/24"))
    world.remote.endpoint(endpoint("b", 2, "web", default="172.19.4.3"))
    world.remote.endpoint(endpoint("c", 1, "web", default="172.19.5.2"))
    every = [AT, "172.19.4.3", "172.19.5.2"]
    assert sorted(world.gets(AT, "web")) == every
    world.directory.forget("sandbox/2")
    world.tell(sandbox(5, container("ask"), default="172.19.0.5"))
    assert sorted(world.gets("172.19.0.5", "web")) == every[1:]
    world.remote.endpoint_gone("b", "2")
    assert world.gets("172.19.0.5", "web") == every[2:]
    world.remote.endpoint_gone("c", "1")
    assert world.gets("172.19.0.5", "web") == ["NXDOMAIN"]


def test_a_host_that_falls_silent_takes_its_names_away_until_it_returns(world: World) -> None:
    world.remote.endpoint(endpoint("b", 2, "web", default="172.19.4.3"))
    assert world.gets(AT, "db") == ["172.19.4.2"]
    world.remote.host(replace(B, state="silent"))
    assert world.gets(AT, "db") == ["NXDOMAIN"]
    assert world.gets(AT, "web") == [AT]
    assert world.gets(AT, "2.4.19.172.in-addr.arpa", "PTR") == ["NXDOMAIN"]
    world.remote.host(B)
    assert world.gets(AT, "db") == ["172.19.4.2"]
    assert sorted(world.gets(AT, "web")) == [AT, "172.19.4.3"]
    world.remote.host_gone("b")
    assert world.gets(AT, "db") == ["NXDOMAIN"]
    world.remote.host(B)
    assert world.gets(AT, "db") == ["172.19.4.2"]


def test_a_host_that_is_not_known_yet_and_one_that_claims_to_be_this_one(world: World) -> None:
    world.remote.endpoint(endpoint("z", 1, "early", default="172.19.9.2"))
    world.remote.endpoint(endpoint("a", 1, "mine", default="172.19.0.9"))
    assert world.gets(AT, "early") == ["NXDOMAIN"]
    assert world.gets(AT, "mine") == ["NXDOMAIN"]
    world.remote.host(other_host("z", default="172.19.9.0/24"))
    assert world.gets(AT, "early") == ["172.19.9.2"]


@pytest.mark.parametrize(
    "address",
    [
        pytest.param(AT, id="of a container here"),
        pytest.param("172.19.0.1", id="the gateway"),
        pytest.param("172.19.5.2", id="of another host"),
        pytest.param("172.19.99.2", id="of nobody"),
        pytest.param("198.51.100.7", id="elsewhere"),
        pytest.param("127.0.0.1", id="loopback"),
        pytest.param("fd00:19::2", id="IPv6"),
    ],
)
def test_a_host_has_no_say_about_addresses_outside_of_its_blocks(
    world: World, address: str
) -> None:
    world.remote.host(other_host("c", default="172.19.5.0/24"))
    world.remote.endpoint(endpoint("b", 1, "db", default=("172.19.4.2", address)))
    world.remote.endpoint(endpoint("b", 2, "evil", default=address))
    for kind in ("A", "AAAA"):
        assert world.gets(AT, "evil", kind) == ["NXDOMAIN"]
    assert world.gets(AT, "db") == ["172.19.4.2"]
    assert world.gets(AT, "db", "AAAA") == ["NODATA"]
    if address == AT:
        assert world.gets(AT, "2.0.19.172.in-addr.arpa", "PTR") == ["web.default.watcher.internal."]


def test_a_claim_in_a_block_counts_more_than_the_block(world: World) -> None:
    assert world.gets(AT, "db") == ["172.19.4.2"]
    world.remote.host(other_host("c", default="172.19.4.2/32"))
    assert world.gets(AT, "db") == ["NODATA"]
    assert world.gets(AT, "db", "AAAA") == ["fd00:19::402"]
    world.remote.endpoint(endpoint("c", 1, "moved", default="172.19.4.2"))
    assert world.gets(AT, "moved") == ["172.19.4.2"]
    assert world.gets(AT, "2.4.19.172.in-addr.arpa", "PTR") == ["moved.default.watcher.internal."]
    world.remote.host(other_host("c"))
    assert world.gets(AT, "db") == ["172.19.4.2"]
    assert world.gets(AT, "moved") == ["NXDOMAIN"]
    assert world.gets(AT, "2.4.19.172.in-addr.arpa", "PTR") == ["db.default.watcher.internal."]


def test_a_block_that_moves_to_another_host(world: World) -> None:
    assert world.gets(AT, "db") == ["172.19.4.2"]
    moved = other_host("c", default="172.19.4.0/24")
    world.remote.host(moved)
    world.remote.host(other_host("b"))  # what it no longer has stays the other's
    assert world.gets(AT, "db") == ["NXDOMAIN"]
    world.remote.endpoint(endpoint("c", 7, "db", default="172.19.4.2"))
    assert world.gets(AT, "db") == ["172.19.4.2"]


def test_what_is_kept_is_dropped_with_what_it_follows_from_alone(world: World) -> None:
    view = world.directory.segments["default"].askers[AT].view
    for name in ("db", "web", "nobody"):
        world.gets(AT, name)
    kept = dict(view.answers)
    assert len(kept) == 3
    world.remote.endpoint(endpoint("b", 2, "nobody", default="172.19.4.3"))
    assert len(view.answers) == 2
    assert world.gets(AT, "nobody") == ["172.19.4.3"]
    world.remote.endpoint(endpoint("b", 2, "nobody", default="172.19.4.3"))
    assert len(view.answers) == 3
    world.remote.host(replace(B, program="2"))
    assert len(view.answers) == 3
    world.remote.host(other_host("c", default="172.19.7.7/32"))  # a claim that nobody asks about
    assert len(view.answers) == 3


def test_an_endpoint_that_changes(world: World) -> None:
    world.remote.endpoint(endpoint("b", 1, "cache", default="172.19.4.9"))
    assert world.gets(AT, "db") == ["NXDOMAIN"]
    assert world.gets(AT, "cache") == ["172.19.4.9"]
    assert world.gets(AT, "2.4.19.172.in-addr.arpa", "PTR") == ["NXDOMAIN"]


def test_a_hostname_of_a_container_that_joined_gives_way_to_another_host(world: World) -> None:
    both = (container("web"), container("side", hostname="box", pid=8))
    world.tell(sandbox(2, both, default=AT))
    assert world.gets(AT, "box") == [AT]
    world.remote.endpoint(endpoint("b", 2, "box", default="172.19.4.3"))
    assert world.gets(AT, "box") == ["172.19.4.3"]


def test_internal_networks_and_several_networks_of_one_asker(world: World) -> None:
    world.tell(network("back", 20, internal=True, cluster=True))
    world.tell(sandbox(9, container("both"), default="172.19.0.9", back="172.20.0.9"))
    world.remote.host(other_host("b", default="172.19.4.0/24", back="172.20.4.0/24"))
    world.remote.endpoint(endpoint("b", 5, "inner", back="172.20.4.5"))
    assert world.gets("172.19.0.9", "inner") == ["172.20.4.5"]
    assert world.gets("172.19.0.9", "inner.back.watcher.internal") == ["172.20.4.5"]
    assert world.gets("172.19.0.9", "inner.default.watcher.internal") == ["NXDOMAIN"]
    assert world.gets(BACK, "inner", at="back") == ["172.20.4.5"]
    assert world.gets(AT, "inner") == ["NXDOMAIN"]


def test_nothing_is_left_of_a_cluster_that_this_host_has_left(world: World) -> None:
    assert world.gets(AT, "db") == ["172.19.4.2"]
    world.remote.clear()
    assert world.gets(AT, "db") == ["NXDOMAIN"]
    assert (world.remote.endpoints, world.remote.hosts) == (0, 0)


def test_a_name_of_thousands(world: World) -> None:
    for number in range(3000):
        address = f"172.19.{4 + number // 250}.{number % 250 + 3}"
        world.remote.endpoint(endpoint("b", number, "many", default=address))
    blocks = tuple(f"172.19.{number}.0/24" for number in range(4, 16))
    world.remote.host(other_host("b", default=blocks))
    answer = world.asks(AT, "many", tcp=True)
    assert answer is not None
    assert len(answer.answer[0]) == 3000
    for number in range(3000):
        world.remote.endpoint_gone("b", str(number))
    assert world.gets(AT, "many") == ["NXDOMAIN"]


# Against what is said in words: an endpoint counts if its host is alive, and of it the addresses of
# which the longest prefix that any host has is that host's.

_HOSTS = ("a", "b", "c")
_PREFIXES = ("10.0.0.0/30", "10.0.0.4/30", "10.0.0.1/32", "10.0.0.2/32", "10.0.0.5/32", "fd::/126")
_ADDRESSES = (*(f"10.0.0.{number}" for number in range(8)), "fd::1", "fd::2")

_STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("host"), st.sampled_from(_HOSTS), st.sampled_from(("this", "alive", "silent")),
            st.frozensets(st.sampled_from(_PREFIXES), max_size=3),
        ),
        st.tuples(st.just("host_gone"), st.sampled_from(_HOSTS)),
        st.tuples(
            st.just("endpoint"), st.sampled_from(_HOSTS), st.integers(0, 2),
            st.lists(st.sampled_from("xyz"), min_size=1, max_size=3),
            st.lists(st.sampled_from(_ADDRESSES), max_size=3),
        ),
        st.tuples(st.just("endpoint_gone"), st.sampled_from(_HOSTS), st.integers(0, 2)),
        st.tuples(st.just("begin")),
        st.tuples(st.just("end")),
        st.tuples(st.just("ask")),
    ),
    max_size=40,
)  # fmt: skip


class Compared:
    """What is known of other hosts, and the same looked up in full each time."""

    def __init__(self) -> None:
        self._remote = Remote()
        self._remote.changed = self._changed
        self._network = self._remote.network("net")
        self._hosts: dict[str, HostLine] = {}
        self._endpoints: dict[tuple[str, str], EndpointLine] = {}
        self._kept: dict[str | bytes, set[str] | None] = {}
        self._told: tuple[set[str], set[tuple[str, str]]] | None = None

    def _changed(self, _: str, uses: Iterable[Use] | None) -> None:
        """Answers are kept until it is said that they may be others."""
        for use in list(self._kept) if uses is None else uses:
            self._kept.pop(use, None)

    def host(self, name: str, state: Any, prefixes: frozenset[str]) -> None:
        others = [line for other, line in self._hosts.items() if other != name]
        free = prefixes.difference(*(line.blocks["net"] for line in others))  # etcd has each once
        line = self._hosts[name] = other_host(name, state, net=tuple(sorted(free)))
        self._remote.host(line)
        if self._told is not None:
            self._told[0].add(name)

    def host_gone(self, name: str) -> None:
        self._remote.host_gone(name)
        self._hosts.pop(name, None)

    def endpoint(self, name: str, id_: int, names: list[str], addresses: list[str]) -> None:
        line = endpoint(name, id_, tuple(names), net=tuple(addresses))
        self._remote.endpoint(line)
        self._endpoints[line.host, line.id] = line
        if self._told is not None:
            self._told[1].add((line.host, line.id))

    def endpoint_gone(self, name: str, id_: int) -> None:
        self._remote.endpoint_gone(name, str(id_))
        self._endpoints.pop((name, str(id_)), None)

    def begin(self) -> None:
        self._remote.begin()
        self._told = set(), set()

    def end(self) -> None:
        if self._told is None:
            return
        while self._remote.drop_some(2):
            pass
        hosts, endpoints = self._told
        self._hosts = {name: line for name, line in self._hosts.items() if name in hosts}
        self._endpoints = {key: line for key, line in self._endpoints.items() if key in endpoints}
        self._told = None

    def ask(self) -> None:
        for name in "xyz":
            found = self._found(name.encode())
            assert (found or set()) == self._named(name)
            assert found is None or found
            assert self._kept.setdefault(name.encode(), found) == found, "it is kept too long"
        for address in _ADDRESSES:
            those = [one for one in self._endpoints.values() if address in self._counting(one)]
            there = self._network.at(address)
            assert (there is None) == (not those)
            assert there is None or there.firsts[0].decode() in {one.names[0][0] for one in those}
        assert self._remote.endpoints == len(self._endpoints)

    def _found(self, name: bytes) -> set[str] | None:
        found = self._network.find(name)
        if found is None:
            return None
        v4, v6 = found.records(4, b""), found.records(6, b"")
        return {
            *(text_of(v4[at : at + 4]) for at in range(0, len(v4), 4)),
            *(text_of(v6[at : at + 16]) for at in range(0, len(v6), 16)),
        }

    def _named(self, name: str) -> set[str]:
        lines = [one for one in self._endpoints.values() if name in one.names[0]]
        return {address for line in lines for address in self._counting(line)}

    def _counting(self, line: EndpointLine) -> set[str]:
        host = self._hosts.get(line.host)
        alive = host is not None and host.state == "alive"
        return {a for a in line.addresses["net"] if alive and self._owner(a) == line.host}

    def _owner(self, address: str) -> str | None:
        found = [
            (ip_network(prefix).prefixlen, name)
            for name, line in self._hosts.items()
            for prefix in line.blocks["net"]
            if ip_address(address) in ip_network(prefix)
        ]
        return max(found)[1] if found else None


@given(_STEPS)
def test_what_counts_is_what_is_said_in_words(steps: list[tuple[Any, ...]]) -> None:
    compared = Compared()
    for step, *rest in (*steps, ("ask",)):
        getattr(compared, step)(*rest)
