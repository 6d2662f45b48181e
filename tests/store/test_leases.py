"""The lease store, on real files: what it gives, to whom, and what it keeps of it."""

from __future__ import annotations

import sqlite3
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.support.leases import DEFAULT, DUAL, HTTP, ROOT, addresses, container, port
from watcher.model.address import Address
from watcher.model.container import Container, Namespace, Process
from watcher.model.errors import InvalidRequest, WatcherError
from watcher.model.network import Network
from watcher.model.policy.limits import UNLIMITED
from watcher.model.request import PortMap, Request
from watcher.store.leases import Failure, LeaseStore

TINY = Network(name="tiny", subnets=(IPv4Network("10.9.0.0/30"),))


# What a sandbox gets


def test_a_sandbox_has_all_that_was_asked_for(store: LeaseStore) -> None:
    request = Request(ports=(HTTP, PortMap("udp", IPv6Address("::1"), 53, 53)))
    made = store.create_sandbox(container("web", 812), [DEFAULT, DUAL], request)
    first, second = made.interfaces
    assert (first.network, first.name, first.host_name) == ("default", "eth0", "netnsv0-812")
    assert (second.network, second.name, second.host_name) == ("dual", "eth1", "netnsv1-812")
    assert addresses(made) == ["172.19.0.2/16", "10.8.0.2/24", "fd00::2/64"]
    assert (first.mac, second.mac) == ("02:42:ac:13:00:02", "02:42:0a:08:00:02")
    assert made.ports == request.ports
    assert (made.id, made.init, made.netns) == ("web", Process(812, 5684), 4026532812)
    assert made.pins == ("web",)


def test_every_way_to_ask_for_a_sandbox_finds_it(store: LeaseStore) -> None:
    made = store.create_sandbox(container("web", 812), [DEFAULT], Request(ports=(HTTP,)))
    assert store.sandbox(4026532812) == made
    assert store.sandbox_of(ROOT, "web") == made
    assert store.sandbox_named("web") == made
    assert store.by_key(made.key) == made
    assert store.sandboxes() == [made]
    assert store.sandbox(1) is None
    assert store.sandbox_of("/other", "web") is None
    assert store.sandboxes_of(ROOT, "web", 4026532812) == (made, made)
    assert store.sandboxes_of(ROOT, "web", 1) == (made, None)
    assert store.sandboxes_of("/other", "web", 4026532812) == (None, made)
    assert store.sandboxes_of("/other", "web", 1) == (None, None)
    assert store.sandbox_named("db") is None
    assert store.by_key(made.key + 1) is None


def test_many_sandboxes_are_made_as_each_would_be(store: LeaseStore) -> None:
    """One that cannot be is left out with the reason, and takes nothing from the others."""
    asked = [
        (container("a", 1), [DEFAULT], Request(ports=(HTTP,)), UNLIMITED),
        (container("b", 2), [DEFAULT], Request(ports=(HTTP,)), UNLIMITED),
        (container("c", 3), [DEFAULT, DUAL], Request(), UNLIMITED),
    ]
    first, refused, last = store.create_sandboxes(asked)
    assert isinstance(refused, InvalidRequest)
    assert "sandbox" in str(refused)
    assert store.sandboxes() == [first, last]
    assert [addresses(made) for made in store.sandboxes()] == [
        ["172.19.0.2/16"],
        ["172.19.0.3/16", "10.8.0.2/24", "fd00::2/64"],
    ]


def test_the_store_outlives_its_program(path: Path) -> None:
    with LeaseStore.open(path) as store:
        made = store.create_sandbox(container("web"), [DUAL], Request(ports=(HTTP,)))
    with LeaseStore.open(path) as store:
        assert store.sandboxes() == [made]


def test_a_sandbox_without_networks(store: LeaseStore) -> None:
    assert store.create_sandbox(container("web"), [], Request()).interfaces == ()


def test_a_network_without_subnets_still_has_a_mac(store: LeaseStore) -> None:
    bare = Network(name="bare", subnets=())
    macs = [
        store.create_sandbox(container(f"c{n}", n), [bare], Request()).interfaces[0].mac
        for n in (1, 2)
    ]
    assert len(set(macs)) == 2


