"""An upgrade: the present version takes a running host over from every released one, and back.

`tests/releases` keeps the program of each release as an archive that Python imports
(CONTRIBUTING.md, "Releases"). It runs here as it was, with the dependencies of today.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.config.test_reload import reload
from tests.support.closed import closed, rules
from tests.support.dialled import dial
from tests.support.host import BEYOND, GATEWAY, UPLINK, UPLINK6, Container, Host, Json, Service
from tests.support.name_service import NameService, addresses, ask
from tests.support.paths import REPOSITORY
from tests.support.resolv_confs import OURS, READ
from tests.support.traffic import Answer
from tests.support.waiting import eventually
from watcher.containers.ports import parse_ports
from watcher.model.names import DNS_PORT
from watcher.model.request import Request
from watcher.store import schema
from watcher.store.leases import LeaseStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.host import HostMaker
    from tests.support.traffic import Stream

RELEASES: Final = sorted((REPOSITORY / "tests/releases").glob("*.zip"))

GUARD_WAS_A_TABLE: Final = ("0.1.0",)
"""The releases whose guard was a table of nftables."""

released = pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.stem)
however_it_ends = pytest.mark.parametrize("end", ["stop", "kill9"])

TWO: Final = """
[network.default]
subnets = ["172.19.0.0/16", "fd00:19::/64"]

[network.routed]
mode = "routed"
bridge = "routed0"
subnets = ["172.20.0.0/16", "fd00:20::/64"]
"""
FIXED: Final = "172.19.0.50,fd00:19::50"
PORTS: Final = "8080:80/tcp,8080:80/udp,9000-9039:9000-9039,7000-7001:80-81"
MAC: Final = "02:42:ac:13:07:32"
LISTED: Final = ("id", "pid", "root", "status", "network", "address", "ports", "veth", "reason")
"""What every version lists of a container."""

_BETWEEN: Final = 0.005
"""Seconds between what two ends of a connection say, so that others get a word in."""

TOLD: Final = """
    import json, sys
    from dataclasses import asdict, is_dataclass
    from pathlib import Path
    import msgspec
    try:
        from watcher.leases import LeaseStore  # where 0.1.0 has it
    except ImportError:
        from watcher.store.leases import LeaseStore
    with LeaseStore.open(Path(sys.argv[1]), read_only=sys.argv[2] == "read-only") as store:
        told = {
            "sandboxes": store.sandboxes(),
            "failures": store.failures(),
            "notes": {name: store.noted(name) for name in store.notes()},
        }
    def plain(value):
        if is_dataclass(value):  # 0.1.0 has dataclasses
            return asdict(value)
        return msgspec.structs.asdict(value) if isinstance(value, msgspec.Struct) else str(value)
    print(json.dumps(told, default=plain))
"""
SCHEMA: Final = """
    try:
        from watcher import schema  # where 0.1.0 has it
    except ImportError:
        from watcher.store import schema
    print(schema.VERSION)
"""


def made_anew(host: Host, release: Path) -> list[str]:
    """What the present version makes anew on the host of a release, as CHANGELOG.md tells."""
    if release.stem not in GUARD_WAS_A_TABLE:
        return []
    return sorted([*(f"attached {veth}" for veth in host.veths()), "made the nftables table"])


def python(program: Path, script: str, *arguments: object) -> Any:
    """What a script prints, read, that imports `watcher` from `program`."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        env={"PYTHONPATH": str(program)}, cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@dataclass(frozen=True)
class Crowd:
    """Containers of every kind on a host.

    Attributes:
        web: with published ports; `sidecar` is in its sandbox.
        fixed: with addresses and a MAC that it asked for.
        routed: in the routed network, with a published port.
        gone: the address that the container `gone` had.
    """

    web: Container
    sidecar: Container
    fixed: Container
    routed: Container
    gone: str

    @classmethod
    def on(cls, host: Host) -> Crowd:
        """Has them run, and others be refused and vanish, on a host with a service."""
        gone = host.run("gone")
        address = gone.address
        web = host.run("web", ports=PORTS)
        host.delete("gone")
        host.gone(gone)
        crowd = cls(
            web,
            host.run("sidecar", netns_path=host.netns_dir / "web", ports="8090:90"),
            host.run("fixed", annotations={"io.watcher.ip": FIXED, "io.watcher.mac": MAC}),
            host.run("routed", annotations={"io.watcher.network": "routed"}, ports="8081:80"),
            address,
        )
        crowd.web.serve(tcp=(80, 90, 9000, 9039), udp=(80,))
        crowd.routed.serve(tcp=(80,))
        assert crowd.fixed.place.addresses() == ["172.19.0.50/16", "fd00:19::50/64"]
        assert (crowd.fixed.place.link("eth0") or {})["address"] == MAC
        refused(host, "refused", "io.watcher.ip", "10.0.0.1")
        statuses = {name: row["status"] for name, row in host.ls().items()}
        assert statuses == {
            **dict.fromkeys(("web", "fixed", "routed"), "attached"),
            "sidecar": "shared",
            "refused": "failed",
        }
        return crowd

    def all(self) -> tuple[Container, ...]:
        return self.web, self.sidecar, self.fixed, self.routed


