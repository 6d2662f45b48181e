"""Published ports in the lease store: which of them may be beside which."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.leases import DEFAULT, DUAL, HTTP, ROOT, container, port, rows
from watcher.containers.ports import merged, parse_ports
from watcher.model.errors import InvalidRequest
from watcher.model.request import PortMap, Request
from watcher.store import schema
from watcher.store.leases import LeaseStore


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
    before = [store.create_sandbox(container("web"), [DEFAULT], Request(ports=(theirs,)))]
    if not clash:
        store.create_sandbox(container("db", 2), [DEFAULT], Request(ports=(mine,)))
        return
    with pytest.raises(InvalidRequest) as caught:
        store.create_sandbox(container("db", 2), [DEFAULT], Request(ports=(port("::9", 1), mine)))
    assert caught.value.key == "io.watcher.ports"
    assert caught.value.value == str(mine)
    assert caught.value.reason == f'{mine} conflicts with {theirs} of sandbox "web"'
    assert caught.value.remedy == 'publish another port of the host, or stop "web"'
    assert store.sandboxes() == before


def test_other_protocols_and_ports_do_not_clash(store: LeaseStore) -> None:
    store.create_sandbox(container("web"), [DEFAULT], Request(ports=(HTTP,)))
    others = (PortMap("udp", None, 8080, 80), PortMap("tcp", None, 8081, 80))
    assert (
        store.create_sandbox(container("db", 2), [DEFAULT], Request(ports=others)).ports == others
    )


def test_ports_within_a_sandbox(store: LeaseStore) -> None:
    made = store.create_sandbox(container("web"), [DEFAULT], Request(ports=(port(None),)))
    joined = store.join(
        container("same", 2), made.key, Request(ports=(port(None), port("127.0.0.1")))
    )
    with pytest.raises(InvalidRequest) as caught:
        store.join(container("side", 3), made.key, Request(ports=(port("127.0.0.1", target=81),)))
    assert caught.value.reason.endswith("of this sandbox")
    with pytest.raises(InvalidRequest):
        store.join(container("same", 2), made.key, Request(ports=(port("::1", target=81),)))
    with pytest.raises(InvalidRequest):
        store.join(
            container("side", 3), made.key, Request(ports=(port(None, 1, 1), port(None, 1, 2)))
        )
    assert store.by_key(made.key) == joined


def test_thousands_of_ports(store: LeaseStore) -> None:
    ports = tuple(PortMap("tcp", None, n, n) for n in range(1, 20001))
    made = store.create_sandbox(container("web"), [DEFAULT], Request(ports=merged(ports)))
    assert made.ports == (PortMap("tcp", None, 1, 1, 20000),)
    assert store.by_key(made.key) == made
    assert rows(store, "claim") == 1
    with pytest.raises(InvalidRequest, match="20000:1/tcp"):
        store.create_sandbox(
            container("db", 2), [DEFAULT], Request(ports=(port(None, 20001), port(None, 20000, 1)))
        )


@pytest.mark.parametrize(
    ("theirs", "mine", "told"),
    [
        ("9000-9010:80-90", "9005:80", "9005:80/tcp conflicts with 9005:85/tcp"),
        ("9005:80", "9000-9010:80-90", "9005:85/tcp conflicts with 9005:80/tcp"),
        ("9000-9010:80-90", "9010-9020:80-90", "9010:80/tcp conflicts with 9010:90/tcp"),
        ("1-65535:1-65535", "65535:80", "65535:80/tcp conflicts with 65535:65535/tcp"),
        ("65535:80", "1-65535:1-65535", "65535:65535/tcp conflicts with 65535:80/tcp"),
        ("7000-7300:80-380", "7300:80,7001:80", "7300:80/tcp conflicts with 7300:380/tcp"),
        ("80:1,5:1", "1-100:1-100", "5:5/tcp conflicts with 5:1/tcp"),
        ("[::1]:9000-9999:1-1000", "[::]:9500:80", "[::]:9500:80/tcp conflicts with [::1]:9500"),
    ],
)
def test_ranges_that_clash(store: LeaseStore, theirs: str, mine: str, told: str) -> None:
    store.create_sandbox(container("web"), [DUAL], Request(ports=parse_ports(theirs)))
    with pytest.raises(InvalidRequest) as caught:
        store.create_sandbox(container("db", 2), [DUAL], Request(ports=parse_ports(mine)))
    assert told in caught.value.reason


def test_ranges_that_do_not_clash(store: LeaseStore) -> None:
    for pid, ports in enumerate(
        ("100-199:1-100", "200-299:1-100", "99:1", "300:1", "100-199:1-100/udp",
         "127.0.0.1:400-65535:400-65535", "127.0.0.2:400-65535:400-65535", "[::1]:400:1"),
    ):  # fmt: skip
        store.create_sandbox(container(f"c{pid}", pid), [DUAL], Request(ports=parse_ports(ports)))


def test_ranges_within_a_sandbox(store: LeaseStore) -> None:
    made = store.create_sandbox(
        container("web"), [DEFAULT], Request(ports=parse_ports("100-199:1-100"))
    )
    store.join(container("same", 2), made.key, Request(ports=parse_ports("150-250:51-151")))
    with pytest.raises(InvalidRequest, match="of this sandbox"):
        store.join(container("side", 3), made.key, Request(ports=parse_ports("150-250:52-152")))


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
        with pytest.raises(InvalidRequest, match="9005:1/tcp conflicts with 9005:85/tcp"):
            store.create_sandbox(
                container("db", 2), [DEFAULT], Request(ports=(port(None, 9005, 1),))
            )
        store.join(container("side", 3), web.key, Request(ports=parse_ports("9000-9010:80-90")))


def test_who_publishes_a_port_is_found_by_its_number(store: LeaseStore) -> None:
    assert store.claimed_spans() == {}
    lengths = (1, 2, 16, 17, 256, 900)
    ports = [PortMap("tcp", None, 1000 * n, 80, length) for n, length in enumerate(lengths, 1)]
    ports.append(PortMap("udp", None, 30000, 1, 35536))
    for pid, one in enumerate(ports, 1):
        store.create_sandbox(container(f"c{pid}", pid), [DEFAULT], Request(ports=(one,)))
    spans = store.claimed_spans()
    for protocol, low, high in (("tcp", 1000, 6899), ("udp", 30000, 65535)):
        first, last = spans[protocol]
        assert first == low
        assert high <= last <= 65535
    for one in ports:
        every = (one.host_port - 1, one.host_port, one.last, one.last + 1)
        for asked in every:
            found = store.claims(one.protocol, [asked])
            assert [claim.port for claim in found] == [one] * (asked in every[1:3])
    everything = store.claims("tcp", range(1, 65536))
    assert sorted(claim.port for claim in everything) == ports[:-1]
    assert [(p.root, p.id) for p in store.claims("udp", [40000, 50000])] == [(ROOT, "c7")]