def test_a_container_that_has_ended_gets_no_sandbox(store: LeaseStore) -> None:
    ended = Container(ROOT, "web", Process(1, 1), "", {}, Namespace.OWN, "", None)
    with pytest.raises(ValueError, match="web"):
        store.create_sandbox(ended, [DEFAULT], Request())


def test_a_key_is_never_used_twice(store: LeaseStore) -> None:
    first = store.create_sandbox(container("a"), [DEFAULT], Request())
    store.release(first.key)
    assert store.create_sandbox(container("a"), [DEFAULT], Request()).key > first.key


# Addresses


def test_fixed_addresses_and_mac(store: LeaseStore) -> None:
    request = Request(
        addresses=(IPv4Address("10.8.0.50"), IPv6Address("fd00::50")), mac="02:00:00:00:00:07"
    )
    made = store.create_sandbox(container("web"), [DUAL], request)
    assert addresses(made) == ["10.8.0.50/24", "fd00::50/64"]
    assert made.interfaces[0].mac == "02:00:00:00:00:07"
    assert addresses(store.create_sandbox(container("db", 2), [DUAL], Request())) == [
        "10.8.0.2/24",
        "fd00::2/64",
    ]


def test_a_fixed_address_that_is_held(store: LeaseStore) -> None:
    asked = Request(addresses=(IPv4Address("172.19.0.50"),))
    before = [store.create_sandbox(container("web"), [DEFAULT], asked)]
    with pytest.raises(InvalidRequest) as caught:
        store.create_sandbox(container("db", 2), [TINY, DEFAULT], asked)
    assert caught.value.key == "io.watcher.ip"
    assert caught.value.value == "172.19.0.50"
    assert caught.value.reason == '172.19.0.50 is held by sandbox "web"'
    assert caught.value.remedy
    assert store.sandboxes() == before


def test_a_fixed_mac_that_is_in_use_in_that_network(store: LeaseStore) -> None:
    asked = Request(mac="02:00:00:00:00:07")
    store.create_sandbox(container("web"), [DEFAULT], asked)
    with pytest.raises(InvalidRequest) as caught:
        store.create_sandbox(container("db", 2), [DEFAULT], asked)
    assert caught.value.key == "io.watcher.mac"
    assert caught.value.reason == '02:00:00:00:00:07 is in use in network default by sandbox "web"'
    assert store.create_sandbox(container("db", 2), [TINY], asked).interfaces[0].mac == asked.mac


def test_a_derived_mac_gives_way_to_one_that_was_asked_for(store: LeaseStore) -> None:
    store.create_sandbox(container("web"), [DEFAULT], Request(mac="02:42:ac:13:00:03"))
    made = store.create_sandbox(container("db", 2), [DEFAULT], Request())
    assert addresses(made) == ["172.19.0.3/16"]
    assert made.interfaces[0].mac.startswith("02:43:")


def test_a_full_network(store: LeaseStore) -> None:
    before = [store.create_sandbox(container("web"), [TINY], Request())]
    with pytest.raises(InvalidRequest) as caught:
        store.create_sandbox(container("db", 2), [DEFAULT, TINY], Request())
    assert (caught.value.key, caught.value.value) == ("io.watcher.network", "tiny")
    assert caught.value.reason == "no free address in 10.9.0.0/30 (1 in use)"
    assert store.sandboxes() == before
    assert addresses(store.create_sandbox(container("db", 2), [DEFAULT], Request())) == [
        "172.19.0.2/16"
    ]


@pytest.mark.parametrize("text", ["172.19.0.0/31", "172.19.0.0/32", "fd00::/127", "fd00::/128"])
def test_a_subnet_too_small_for_any_sandbox(store: LeaseStore, text: str) -> None:
    subnet = IPv6Network(text) if ":" in text else IPv4Network(text)
    with pytest.raises(InvalidRequest, match="no free address"):
        store.create_sandbox(container("a"), [Network(subnets=(subnet,))], Request())


def test_a_container_that_comes_back_gets_the_address_that_it_had(store: LeaseStore) -> None:
    for n, name in enumerate(("a", "b", "c")):
        store.create_sandbox(container(name, n), [DUAL], Request())
    had = store.sandbox_named("b")
    assert had is not None
    store.release(had.key)
    store.create_sandbox(container("d", 9), [DUAL], Request())
    again = store.create_sandbox(container("b", 10), [DUAL], Request())
    assert addresses(again) == addresses(had) == ["10.8.0.3/24", "fd00::3/64"]