def refused(host: Host, name: str, key: str, value: str) -> None:
    """A container that asks for what cannot be had is denied by the gate, and it is said why."""
    host.bundle(name, annotations={key: value})
    assert host.launch("run", name, "--detach", check=False).returncode != 0
    assert key in host.ls()[name]["reason"]


def listed(host: Host) -> dict[str, Json]:
    """`watcher ls`, as far as every version has it."""
    return {name: {key: row[key] for key in LISTED} for name, row in host.ls().items()}


def picture(host: Host, crowd: Crowd) -> Json:
    """Every link, address, MAC, route, pin and lease of a host with those containers."""
    return {
        "host": host.here.picture(),
        "inside": {container.id: container.place.picture() for container in crowd.all()},
        "pins": {name: host.pin_inode(name) for name in host.pins()},
        "leases": host.leases(),
    }


def published(host: Host) -> list[Answer | None]:
    """Who answers at each published port, and in both families; somebody does."""
    answers = [
        host.beyond.reach(UPLINK, 8080),
        host.beyond.reach(UPLINK6, 8080),
        host.beyond.reach(UPLINK, 8080, "udp"),
        host.beyond.reach(UPLINK, 9000),
        host.beyond.reach(UPLINK6, 9039),
        host.beyond.reach(UPLINK, 7000),
        host.beyond.reach(UPLINK, 8090),
        host.beyond.reach(UPLINK6, 8081),
        host.here.reach("127.0.0.1", 8081),
    ]
    assert None not in answers
    return answers


@contextmanager
def talking(*streams: Stream) -> Iterator[None]:
    """Has both ends of each connection talk all the time; one that breaks raises at the end."""
    done = threading.Event()

    def talk(stream: Stream) -> int:
        said = 0
        while not done.wait(_BETWEEN):
            assert stream.say(str(said)) == str(said)
            said += 1
        return said

    with ThreadPoolExecutor(len(streams)) as pool:
        talks = [pool.submit(talk, stream) for stream in streams]
        try:
            yield
        finally:
            done.set()
        assert all(talk.result() > 0 for talk in talks)


def taken_over(host: Host, crowd: Crowd, service: Service, end: str, program: Path) -> Service:
    """Has another version's service take a host over from `service`, without anybody's notice."""
    host.beyond.serve(tcp=(80,))
    streams = (
        host.beyond.stream(UPLINK, 8080),
        host.beyond.stream(UPLINK6, 8081),
        host.here.stream("127.0.0.1", 8080),
        crowd.sidecar.place.stream(BEYOND, 80),
        crowd.fixed.place.stream(crowd.web.address, 80),
    )
    datagrams = host.beyond.datagrams(UPLINK, 8080)
    assert datagrams.ask() == Answer("web", BEYOND)
    before = listed(host), picture(host, crowd), published(host)
    with talking(*streams):
        getattr(service, end)()
        host.program = program
        other = host.service()
        assert host.watcher("sync").stdout == "nothing to do\n"
        assert (listed(host), picture(host, crowd), published(host)) == before
    assert datagrams.ask() == Answer("web", BEYOND)
    return other


def lives_on(host: Host, crowd: Crowd) -> None:
    """On a host that was taken over, containers appear, are refused, and vanish, as ever."""
    pings = ["sh", "-c", f"ping -c1 -W9 {GATEWAY} && ping -c1 -W9 fd00:19::1"]
    assert host.run_to_end("first", pings).stdout.count("1 packets received") == 2
    assert host.run("gone").address == crowd.gone
    refused(host, "late", "io.watcher.ports", "8090:80")

    host.delete("web")
    eventually(lambda: host.beyond.reach(UPLINK, 8080, timeout=0.2) is None)
    assert host.beyond.reach(UPLINK, 8090) == Answer("web", BEYOND)
    for name in ("sidecar", "fixed", "routed", "gone"):
        host.delete(name)
    host.empty()
    assert set(host.ls()) == {"refused", "late"}


