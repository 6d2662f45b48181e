"""The lease store, on real files: what it gives, to whom, and what becomes of a damaged file."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

import pytest

from watcher.containers.ports import parse_ports
from watcher.model.address import Address
from watcher.model.container import Container, Namespace, Process
from watcher.model.errors import InvalidRequest, WatcherError
from watcher.model.network import Network
from watcher.model.request import PortMap, Request
from watcher.model.sandbox import Sandbox
from watcher.store import schema
from watcher.store.leases import Failure, LeaseStore

DEFAULT = Network()
DUAL = Network(
    name="dual", subnets=(IPv6Network("fd00::/64"), IPv4Network("10.8.0.0/24")), interface="net0"
)
TINY = Network(name="tiny", subnets=(IPv4Network("10.9.0.0/30"),))
HTTP = PortMap("tcp", None, 8080, 80)
ROOT = "/run/runc"
MIB = 1024 * 1024


def container(id: str, pid: int = 100, *, root: str = ROOT, **labels: str) -> Container:  # noqa: A002
    return Container(
        root, id, Process(pid, pid * 7), "/b", labels, Namespace.OWN, "", 4026532000 + pid
    )


def addresses(sandbox: Sandbox) -> list[str]:
    return [str(address) for link in sandbox.interfaces for address in link.addresses]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "leases.db"


@pytest.fixture
def store(path: Path) -> Iterator[LeaseStore]:
    with LeaseStore.open(path) as opened:
        yield opened


def content(path: Path) -> list[Sandbox]:
    with LeaseStore.open(path, read_only=True) as copy:
        return copy.sandboxes()


# What a sandbox gets


def test_a_sandbox_has_all_that_was_asked_for(store: LeaseStore) -> None:
    request = Request(ports=(HTTP, PortMap("udp", IPv6Address("::1"), 53, 53)))
    made = store.found(container("web", 812), [DEFAULT, DUAL], request)
    first, second = made.interfaces
    assert (first.network, first.name, first.host_name) == ("default", "eth0", "netnsv0-812")
    assert (second.network, second.name, second.host_name) == ("dual", "eth1", "netnsv1-812")
    assert addresses(made) == ["172.19.0.2/16", "10.8.0.2/24", "fd00::2/64"]
    assert (first.mac, second.mac) == ("02:42:ac:13:00:02", "02:42:0a:08:00:02")
    assert made.ports == request.ports
    assert (made.id, made.init, made.netns) == ("web", Process(812, 5684), 4026532812)
    assert made.pins == ("web",)


def test_every_way_to_ask_for_a_sandbox_finds_it(store: LeaseStore) -> None:
    made = store.found(container("web", 812), [DEFAULT], Request(ports=(HTTP,)))
    assert store.sandbox(4026532812) == made
    assert store.sandbox_of(ROOT, "web") == made
    assert store.sandbox_named("web") == made
    assert store.by_key(made.key) == made
    assert store.sandboxes() == [made]
    assert store.sandbox(1) is None
    assert store.sandbox_of("/other", "web") is None
    assert store.sandbox_named("db") is None
    assert store.by_key(made.key + 1) is None


def test_the_store_outlives_its_program(path: Path) -> None:
    with LeaseStore.open(path) as store:
        made = store.found(container("web"), [DUAL], Request(ports=(HTTP,)))
    with LeaseStore.open(path) as store:
        assert store.sandboxes() == [made]


def test_a_sandbox_without_networks(store: LeaseStore) -> None:
    assert store.found(container("web"), [], Request()).interfaces == ()


def test_a_network_without_subnets_still_has_a_mac(store: LeaseStore) -> None:
    bare = Network(name="bare", subnets=())
    macs = [store.found(container(f"c{n}", n), [bare], Request()).interfaces[0].mac for n in (1, 2)]
    assert len(set(macs)) == 2


def test_a_container_that_has_ended_gets_no_sandbox(store: LeaseStore) -> None:
    ended = Container(ROOT, "web", Process(1, 1), "", {}, Namespace.OWN, "", None)
    with pytest.raises(ValueError, match="web"):
        store.found(ended, [DEFAULT], Request())


def test_a_key_is_never_used_twice(store: LeaseStore) -> None:
    first = store.found(container("a"), [DEFAULT], Request())
    store.release(first.key)
    assert store.found(container("a"), [DEFAULT], Request()).key > first.key


# Addresses


def test_fixed_addresses_and_mac(store: LeaseStore) -> None:
    request = Request(
        addresses=(IPv4Address("10.8.0.50"), IPv6Address("fd00::50")), mac="02:00:00:00:00:07"
    )
    made = store.found(container("web"), [DUAL], request)
    assert addresses(made) == ["10.8.0.50/24", "fd00::50/64"]
    assert made.interfaces[0].mac == "02:00:00:00:00:07"
    assert addresses(store.found(container("db", 2), [DUAL], Request())) == [
        "10.8.0.2/24",
        "fd00::2/64",
    ]


def test_a_fixed_address_that_is_held(store: LeaseStore) -> None:
    asked = Request(addresses=(IPv4Address("172.19.0.50"),))
    before = [store.found(container("web"), [DEFAULT], asked)]
    with pytest.raises(InvalidRequest) as caught:
        store.found(container("db", 2), [TINY, DEFAULT], asked)
    assert caught.value.key == "io.watcher.ip"
    assert caught.value.value == "172.19.0.50"
    assert caught.value.reason == '172.19.0.50 is held by sandbox "web"'
    assert caught.value.remedy
    assert store.sandboxes() == before


def test_a_fixed_mac_that_is_in_use_in_that_network(store: LeaseStore) -> None:
    asked = Request(mac="02:00:00:00:00:07")
    store.found(container("web"), [DEFAULT], asked)
    with pytest.raises(InvalidRequest) as caught:
        store.found(container("db", 2), [DEFAULT], asked)
    assert caught.value.key == "io.watcher.mac"
    assert caught.value.reason == '02:00:00:00:00:07 is in use in network default by sandbox "web"'
    assert store.found(container("db", 2), [TINY], asked).interfaces[0].mac == asked.mac


def test_a_derived_mac_gives_way_to_one_that_was_asked_for(store: LeaseStore) -> None:
    store.found(container("web"), [DEFAULT], Request(mac="02:42:ac:13:00:03"))
    made = store.found(container("db", 2), [DEFAULT], Request())
    assert addresses(made) == ["172.19.0.3/16"]
    assert made.interfaces[0].mac.startswith("02:43:")


def test_a_full_network(store: LeaseStore) -> None:
    before = [store.found(container("web"), [TINY], Request())]
    with pytest.raises(InvalidRequest) as caught:
        store.found(container("db", 2), [DEFAULT, TINY], Request())
    assert (caught.value.key, caught.value.value) == ("io.watcher.network", "tiny")
    assert caught.value.reason == "no free address in 10.9.0.0/30 (1 in use)"
    assert store.sandboxes() == before
    assert addresses(store.found(container("db", 2), [DEFAULT], Request())) == ["172.19.0.2/16"]


@pytest.mark.parametrize("text", ["172.19.0.0/31", "172.19.0.0/32", "fd00::/127", "fd00::/128"])
def test_a_subnet_too_small_for_any_sandbox(store: LeaseStore, text: str) -> None:
    subnet = IPv6Network(text) if ":" in text else IPv4Network(text)
    with pytest.raises(InvalidRequest, match="no free address"):
        store.found(container("a"), [Network(subnets=(subnet,))], Request())


def test_a_container_that_comes_back_gets_the_address_that_it_had(store: LeaseStore) -> None:
    for n, name in enumerate(("a", "b", "c")):
        store.found(container(name, n), [DUAL], Request())
    had = store.sandbox_named("b")
    assert had is not None
    store.release(had.key)
    store.found(container("d", 9), [DUAL], Request())
    again = store.found(container("b", 10), [DUAL], Request())
    assert addresses(again) == addresses(had) == ["10.8.0.3/24", "fd00::3/64"]


def test_of_two_addresses_that_a_container_had_it_gets_the_last(store: LeaseStore) -> None:
    for n, last in enumerate(("172.19.0.70", "172.19.0.9", "172.19.0.40")):
        asked = Request(addresses=(IPv4Address(last),))
        store.release(store.found(container("a", n), [DEFAULT], asked).key)
    made = store.found(container("a", 9), [DEFAULT], Request())
    assert addresses(made) == ["172.19.0.40/16"]
    assert addresses(store.found(container("b", 10), [DEFAULT], Request())) == ["172.19.0.2/16"]


def test_a_container_of_another_root_is_another(store: LeaseStore) -> None:
    store.release(store.found(container("a"), [DEFAULT], Request()).key)
    other = store.found(container("a", 2, root="/run/other"), [DEFAULT], Request())
    assert addresses(other) == ["172.19.0.3/16"]


def test_a_freed_address_is_the_last_to_be_handed_out_again(store: LeaseStore) -> None:
    network = Network(subnets=(IPv4Network("10.0.0.0/29"),))
    keys = [store.found(container(f"a{n}", n), [network], Request()).key for n in range(3)]
    for n in (1, 0, 2):
        store.release(keys[n])
    got = [addresses(store.found(container(f"b{n}", n), [network], Request())) for n in range(5)]
    assert got == [[f"10.0.0.{n}/29"] for n in (5, 6, 3, 2, 4)]


def test_the_address_of_a_container_that_never_came_back_is_somebody_elses(
    store: LeaseStore,
) -> None:
    store.release(store.found(container("a"), [TINY], Request()).key)
    taken = store.found(container("b", 2), [TINY], Request())
    assert addresses(taken) == ["10.9.0.2/30"]
    with pytest.raises(InvalidRequest):
        store.found(container("a", 3), [TINY], Request())
    store.release(taken.key)
    assert addresses(store.found(container("a", 4), [TINY], Request())) == ["10.9.0.2/30"]


def test_addresses_of_the_kernel_are_adopted(store: LeaseStore) -> None:
    store.found(container("a"), [DUAL], Request())
    has = {
        "dual": [ip_address("10.8.0.2"), ip_address("10.8.0.77"), ip_address("fd00:1::5")],
        "other": [ip_address("fd00::99")],
    }
    made = store.found(container("b", 2), [DUAL], Request(), has)
    assert addresses(made) == ["10.8.0.77/24", "fd00::3/64"]
    fixed = Request(addresses=(IPv4Address("10.8.0.9"),))
    made = store.found(container("c", 3), [DUAL], fixed, {"dual": [ip_address("10.8.0.78")]})
    assert addresses(made) == ["10.8.0.9/24", "fd00::4/64"]


def test_a_subnet_of_the_configuration_changes(store: LeaseStore) -> None:
    old = Network(subnets=(IPv4Network("10.0.0.0/24"),))
    new = Network(subnets=(IPv4Network("10.0.0.0/29"),))
    far, near = (
        store.found(container(name, n), [old], Request(addresses=(IPv4Address(ip),)))
        for n, (name, ip) in enumerate([("far", "10.0.0.200"), ("near", "10.0.0.3")])
    )
    store.release(store.found(container("gone", 7), [old], Request()).key)
    first = store.found(container("a", 8), [new], Request())
    assert addresses(first) == ["10.0.0.4/29"]
    assert store.sandboxes()[:2] == [far, near]
    store.release(far.key)
    store.release(near.key)
    got = [store.found(container(f"b{n}", 9 + n), [new], Request()) for n in range(4)]
    assert [addresses(made)[0] for made in got] == [
        "10.0.0.5/29",
        "10.0.0.6/29",
        "10.0.0.2/29",
        "10.0.0.3/29",
    ]


def test_memory_is_bounded_where_addresses_are_not(store: LeaseStore, path: Path) -> None:
    for n in range(20):
        asked = Request(addresses=(IPv6Address("fd00::1:0:0") + n,))
        store.release(store.found(container(f"c{n}", n), [DUAL], asked).key)
    with sqlite3.connect(path) as db:
        (rows,) = db.execute("SELECT count(*) FROM address WHERE family = 6").fetchone()
    db.close()
    assert rows == 0


# Members


def test_containers_join_and_leave(store: LeaseStore) -> None:
    made = store.found(container("web"), [DEFAULT], Request(ports=(HTTP,)))
    side = PortMap("tcp", None, 9000, 9000)
    joined = store.join(container("side", 2), made.key, [side])
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
    made = store.found(container("web"), [DEFAULT], Request())
    joined = store.join(container("side", 2), made.key, [HTTP])
    journal = path.with_name("leases.db-wal")
    before = journal.stat().st_size
    assert store.join(container("side", 2), made.key, [HTTP]) == joined
    assert journal.stat().st_size == before
    other = PortMap("tcp", None, 8080, 81)
    again = store.join(container("side", 3), made.key, [other])
    assert again.members[1].init == Process(3, 21)
    assert again.ports == (other,)


def test_a_container_that_joins_elsewhere_is_moved(store: LeaseStore) -> None:
    one = store.found(container("one"), [DEFAULT], Request())
    two = store.found(container("two", 2), [DEFAULT], Request())
    store.join(container("side", 3), one.key, [HTTP])
    moved = store.join(container("side", 4), two.key, [HTTP])
    assert [member.id for member in moved.members] == ["two", "side"]
    assert store.sandboxes() == [one, moved]


def test_a_founder_leaves_the_sandbox_that_it_was_in(store: LeaseStore) -> None:
    old = store.found(container("web"), [DEFAULT], Request(ports=(HTTP,)))
    store.join(container("side", 2), old.key, [])
    new = store.found(container("web", 3), [DEFAULT], Request(ports=(HTTP,)))
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
    one = store.found(container("web"), [DEFAULT], Request())
    two = store.found(container("web", 2, root="/run/other"), [DEFAULT], Request())
    assert [sandbox.pins for sandbox in store.sandboxes()] == [(), ("web",)]
    assert store.sandbox_named("web") == two
    store.leave("/run/other", "web")
    assert [sandbox.pins for sandbox in store.sandboxes()] == [("web",), ()]
    assert store.sandbox_named("web") == store.by_key(one.key)


def test_the_newest_sandbox_of_a_namespace_number_is_meant(store: LeaseStore) -> None:
    store.found(container("old", 5), [DEFAULT], Request())
    new = store.found(container("new", 5), [DEFAULT], Request())
    assert store.sandbox(new.netns) == new


def test_joining_a_sandbox_that_is_gone(store: LeaseStore) -> None:
    with pytest.raises(WatcherError, match="released"):
        store.join(container("side"), 7, [])


def test_a_release_takes_everything_with_it(store: LeaseStore, path: Path) -> None:
    made = store.found(container("web"), [DUAL], Request(ports=(HTTP,)))
    store.join(container("side", 2), made.key, [HTTP])
    store.release(made.key)
    store.release(made.key)
    assert store.sandboxes() == []
    with sqlite3.connect(path) as db:
        for table in ("sandbox", "member", "claim", "interface"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    db.close()
    store.found(container("db", 3), [DUAL], Request(ports=(HTTP,)))


# Ports


def port(text: str | None, host_port: int = 8080, target: int = 80) -> PortMap:
    return PortMap("tcp", None if text is None else ip_address(text), host_port, target)


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        (None, None, True),
        (None, "127.0.0.1", True),
        (None, "0.0.0.0", True),
        (None, "::", True),
        (None, "::1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("0.0.0.0", "::", False),
        ("0.0.0.0", "::1", False),
        ("::", "::1", True),
        ("::", "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("::1", "::1", True),
        ("::1", "127.0.0.1", False),
    ],
)
@pytest.mark.parametrize("swap", [False, True])
def test_ports_of_two_sandboxes(
    store: LeaseStore, one: str | None, other: str | None, clash: bool, swap: bool
) -> None:
    mine, theirs = (port(other), port(one)) if swap else (port(one), port(other))
    before = [store.found(container("web"), [DEFAULT], Request(ports=(theirs,)))]
    if not clash:
        store.found(container("db", 2), [DEFAULT], Request(ports=(mine,)))
        return
    with pytest.raises(InvalidRequest) as caught:
        store.found(container("db", 2), [DEFAULT], Request(ports=(port("::9", 1), mine)))
    assert caught.value.key == "io.watcher.ports"
    assert caught.value.value == str(mine)
    assert caught.value.reason == f'{mine} cannot be beside {theirs} of sandbox "web"'
    assert caught.value.remedy == 'publish another port of the host, or stop "web"'
    assert store.sandboxes() == before


def test_other_protocols_and_ports_do_not_clash(store: LeaseStore) -> None:
    store.found(container("web"), [DEFAULT], Request(ports=(HTTP,)))
    others = (PortMap("udp", None, 8080, 80), PortMap("tcp", None, 8081, 80))
    assert store.found(container("db", 2), [DEFAULT], Request(ports=others)).ports == others


def test_ports_within_a_sandbox(store: LeaseStore) -> None:
    made = store.found(container("web"), [DEFAULT], Request(ports=(port(None),)))
    joined = store.join(container("same", 2), made.key, [port(None), port("127.0.0.1")])
    with pytest.raises(InvalidRequest) as caught:
        store.join(container("side", 3), made.key, [port("127.0.0.1", target=81)])
    assert caught.value.reason.endswith("of this sandbox")
    with pytest.raises(InvalidRequest):
        store.join(container("same", 2), made.key, [port("::1", target=81)])
    with pytest.raises(InvalidRequest):
        store.join(container("side", 3), made.key, [port(None, 1, 1), port(None, 1, 2)])
    assert store.by_key(made.key) == joined


def test_thousands_of_ports(store: LeaseStore) -> None:
    ports = tuple(PortMap("tcp", None, n, n) for n in range(1, 20001))
    made = store.found(container("web"), [DEFAULT], Request(ports=ports))
    assert made.ports == (PortMap("tcp", None, 1, 1, 20000),)
    assert store.by_key(made.key) == made
    assert rows(store, "claim") == 1
    with pytest.raises(InvalidRequest, match="20000:1/tcp"):
        store.found(
            container("db", 2), [DEFAULT], Request(ports=(port(None, 20001), port(None, 20000, 1)))
        )


@pytest.mark.parametrize(
    ("theirs", "mine", "told"),
    [
        ("9000-9010:80-90", "9005:80", "9005:80/tcp cannot be beside 9005:85/tcp"),
        ("9005:80", "9000-9010:80-90", "9005:85/tcp cannot be beside 9005:80/tcp"),
        ("9000-9010:80-90", "9010-9020:80-90", "9010:80/tcp cannot be beside 9010:90/tcp"),
        ("1-65535:1-65535", "65535:80", "65535:80/tcp cannot be beside 65535:65535/tcp"),
        ("65535:80", "1-65535:1-65535", "65535:65535/tcp cannot be beside 65535:80/tcp"),
        ("7000-7300:80-380", "7300:80,7001:80", "7300:80/tcp cannot be beside 7300:380/tcp"),
        ("80:1,5:1", "1-100:1-100", "5:5/tcp cannot be beside 5:1/tcp"),
        ("[::1]:9000-9999:1-1000", "[::]:9500:80", "[::]:9500:80/tcp cannot be beside [::1]:9500"),
    ],
)
def test_ranges_that_clash(store: LeaseStore, theirs: str, mine: str, told: str) -> None:
    store.found(container("web"), [DUAL], Request(ports=parse_ports(theirs)))
    with pytest.raises(InvalidRequest) as caught:
        store.found(container("db", 2), [DUAL], Request(ports=parse_ports(mine)))
    assert told in caught.value.reason


def test_ranges_that_do_not_clash(store: LeaseStore) -> None:
    for pid, ports in enumerate(
        ("100-199:1-100", "200-299:1-100", "99:1", "300:1", "100-199:1-100/udp",
         "127.0.0.1:400-65535:400-65535", "127.0.0.2:400-65535:400-65535", "[::1]:400:1"),
    ):  # fmt: skip
        store.found(container(f"c{pid}", pid), [DUAL], Request(ports=parse_ports(ports)))


def test_ranges_within_a_sandbox(store: LeaseStore) -> None:
    made = store.found(container("web"), [DEFAULT], Request(ports=parse_ports("100-199:1-100")))
    store.join(container("same", 2), made.key, parse_ports("150-250:51-151"))
    with pytest.raises(InvalidRequest, match="of this sandbox"):
        store.join(container("side", 3), made.key, parse_ports("150-250:52-152"))


def test_port_maps_written_one_by_one_by_the_version_before(path: Path) -> None:
    """They are the same ranges as the annotation is read as today: nothing has changed for it."""
    asked = "9000-9009:80-89,8080:80,53-54:53-54/udp,9010:90"
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        schema.migrate(db, schema.MIGRATIONS[:1])
        db.execute("INSERT INTO sandbox (root, id, pid, start, netns) VALUES (?, 'web', 1, 1, 1)",
                   (ROOT,))  # fmt: skip
        db.execute("INSERT INTO member (root, id, pid, start, sandbox) VALUES (?, 'web', 1, 1, 1)",
                   (ROOT,))  # fmt: skip
        singles = [single for port in parse_ports(asked) for single in port.singles()]
        for n, one in enumerate(singles):
            db.execute(
                "INSERT INTO claim (member, position, protocol, host_ip, host_port, port)"
                " VALUES (1, ?, ?, '', ?, ?)",
                (n, one.protocol, one.host_port, one.port),
            )
    with LeaseStore.open(path) as store:
        (web,) = store.sandboxes()
        assert web.ports == parse_ports(asked)
        assert store.by_key(web.key) == web
        with pytest.raises(InvalidRequest, match="9005:1/tcp cannot be beside 9005:85/tcp"):
            store.found(container("db", 2), [DEFAULT], Request(ports=(port(None, 9005, 1),)))
        store.join(container("side", 3), web.key, parse_ports("9000-9010:80-90"))


def rows(store: LeaseStore, table: str) -> int:
    """How many rows a table of the file has."""
    with store._database.reading() as db:
        (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(count)


# Flows of addresses that were given back


def test_an_address_is_stale_from_its_release_until_its_flows_have_ended(
    store: LeaseStore, path: Path
) -> None:
    made = store.found(container("web"), [DUAL], Request())
    addresses = {a.ip for interface in made.interfaces for a in interface.addresses}
    assert store.stale() == set()
    store.release(made.key)
    assert store.stale() == addresses
    with LeaseStore.open(path) as another:  # that of whoever comes behind a kill
        again = another.found(container("web", 2), [DUAL], Request())
        assert {a.ip for interface in again.interfaces for a in interface.addresses} == addresses
        assert another.stale() == addresses
        another.forget_stale(addresses)
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


# The cost


def test_no_change_reads_a_whole_table(store: LeaseStore, path: Path) -> None:
    store.found(container("old", 9), [DUAL], Request(ports=(HTTP,)))
    statements: list[str] = []
    store._database.db.set_trace_callback(statements.append)
    asked = Request(ports=(port(None, 1), port("::1", 2)), addresses=(IPv4Address("10.8.0.9"),))
    made = store.found(container("web"), [DUAL, DEFAULT], asked)
    store.join(container("side", 2), made.key, [port(None, 3)])
    store.join(container("side", 3), made.key, [port(None, 4)])
    store.sandbox(made.netns)
    store.sandbox_of(ROOT, "web")
    store.sandbox_named("web")
    store.leave(ROOT, "side")
    store.release(made.key)
    store.found(container("web"), [DUAL, DEFAULT], Request())
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


# The file


def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        with LeaseStore.open(path) as store:
            store.found(container("web"), [DEFAULT], Request())
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
            assert modes == {0o600}
    finally:
        os.umask(before)


def test_the_narrowest_umask_does_no_harm(path: Path) -> None:
    before = os.umask(0o777)
    try:
        with LeaseStore.open(path):
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_odd_names_of_directories(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c%20 d" / "leases.db"
    with LeaseStore.open(path) as store:
        made = store.found(container("web"), [DEFAULT], Request())
    assert path.exists()
    assert content(path) == [made]


def test_reading_before_the_first_run_makes_nothing(path: Path) -> None:
    with LeaseStore.open(path, read_only=True) as store:
        assert store.sandboxes() == []
        assert store.failures() == []
    assert not path.parent.exists()


def test_reading_an_empty_file(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    assert content(path) == []


def test_reading_makes_no_file(path: Path) -> None:
    with LeaseStore.open(path) as store:
        made = store.found(container("web"), [DEFAULT], Request())
    assert content(path) == [made]
    assert [file.name for file in path.parent.iterdir()] == ["leases.db"]


def test_reading_while_another_writes(store: LeaseStore, path: Path) -> None:
    made = store.found(container("web"), [DEFAULT], Request())
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM member")
    assert content(path) == [made]
    writer.execute("ROLLBACK")
    writer.close()


def test_a_reader_cannot_write(store: LeaseStore, path: Path) -> None:
    store.found(container("web"), [DEFAULT], Request())
    with LeaseStore.open(path, read_only=True) as copy, pytest.raises(WatcherError):
        copy.leave(ROOT, "web")


def test_a_checkpoint_empties_the_journal_into_the_file(store: LeaseStore, path: Path) -> None:
    before = path.stat().st_size
    store.found(container("web"), [DEFAULT], Request())
    store.checkpoint()
    assert path.stat().st_size > before


def test_closing_twice(path: Path) -> None:
    store = LeaseStore.open(path)
    store.close()
    store.close()


def test_two_programs_make_the_file_at_once(path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from watcher.store.leases import LeaseStore
        sys.stdin.readline()
        LeaseStore.open(Path(sys.argv[1])).close()
    """
    children = [python(script, path) for _ in range(8)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        _, errors = child.communicate()
        assert (child.returncode, errors) == (0, "")
    assert content(path) == []


# What can be wrong with it


def randomly(path: Path) -> None:
    path.write_bytes(random.Random(7).randbytes(64 * 1024))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


def cut_short(path: Path) -> None:
    os.truncate(path, 1000)


def overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(random.Random(7).randbytes(32 * 1024))


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
        db.execute("PRAGMA user_version = 1")
    db.close()


@pytest.mark.parametrize("damage", [randomly, cut, cut_short, overwritten, foreign])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_damaged_file(path: Path, damage: Callable[[Path], None], read_only: bool) -> None:
    with LeaseStore.open(path) as store:
        for n in range(50):
            store.found(container(f"c{n}", n), [DEFAULT], Request())
    damage(path)
    before = path.read_bytes()
    with pytest.raises(WatcherError) as caught:
        LeaseStore.open(path, read_only=read_only)
    assert str(path) in caught.value.what
    assert "run `watcher sync`" in caught.value.remedy
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    path.unlink()
    with LeaseStore.open(path) as store:
        assert store.sandboxes() == []


def test_a_file_damaged_while_it_is_open(store: LeaseStore, path: Path) -> None:
    for n in range(50):
        store.found(container(f"c{n}", n), [DEFAULT], Request())
    store.checkpoint()
    store.close()
    with LeaseStore.open(path) as store:
        overwritten(path)
        with suppress(WatcherError):  # it looks at the file, but not at all of it
            store.checkpoint()
        store._database.db.execute("PRAGMA shrink_memory")
        with pytest.raises(WatcherError, match="is damaged"):
            store.sandboxes()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_programs_file(path: Path, read_only: bool) -> None:
    LeaseStore.open(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    db.close()
    with pytest.raises(WatcherError) as caught:
        LeaseStore.open(path, read_only=read_only)
    known = f"schema {schema.VERSION + 1}, and this program knows {schema.VERSION}"
    assert known in caught.value.what
    assert caught.value.remedy == "upgrade watcher"


def test_a_file_that_another_holds_for_too_long(store: LeaseStore, path: Path) -> None:
    made = store.found(container("web"), [DEFAULT], Request())
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(WatcherError, match="is locked by another process"):
        store.release(made.key)
    holder.close()
    assert store.sandboxes() == [made]
    store.release(made.key)


def test_a_state_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(WatcherError, match="cannot be opened"):
        LeaseStore.open(tmp_path / "state" / "leases.db")


def test_a_store_that_is_a_directory(path: Path) -> None:
    path.mkdir(parents=True)
    for read_only in (False, True):
        with pytest.raises(WatcherError, match="cannot be opened"):
            LeaseStore.open(path, read_only=read_only)


def python(script: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system: run as root")

SETUP = """
    import sys, subprocess
    from pathlib import Path
    from watcher.model.network import Network
    from watcher.model.errors import WatcherError
    from watcher.store.leases import LeaseStore
    from watcher.model.container import Container, Namespace, Process
    from watcher.model.request import Request
    def container(n):
        return Container("/r", f"c{n}", Process(n, n), "", {}, Namespace.OWN, "", n)
    state = Path(sys.argv[1])
    path = state / "leases.db"
    def mount(*options):
        subprocess.run(["mount", *options, str(state)], check=True)
"""


def in_a_mount_namespace(script: str, directory: Path) -> None:
    script = textwrap.dedent(SETUP) + textwrap.dedent(script)
    child = python(script, directory, prefix=("unshare", "-m"))
    _, errors = child.communicate()
    assert (child.returncode, errors) == (0, "")


@needs_root
def test_a_full_disk(tmp_path: Path) -> None:
    in_a_mount_namespace(
        """
        mount("-t", "tmpfs", "-o", "size=512k", "tmpfs")
        with LeaseStore.open(path) as store:
            made = [store.found(container(1), [Network()], Request())]
            with (state / "fill").open("wb", buffering=0) as fill:
                try:
                    while True:
                        fill.write(bytes(4096))
                except OSError:
                    pass
            try:
                for n in range(2, 100):
                    made.append(store.found(container(n), [Network()], Request()))
            except WatcherError as error:
                assert "no space left" in error.what, error
                assert "free some space" in error.remedy, error
            else:
                raise AssertionError("it all fits")
            assert store.sandboxes() == made
            (state / "fill").unlink()
            made.append(store.found(container(500), [Network()], Request()))
            assert store.sandboxes() == made
        with LeaseStore.open(path) as store:
            assert store.sandboxes() == made
        """,
        tmp_path,
    )


@needs_root
def test_a_disk_too_full_to_begin(tmp_path: Path) -> None:
    in_a_mount_namespace(
        """
        mount("-t", "tmpfs", "-o", "size=16k", "tmpfs")
        (state / "fill").write_bytes(bytes(12 * 1024))
        try:
            LeaseStore.open(path)
        except WatcherError as error:
            assert "space" in str(error), error
        else:
            raise AssertionError("it fits")
        (state / "fill").unlink()
        mount("-o", "remount,size=1m")
        LeaseStore.open(path).close()
        """,
        tmp_path,
    )


@needs_root
def test_a_read_only_disk(tmp_path: Path) -> None:
    in_a_mount_namespace(
        """
        mount("-t", "tmpfs", "tmpfs")
        with LeaseStore.open(path) as store:
            made = store.found(container(1), [Network()], Request())
        mount("-o", "remount,ro")
        with LeaseStore.open(path, read_only=True) as store:
            assert store.sandboxes() == [made]
        for there in (path, state / "other" / "leases.db"):
            try:
                LeaseStore.open(there)
            except WatcherError as error:
                assert "make its file system writable" in error.remedy, error
            else:
                raise AssertionError("it opened")
        """,
        tmp_path,
    )


@needs_root
def test_a_user_who_may_not(path: Path) -> None:
    LeaseStore.open(path).close()
    path.parent.chmod(0o700)
    script = """
        import os, sys
        from pathlib import Path
        from watcher.model.errors import WatcherError
        from watcher.store.leases import LeaseStore
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
        for read_only in (False, True):
            try:
                LeaseStore.open(Path(sys.argv[1]), read_only=read_only)
            except WatcherError as error:
                assert "run as root" in error.remedy, error
            else:
                raise AssertionError("it opened")
    """
    child = python(script, path)
    _, errors = child.communicate()
    assert (child.returncode, errors) == (0, "")


# Killed at any moment

KILLED = """
    import os, signal, sys
    from ipaddress import IPv4Network
    from pathlib import Path
    from watcher.model.network import Network
    from watcher.store.leases import LeaseStore
    from watcher.model.container import Container, Namespace, Process
    from watcher.model.request import PortMap, Request
    path, verb, left = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    def container(name, n):
        return Container("/run/runc", name, Process(n, n), "", {}, Namespace.OWN, "", n)
    store = LeaseStore.open(path)
    def count(statement):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    store._database.db.set_trace_callback(count)
    if verb == "found":
        store.found(container("db", 2), [Network()], Request(ports=(PortMap("tcp", None, 5, 5),)))
    elif verb == "join":
        store.join(container("side", 3), 1, [PortMap("tcp", None, 6, 6)])
    else:
        store.release(1)
"""


@pytest.mark.parametrize("verb", ["found", "join", "release"])
def test_killed_between_any_two_statements(path: Path, verb: str) -> None:
    with LeaseStore.open(path) as store:
        before = [store.found(container("web"), [DEFAULT], Request(ports=(HTTP,)))]
    for statement in range(1, 100):
        child = python(KILLED, path, verb, statement)
        child.communicate()
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
        with LeaseStore.open(path) as store:
            assert store.sandboxes() == before
            (problem,) = store._database.db.execute("PRAGMA integrity_check").fetchone()
            assert problem == "ok"
            assert store._database.db.execute("PRAGMA foreign_key_check").fetchall() == []
    assert statement > 3
    assert content(path) != before


def test_reading_what_a_killed_program_left(path: Path) -> None:
    LeaseStore.open(path).close()
    script = """
        import os, signal, sys
        from pathlib import Path
        from watcher.store.leases import LeaseStore
        from watcher.model.container import Container, Namespace, Process
        from watcher.model.request import Request
        store = LeaseStore.open(Path(sys.argv[1]))
        made = Container("/r", "web", Process(1, 1), "", {}, Namespace.OWN, "", 1)
        store.found(made, [], Request())
        os.kill(os.getpid(), signal.SIGKILL)
    """
    child = python(script, path)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert [sandbox.id for sandbox in content(path)] == ["web"]


def test_nothing_is_imported_that_takes_long() -> None:
    script = """
        import sys
        import watcher.store.leases
        slow = {"pyroute2", "structlog", "watchdog", "nftables", "asyncio", "hashlib", "logging"}
        assert not slow & set(sys.modules), slow & set(sys.modules)
    """
    child = python(script)
    _, errors = child.communicate()
    assert (child.returncode, errors) == (0, "")


def test_address_types_survive(store: LeaseStore) -> None:
    made = store.found(container("web"), [DUAL], Request())
    found: list[Address] = [a.ip for link in made.interfaces for a in link.addresses]
    assert found == [IPv4Address("10.8.0.2"), IPv6Address("fd00::2")]