def test_of_two_addresses_that_a_container_had_it_gets_the_last(store: LeaseStore) -> None:
    for n, last in enumerate(("172.19.0.70", "172.19.0.9", "172.19.0.40")):
        asked = Request(addresses=(IPv4Address(last),))
        store.release(store.create_sandbox(container("a", n), [DEFAULT], asked).key)
    made = store.create_sandbox(container("a", 9), [DEFAULT], Request())
    assert addresses(made) == ["172.19.0.40/16"]
    assert addresses(store.create_sandbox(container("b", 10), [DEFAULT], Request())) == [
        "172.19.0.2/16"
    ]


def test_a_container_of_another_root_is_another(store: LeaseStore) -> None:
    store.release(store.create_sandbox(container("a"), [DEFAULT], Request()).key)
    other = store.create_sandbox(container("a", 2, root="/run/other"), [DEFAULT], Request())
    assert addresses(other) == ["172.19.0.3/16"]


def test_a_freed_address_is_the_last_to_be_handed_out_again(store: LeaseStore) -> None:
    network = Network(subnets=(IPv4Network("10.0.0.0/29"),))
    keys = [store.create_sandbox(container(f"a{n}", n), [network], Request()).key for n in range(3)]
    for n in (1, 0, 2):
        store.release(keys[n])
    got = [
        addresses(store.create_sandbox(container(f"b{n}", n), [network], Request()))
        for n in range(5)
    ]
    assert got == [[f"10.0.0.{n}/29"] for n in (5, 6, 3, 2, 4)]


def test_the_address_of_a_container_that_never_came_back_is_somebody_elses(
    store: LeaseStore,
) -> None:
    store.release(store.create_sandbox(container("a"), [TINY], Request()).key)
    taken = store.create_sandbox(container("b", 2), [TINY], Request())
    assert addresses(taken) == ["10.9.0.2/30"]
    with pytest.raises(InvalidRequest):
        store.create_sandbox(container("a", 3), [TINY], Request())
    store.release(taken.key)
    assert addresses(store.create_sandbox(container("a", 4), [TINY], Request())) == ["10.9.0.2/30"]


def test_addresses_of_the_kernel_are_adopted(store: LeaseStore) -> None:
    store.create_sandbox(container("a"), [DUAL], Request())
    has = {
        "dual": [ip_address("10.8.0.2"), ip_address("10.8.0.77"), ip_address("fd00:1::5")],
        "other": [ip_address("fd00::99")],
    }
    made = store.create_sandbox(container("b", 2), [DUAL], Request(), has)
    assert addresses(made) == ["10.8.0.77/24", "fd00::3/64"]
    fixed = Request(addresses=(IPv4Address("10.8.0.9"),))
    made = store.create_sandbox(
        container("c", 3), [DUAL], fixed, {"dual": [ip_address("10.8.0.78")]}
    )
    assert addresses(made) == ["10.8.0.9/24", "fd00::4/64"]


def test_a_subnet_of_the_configuration_changes(store: LeaseStore) -> None:
    old = Network(subnets=(IPv4Network("10.0.0.0/24"),))
    new = Network(subnets=(IPv4Network("10.0.0.0/29"),))
    far, near = (
        store.create_sandbox(container(name, n), [old], Request(addresses=(IPv4Address(ip),)))
        for n, (name, ip) in enumerate([("far", "10.0.0.200"), ("near", "10.0.0.3")])
    )
    store.release(store.create_sandbox(container("gone", 7), [old], Request()).key)
    first = store.create_sandbox(container("a", 8), [new], Request())
    assert addresses(first) == ["10.0.0.4/29"]
    assert store.sandboxes()[:2] == [far, near]
    store.release(far.key)
    store.release(near.key)
    got = [store.create_sandbox(container(f"b{n}", 9 + n), [new], Request()) for n in range(4)]
    assert [addresses(made)[0] for made in got] == [
        "10.0.0.5/29",
        "10.0.0.6/29",
        "10.0.0.2/29",
        "10.0.0.3/29",
    ]


