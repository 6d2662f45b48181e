"""What containers asked for: documents in the lease store, and what older files have of it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.containers.ports import parse_ports
from watcher.model.container import Container, Namespace, Process
from watcher.model.errors import WatcherError
from watcher.model.network import Network
from watcher.model.request import PortMap, Request
from watcher.store import documents, schema
from watcher.store.leases import LeaseStore

STORES: Final = Path(__file__).with_name("stores")
"""A file of each schema that no released program has made, as the program made it then."""

DEFAULT: Final = Network()
DUAL: Final = Network(name="dual", subnets=(IPv4Network("10.8.0.0/24"), IPv6Network("fd00::/64")))
ASKED: Final = "9000-9009:80-89,127.0.0.1:8080:80,53-54:53-54/udp,[::1]:9010:90,9011:91"


def container(name: str, pid: int = 100) -> Container:
    init, netns = Process(pid, pid * 7), 4026532000 + pid
    return Container("/run/runc", name, init, "/b", {}, Namespace.OWN, "", netns)


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
numbers = st.integers(1, 65535)
port_maps = st.builds(
    PortMap,
    st.sampled_from(["tcp", "udp", "sctp"]),
    st.none() | addresses,
    numbers,
    numbers,
    numbers,
)
names = st.text("abcz09-", min_size=1, max_size=9)
requests = st.builds(
    Request,
    networks=st.none() | st.lists(names, max_size=3).map(tuple),
    share=st.none() | names,
    ports=st.lists(port_maps, max_size=3).map(tuple),
    addresses=st.lists(addresses, max_size=2).map(tuple),
    mac=st.none() | st.just("02:42:ac:13:07:32"),
    sysctl=st.lists(st.tuples(names, names), max_size=2).map(tuple),
    annotated=st.booleans(),
    names=st.lists(names, max_size=3).map(tuple),
)


@given(requests)
def test_a_document_says_all_that_was_asked_for(request_: Request) -> None:
    assert documents.decode(documents.encode(request_)) == request_


def test_a_document_is_as_it_is_documented() -> None:
    request = Request(
        networks=("default", "back"),
        share="db",
        ports=parse_ports("127.0.0.1:8080:80,9000-9009:80-89/udp"),
        addresses=(ip_address("172.19.0.50"), ip_address("fd00::50")),
        mac="02:42:ac:13:07:32",
        sysctl=(("ipv4/conf/eth0/arp_notify", "1"),),
        annotated=True,
        names=("app", "db"),
    )
    assert json.loads(documents.encode(request)) == {
        "version": 1,
        "networks": ["default", "back"],
        "share": "db",
        "ports": [["tcp", "127.0.0.1", 8080, 80, 1], ["udp", None, 9000, 80, 10]],
        "addresses": ["172.19.0.50", "fd00::50"],
        "mac": "02:42:ac:13:07:32",
        "sysctl": [["ipv4/conf/eth0/arp_notify", "1"]],
        "annotated": True,
        "names": ["app", "db"],
    }
    assert documents.encode(Request()) == '{"version":1}'


def test_a_field_of_a_later_program_is_passed_over() -> None:
    assert documents.decode('{"version":1,"later":[1],"share":"db"}') == Request(share="db")


@pytest.mark.parametrize(
    "document",
    ["", "{", "[]", '{"version":2}', '{"share":1}', '{"addresses":["x"]}', '{"ports":[["tcp"]]}'],
)
def test_a_document_that_is_none_is_said_to_be_damage(tmp_path: Path, document: str) -> None:
    path = tmp_path / "leases.db"
    with LeaseStore.open(path) as store:
        store.create_sandbox(container("web"), [DEFAULT], Request())
        store._database.db.execute("UPDATE member SET asked = ?", (document,))
        with pytest.raises(WatcherError, match=r"is damaged .*; move it away") as caught:
            store.sandboxes()
    assert "\n" not in str(caught.value)


def asked(store: LeaseStore) -> dict[str, Request]:
    return {member.id: member.asked for made in store.sandboxes() for member in made.members}


def test_each_member_has_the_document_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "leases.db"
    of_web = Request(networks=("dual",), addresses=(ip_address("fd00::50"),), annotated=True)
    of_side = Request(share="web", ports=parse_ports(ASKED), annotated=True)
    with LeaseStore.open(path) as store:
        made = store.create_sandbox(container("web"), [DUAL], of_web)
        joined = store.join(container("side", 2), made.key, of_side)
        assert [member.asked for member in joined.members] == [of_web, of_side]
    with LeaseStore.open(path) as store:
        assert store.by_key(made.key) == joined
        assert asked(store) == {"web": of_web, "side": of_side}
        changed = Request(share="web", annotated=True)
        store.join(container("side", 2), made.key, changed)
        assert asked(store) == {"web": of_web, "side": changed}


def test_a_long_document_is_read_once_a_member(tmp_path: Path) -> None:
    """Not once for each of its port maps."""
    ports = tuple(PortMap("tcp", None, n, n) for n in range(1, 6001, 2))
    with LeaseStore.open(tmp_path / "leases.db") as store:
        made = store.create_sandbox(container("web"), [DEFAULT], Request(ports=ports))
        read = 0

        def factory(_: object, row: tuple[object, ...]) -> tuple[object, ...]:
            nonlocal read
            read += sum(len(value) for value in row if isinstance(value, str))
            return row

        store._database.db.row_factory = factory
        assert store.by_key(made.key) == made
        assert read < 4 * len(documents.encode(made.members[0].asked))


# Files of earlier programs


def test_a_file_of_schema_3(tmp_path: Path) -> None:
    file = Path(shutil.copy(STORES / "schema-3.db", tmp_path / "leases.db"))
    with LeaseStore.open(file, read_only=True) as copy:
        before = copy.sandboxes()
    with LeaseStore.open(file) as store:
        assert store.sandboxes() == before
        told = {member.id: (made, member) for made in before for member in made.members}
        ports = "8080:80,127.0.0.1:5353:53/udp,[::1]:8443:443,9000-9039:9000-9039"
        of_web, of_sidecar = (
            Request(ports=parse_ports(ports)),
            Request(ports=parse_ports("8090:90")),
        )
        assert asked(store) == {
            "web": of_web,
            "sidecar": of_sidecar,
            "fixed": Request(networks=("dual",)),
            "both": Request(networks=("dual", "default")),
            "second": Request(),
        }
        assert (told["web"][1].ports, told["sidecar"][1].ports) == (of_web.ports, of_sidecar.ports)
        (link,) = told["fixed"][0].interfaces
        assert link.mac == "02:42:ac:13:07:32"
        assert [str(address) for address in link.addresses] == ["10.8.0.50/24", "fd00::50/64"]
        assert told["second"][0].id == "first"
        assert store.stale() == {ip_address("172.19.0.2")}
        assert [failure.id for failure in store.failures()] == ["refused"]
        assert store.noted("ruleset") == "abc"
        back = store.create_sandbox(container("gone", 200), [DEFAULT], Request())
        assert str(back.interfaces[0].addresses[0].ip) == "172.19.0.2"
    with closing(sqlite3.connect(file)) as db:
        assert schema.version_of(db) == schema.VERSION
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_file_of_schema_4(tmp_path: Path) -> None:
    file = Path(shutil.copy(STORES / "schema-4.db", tmp_path / "leases.db"))
    with LeaseStore.open(file, read_only=True) as copy:
        before = copy.sandboxes()
    with closing(sqlite3.connect(file)) as db:
        assert schema.version_of(db) == 4
    with LeaseStore.open(file) as store:
        assert store.sandboxes() == before
        of_each = {name: (one.share, one.addresses, one.mac) for name, one in asked(store).items()}
        assert of_each == {
            "web": (None, (), None),
            "sidecar": ("web", (), None),
            "fixed": (
                None, (ip_address("10.8.0.50"), ip_address("fd00::50")), "02:42:ac:13:07:32",
            ),
        }  # fmt: skip
        assert [failure.id for failure in store.failures()] == ["refused"]
        assert store.noted("ruleset") == "abc"
        made = store.create_sandbox(container("new", 200), [DEFAULT], Request(names=("db",)))
        assert store.sandbox_to_share("db", container("other", 201)) == made
    with closing(sqlite3.connect(file)) as db:
        assert schema.version_of(db) == schema.VERSION
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_file_of_schema_5(tmp_path: Path) -> None:
    file = Path(shutil.copy(STORES / "schema-5.db", tmp_path / "leases.db"))
    with closing(sqlite3.connect(file)) as db:
        assert schema.version_of(db) == 5
    with LeaseStore.open(file) as store:
        web, both = store.sandboxes()
        assert [(member.id, member.asked.names) for member in web.members] == [
            ("web", ("www",)),
            ("sidecar", ()),
        ]
        assert not web.kept
        assert {interface.member for interface in (*web.interfaces, *both.interfaces)} == {None}
        assert both.networks == ("dual", "default")
        store.leave("/run/runc", "sidecar")
        store.leave("/run/runc", "web")
        left = store.by_key(web.key)
        assert left is not None
        assert left.interfaces == web.interfaces
    with closing(sqlite3.connect(file)) as db:
        assert schema.version_of(db) == schema.VERSION
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