def gets_names(host: Host, crowd: Crowd) -> None:
    """Who runs already is found by name, but keeps its own resolv.conf; a new one asks by name."""
    names = NameService(host).hears()
    for name, type_, wanted in (("web", "A", crowd.web.address), ("fixed", "AAAA", "fd00:19::50")):
        answer = ask(crowd.fixed.place, name, type_, server=GATEWAY, port=DNS_PORT)
        assert addresses(answer) == {wanted}
    for container in (crowd.web, crowd.fixed, crowd.routed):
        assert container.exec(*READ).stdout == ""
    resolved = host.run_to_end("new", ("sh", "-c", "cat /etc/resolv.conf; nslookup web")).stdout
    assert resolved.startswith(OURS)
    assert f"Address: {crowd.web.address}" in resolved
    names.stop()


def taken_down(host: Host, service: Service) -> None:
    """`watcher down` takes back what any version has made, and the host is as at first."""
    service.stop()
    host.watcher("down")
    assert host.here.links() == {"lo", "uplink"}
    assert host.sysctl("net/ipv4/ip_forward") == "0"
    assert host.sysctl("net/ipv6/conf/all/forwarding") == "0"
    assert host.nft("list", "tables").stdout == ""
    assert [len(rules(host, version)) for version in (4, 6)] == [3, 2]  # the kernel's own
    assert not host.state_dir.exists()
    assert not host.run_dir.exists()