def test_memory_is_bounded_where_addresses_are_not(store: LeaseStore, path: Path) -> None:
    for n in range(20):
        asked = Request(addresses=(IPv6Address("fd00::1:0:0") + n,))
        store.release(store.create_sandbox(container(f"c{n}", n), [DUAL], asked).key)
    with sqlite3.connect(path) as db:
        (rows,) = db.execute("SELECT count(*) FROM address WHERE family = 6").fetchone()
    db.close()
    assert rows == 0


def test_address_types_survive(store: LeaseStore) -> None:
    made = store.create_sandbox(container("web"), [DUAL], Request())
    found: list[Address] = [a.ip for link in made.interfaces for a in link.addresses]
    assert found == [IPv4Address("10.8.0.2"), IPv6Address("fd00::2")]


# Members


def test_containers_join_and_leave(store: LeaseStore) -> None:
    made = store.create_sandbox(container("web"), [DEFAULT], Request(ports=(HTTP,)))
    side = PortMap("tcp", None, 9000, 9000)
    joined = store.join(container("side", 2), made.key, Request(ports=(side,)))
    assert [member.id for member in joined.members] == ["web", "side"]
    assert joined.pins == ("web", "side")
    assert joined.ports == (HTTP, side)
    assert store.sandbox_of(ROOT, "side") == joined
    store.leave(ROOT, "web")
    left = store.by_key(made.key)
    assert left is not None
    assert (left.id, [member.id for member in left.members]) == ("web", ["side"])
    assert left.pins == ("web", "side")
    assert store.sandbox_named("web") == left
    store.leave(ROOT, "web")
    assert store.by_key(made.key) == left


def test_joining_again_changes_what_is_different(store: LeaseStore, path: Path) -> None:
    made = store.create_sandbox(container("web"), [DEFAULT], Request())
    joined = store.join(container("side", 2), made.key, Request(ports=(HTTP,)))
    journal = path.with_name("leases.db-wal")
    before = journal.stat().st_size
    assert store.join(container("side", 2), made.key, Request(ports=(HTTP,))) == joined
    assert journal.stat().st_size == before
    other = PortMap("tcp", None, 8080, 81)
    again = store.join(container("side", 3), made.key, Request(ports=(other,)))
    assert again.members[1].init == Process(3, 21)
    assert again.ports == (other,)


def test_a_container_that_joins_elsewhere_is_moved(store: LeaseStore) -> None:
    one = store.create_sandbox(container("one"), [DEFAULT], Request())
    two = store.create_sandbox(container("two", 2), [DEFAULT], Request())
    store.join(container("side", 3), one.key, Request(ports=(HTTP,)))
    moved = store.join(container("side", 4), two.key, Request(ports=(HTTP,)))
    assert [member.id for member in moved.members] == ["two", "side"]
    assert store.sandboxes() == [one, moved]


def test_a_founder_leaves_the_sandbox_that_it_was_in(store: LeaseStore) -> None:
    old = store.create_sandbox(container("web"), [DEFAULT], Request(ports=(HTTP,)))
    store.join(container("side", 2), old.key, Request())
    new = store.create_sandbox(container("web", 3), [DEFAULT], Request(ports=(HTTP,)))
    rest = store.by_key(old.key)
    assert rest is not None
    assert rest.pins == ("side",)
    assert new.pins == ("web",)
    assert store.sandbox_named("web") == new
    store.release(new.key)
    rest = store.by_key(old.key)
    assert rest is not None
    assert rest.pins == ("web", "side")


def test_a_name_leads_to_one_sandbox(store: LeaseStore) -> None:
    one = store.create_sandbox(container("web"), [DEFAULT], Request())
    two = store.create_sandbox(container("web", 2, root="/run/other"), [DEFAULT], Request())
    assert [sandbox.pins for sandbox in store.sandboxes()] == [(), ("web",)]
    assert store.sandbox_named("web") == two
    store.leave("/run/other", "web")
    assert [sandbox.pins for sandbox in store.sandboxes()] == [("web",), ()]
    assert store.sandbox_named("web") == store.by_key(one.key)


def test_the_newest_sandbox_of_a_namespace_number_is_meant(store: LeaseStore) -> None:
    old = store.create_sandbox(container("old", 5), [DEFAULT], Request())
    later = replace(container("new", 6), netns=old.netns)
    new = store.create_sandbox(later, [DEFAULT], Request())
    assert store.sandbox(new.netns) == new


def test_joining_a_sandbox_that_is_gone(store: LeaseStore) -> None:
    with pytest.raises(WatcherError, match="released"):
        store.join(container("side"), 7, Request())


def test_a_release_takes_everything_with_it(store: LeaseStore, path: Path) -> None:
    made = store.create_sandbox(container("web"), [DUAL], Request(ports=(HTTP,)))
    store.join(container("side", 2), made.key, Request(ports=(HTTP,)))
    store.release(made.key)
    store.release(made.key)
    assert store.sandboxes() == []
    with sqlite3.connect(path) as db:
        for table in ("sandbox", "member", "claim", "interface"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    db.close()
    store.create_sandbox(container("db", 3), [DUAL], Request(ports=(HTTP,)))


# Flows of addresses that were given back


def test_an_address_is_stale_from_its_release_until_its_flows_have_ended(
    store: LeaseStore, path: Path
) -> None:
    made = store.create_sandbox(container("web"), [DUAL], Request())
    addresses = {a.ip for interface in made.interfaces for a in interface.addresses}
    assert store.stale() == set()
    store.release(made.key)
    assert store.stale() == addresses
    with LeaseStore.open(path) as another:  # that of whoever comes behind a kill
        again = another.create_sandbox(container("web", 2), [DUAL], Request())
        assert {a.ip for interface in again.interfaces for a in interface.addresses} == addresses
        assert another.stale() == another.stale_of(again.key) == addresses
        beside = another.create_sandbox(container("db", 3), [DUAL], Request())
        assert another.stale_of(beside.key) == set()
        another.forget_stale([addresses.pop()])
        assert another.stale_of(again.key) == addresses
        another.forget_stale(addresses)
        assert another.stale_of(again.key) == set()
    assert store.stale() == set()


# Failures


def failure(name: str, at: float = 0.0, *, refused: bool = True) -> Failure:
    return Failure(ROOT, name, Process(1, 2), "io.watcher.ip", "x", "why", refused, at)


def test_a_failure_is_kept_until_it_is_forgotten(store: LeaseStore) -> None:
    one = failure("a", 1.5)
    two = Failure(ROOT, "b", None, "", "\ud800", 'container "b": no', False, 2.5)
    store.fail(one)
    store.fail(two)
    assert [kept.value for kept in store.failures()] == ["x", "\\ud800"]
    later = failure("a", 9.0)
    store.fail(later)
    assert [kept.id for kept in store.failures()] == ["b", "a"]
    assert store.failures()[1] == later
    store.forget_failure(ROOT, "b")
    store.forget_failure(ROOT, "b")
    assert store.failures() == [later]


def test_a_refusal_can_be_spared(store: LeaseStore) -> None:
    store.fail(failure("refused"))
    store.fail(failure("running", refused=False))
    for name in ("refused", "running"):
        store.forget_failure(ROOT, name, refused=False)
    assert store.failures() == [failure("refused")]


def test_the_newest_hundred_refusals_are_kept(store: LeaseStore) -> None:
    store.fail(failure("running", refused=False))
    for n in range(130):
        store.fail(failure(f"c{n}", n))
    assert [kept.id for kept in store.failures()] == ["running"] + [f"c{n}" for n in range(30, 130)]


def test_a_refusal_is_kept_for_an_hour(store: LeaseStore) -> None:
    store.fail(failure("running", refused=False))
    for name, at in (("a", 100.0), ("b", 3600.0), ("c", 3700.0)):
        store.fail(failure(name, at))
    assert [kept.id for kept in store.failures()] == ["running", "b", "c"]


# Names


def test_a_name_leads_to_the_sandbox_of_who_has_it(store: LeaseStore) -> None:
    other = container("other", 9)
    db = store.create_sandbox(container("one"), [DEFAULT], Request(names=("db", "sql")))
    web = store.create_sandbox(container("two", 2), [DEFAULT], Request())
    assert store.sandbox_to_share("DB", other) == db
    assert store.sandbox_to_share("two", other) == web
    assert store.sandbox_to_share("nobody", other) is None

    # An id counts before a name; a container's own name does not count for itself.
    named_two = store.create_sandbox(container("three", 3), [DEFAULT], Request(names=("two",)))
    assert store.sandbox_to_share("two", other) == web
    assert store.sandbox_to_share("sql", container("one")) is None

    store.join(container("three", 3), named_two.key, Request(names=("sql",)))
    with pytest.raises(InvalidRequest, match="several containers have that name: one, three"):
        store.sandbox_to_share("sql", other)
    assert store.sandbox_to_share("sql", container("one")) is not None
    store.leave(ROOT, "one")
    assert store.sandbox_to_share("db", other) is None
    found = store.sandbox_to_share("sql", other)
    assert found is not None
    assert found.key == named_two.key


def test_an_id_of_the_own_root_counts_before_a_newer_one(store: LeaseStore) -> None:
    ours = store.create_sandbox(container("web"), [DEFAULT], Request())
    theirs = store.create_sandbox(container("web", 2, root="/run/other"), [DEFAULT], Request())
    for root, sandbox in ((ROOT, ours), ("/run/other", theirs)):
        shared = store.sandbox_to_share("web", container("side", 3, root=root))
        assert shared is not None
        assert shared.key == sandbox.key
    other = store.sandbox_to_share("web", container("side", 3, root="/run/third"))
    assert other is not None
    assert other.key == theirs.key


# The cost


def test_no_change_reads_a_whole_table(store: LeaseStore, path: Path) -> None:
    store.create_sandbox(container("old", 9), [DUAL], Request(ports=(HTTP,)))
    statements: list[str] = []
    store._database.db.set_trace_callback(statements.append)
    ports = (port(None, 1), port("::1", 2))
    asked = Request(ports=ports, addresses=(IPv4Address("10.8.0.9"),), names=("db", "sql"))
    made = store.create_sandbox(container("web"), [DUAL, DEFAULT], asked)
    store.join(container("side", 2), made.key, Request(ports=(port(None, 3),)))
    store.join(container("side", 3), made.key, Request(ports=(port(None, 4),)))
    store.sandbox(made.netns)
    store.sandbox_of(ROOT, "web")
    store.sandbox_named("web")
    assert store.sandbox_to_share("db", container("side", 3)) is not None
    store.leave(ROOT, "side")
    store.release(made.key)
    store.create_sandbox(container("web"), [DUAL, DEFAULT], Request())
    store.fail(failure("a"))
    store.forget_failure(ROOT, "a")
    store._database.db.set_trace_callback(None)
    db = sqlite3.connect(path)
    plans = [
        (row[3], statement)
        for statement in statements
        if statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))
        for row in db.execute(f"EXPLAIN QUERY PLAN {statement}")
    ]
    db.close()
    assert len(plans) > 40
    bounded = {
        "SCAN CONSTANT ROW",
        "SCAN failure USING INDEX failure_refused",  # the last 101
        "SCAN 5-ROW VALUES CLAUSE",  # how long a range of ports can be
    }
    assert [plan for plan in plans if "SCAN" in plan[0] and plan[0] not in bounded] == []


def test_what_was_read_is_read_again_after_any_change(store: LeaseStore, path: Path) -> None:
    web = container("web")
    made = store.create_sandbox(web, [DEFAULT], Request())
    assert store.by_key(made.key) is store.by_key(made.key)
    sidecar = replace(container("sidecar", 1), netns=web.netns)
    joined = store.join(sidecar, made.key, Request())
    assert store.by_key(made.key) == joined
    with LeaseStore.open(path) as other:  # as `watcher sync` beside the service
        other.leave(sidecar.root, sidecar.id)
    left = store.by_key(made.key)
    assert left is not None
    assert [member.id for member in left.members] == ["web"]
    store.release(made.key)
    assert store.by_key(made.key) is None


def test_no_number_of_a_list_is_that_of_another_in_a_store_that_was_lost(tmp_path: Path) -> None:
    numbers = []
    for name in ("lost", "new"):
        with LeaseStore.open(tmp_path / name) as store:
            numbers.append([store.number_of(f"egress {n}") for n in range(3)])
            store.keep_only(())
            assert store.number_of("egress 9") not in numbers[-1]
    assert not set(numbers[0]) & set(numbers[1])