def turned_away(host: Host, program: Path) -> None:
    """Each command of an older version says in a line that this host is a newer one's."""
    host.program = program
    for command in ("run", "sync", "ls"):
        done = host.watcher(command, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.endswith("upgrade watcher")


def test_there_is_a_release_to_upgrade_from() -> None:
    assert RELEASES
    assert set(GUARD_WAS_A_TABLE) <= {release.stem for release in RELEASES}


@released
@however_it_ends
def test_a_running_host_is_taken_over(make_host: HostMaker, release: Path, end: str) -> None:
    host = make_host(TWO)
    host.program = release
    assert host.watcher("--version").stdout == f"watcher {release.stem}\n"
    service = host.service()
    crowd = Crowd.on(host)
    anew = made_anew(host, release)
    now = taken_over(host, crowd, service, end, REPOSITORY)
    now.logged("ready")  # behind all that was told of the start
    repaired = [entry["what"] for entry in now.log() if entry["event"] == "repaired"]
    assert sorted(repaired) == anew
    gets_names(host, crowd)
    lives_on(host, crowd)
    taken_down(host, now)


WALLED: Final = TWO.replace("\nsubnets", f'\negress = ["{BEYOND}:443/tcp"]\nsubnets')


@released
def test_lists_hold_those_who_ran_before(make_host: HostMaker, release: Path) -> None:
    """A reload gives their networks lists; what they have opened goes on, and nothing new opens."""
    host = make_host(TWO)
    host.program = release
    service = host.service()
    crowd = Crowd.on(host)
    service.stop()
    host.program = REPOSITORY
    now = host.service()
    host.beyond.serve(tcp=(80, 443))
    streams = (
        host.beyond.stream(UPLINK, 8080),
        host.beyond.stream(UPLINK6, 8081),
        host.here.stream("127.0.0.1", 8080),
        crowd.sidecar.place.stream(BEYOND, 80),
        crowd.routed.place.stream(BEYOND, 80),
    )
    leases = host.leases()
    with talking(*streams):
        reload(host, now, WALLED)
        late = host.attach("late")
        for container in (*crowd.all(), late):
            assert dial(container, BEYOND, 443) == "open", container.id
            assert dial(container, BEYOND, 80) != "open", container.id
        for container in (crowd.fixed, crowd.routed, late):
            assert dial(container, crowd.web.address, 80) != "open", container.id
        assert host.watcher("sync").stdout == "nothing to do\n"
        assert None not in published(host)
    assert leases.items() <= host.leases().items()
    assert closed(host) == {"netns0"}
    host.delete("late")
    reload(host, now, TWO)
    assert dial(crowd.fixed, BEYOND, 80) == "open"
    assert dial(crowd.fixed, crowd.web.address, 80) == "open"
    assert closed(host) == set()
    lives_on(host, crowd)
    taken_down(host, now)


@released
def test_its_service_goes_on_until_it_is_replaced(make_host: HostMaker, release: Path) -> None:
    """Between the installation of a new version and the restart there is one of each."""
    host = make_host(TWO)
    host.program = release
    service = host.service()
    crowd = Crowd.on(host)
    before = listed(host), picture(host, crowd)

    host.program = REPOSITORY
    repairs = json.loads(host.watcher("sync", "--dry-run", "--json").stdout)
    assert sorted(repair["what"] for repair in repairs) == made_anew(host, release)
    assert (listed(host), picture(host, crowd)) == before
    lives_on(host, crowd)
    host.program = release
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert service.running


@released
def test_sync_leaves_the_lease_store_of_a_running_older_service_alone(
    make_host: HostMaker, release: Path
) -> None:
    """Once migrated, that service could write to it no more, nor be started again."""
    if python(release, SCHEMA) == schema.VERSION:
        return
    host = make_host(TWO)
    host.program = release
    service = host.service()
    crowd = Crowd.on(host)
    before = listed(host), picture(host, crowd), stored(host)

    host.program = REPOSITORY
    for command in (["sync"], ["network", "rm", "routed"]):
        done = host.watcher(*command, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert f"has schema {python(release, SCHEMA)}, and process " in line
        assert line.endswith("restart that service, e.g. `systemctl restart watcher`")
    assert (listed(host), picture(host, crowd), stored(host)) == before
    assert service.running
    lives_on(host, crowd)

    service.stop()
    repairs = json.loads(host.watcher("sync", "--json").stdout)
    assert sorted(repair["what"] for repair in repairs) == made_anew(host, release)
    assert stored(host)[0] == schema.VERSION


def stored(host: Host) -> tuple[int | None, list[str]]:
    """The version of the lease store, and what tables it has."""
    with closing(sqlite3.connect(host.state_dir / "leases.db")) as db:
        return schema.version_of(db), db.execute("SELECT sql FROM sqlite_schema").fetchall()


@released
def test_a_release_takes_the_host_back_or_says_why_not(make_host: HostMaker, release: Path) -> None:
    host = make_host(TWO)
    service = host.service()
    crowd = Crowd.on(host)
    if python(release, SCHEMA) < schema.VERSION:
        service.stop()
        turned_away(host, release)
        return
    then = taken_over(host, crowd, service, "stop", release)
    lives_on(host, crowd)
    taken_down(host, then)


@released
def test_a_release_leaves_the_host_of_a_newer_schema_alone(
    make_host: HostMaker, release: Path
) -> None:
    host = make_host(TWO)
    service = host.service()
    crowd = Crowd.on(host)
    before = picture(host, crowd), published(host)
    service.stop()
    with closing(sqlite3.connect(host.state_dir / "leases.db")) as db:
        db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    turned_away(host, release)
    assert (picture(host, crowd), published(host)) == before


@released
@however_it_ends
def test_its_lease_store_has_all_that_it_had(
    make_host: HostMaker, tmp_path: Path, release: Path, end: str
) -> None:
    host = make_host(TWO)
    host.program = release
    service = host.service()
    Crowd.on(host)
    getattr(service, end)()

    file = shutil.copytree(host.state_dir, tmp_path / "now") / "leases.db"
    of_then = shutil.copytree(host.state_dir, tmp_path / "then") / "leases.db"
    told = python(release, TOLD, of_then, "read-only")
    assert [sandbox["id"] for sandbox in told["sandboxes"]] == ["web", "fixed", "routed"]
    assert [failure["id"] for failure in told["failures"]] == ["refused"]
    assert "ruleset" in told["notes"]
    before = file.read_bytes()
    assert as_was(python(REPOSITORY, TOLD, file, "read-only"), told) == told
    assert file.read_bytes() == before
    assert as_was(python(REPOSITORY, TOLD, file, "read-write"), told) == told
    with LeaseStore.open(file, read_only=True) as store:
        (web, sidecar), (fixed,), (routed,) = (sandbox.members for sandbox in store.sandboxes())
    assert web.asked == Request(ports=parse_ports(PORTS))
    assert web.asked.ports == web.ports  # one for each range, and not for each port
    assert sidecar.asked == Request(ports=parse_ports("8090:90"))
    assert fixed.asked == Request()
    assert routed.asked == Request(networks=("routed",), ports=parse_ports("8081:80"))
    with closing(sqlite3.connect(file)) as db:
        assert schema.version_of(db) == schema.VERSION
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []


def as_was(now: Any, before: Any) -> Any:
    """`now` without what `before` has no key for: a newer version may know more."""
    if isinstance(before, dict):
        return {key: as_was(now[key], value) for key, value in before.items()}
    if isinstance(before, list):
        if before and "host_port" in before[0]:
            now = [one for port in now for one in singles(port)]
        return [as_was(*pair) for pair in zip(now, before, strict=True)]
    return now


def singles(port: Json) -> list[Json]:
    """A port map of today as versions before 0.2 have it: one for each port."""
    return [
        port | {"host_port": port["host_port"] + n, "port": port["port"] + n}
        for n in range(port["length"])
    ]
