"""What must not be there, but is: each is told clearly, and everything else goes on."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.host import BEYOND, GATE_OFF, GATEWAY, UPLINK, Host, HostMaker, Json, Service
from tests.support.traffic import Answer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def host(make_host: HostMaker) -> Host:
    """A host without the gate, where a request that cannot be met is seen as `failed`."""
    return make_host(GATE_OFF)


def goes_on(host: Host, name: str = "good") -> None:
    """A container next to the bad one gets its network, and works."""
    good = host.run(name, ports="7777:80")
    if not host.served:
        host.watcher("sync", check=False)
    eventually(lambda: host.status(name) == "attached")
    good.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, 7777) == Answer(name, BEYOND)


def told_once(service: Service, name: str, *words: str) -> Json:
    """The one entry of the log about a container, with all of `words`."""
    service.logged(name, *words)
    entries = [entry for entry in service.warnings() if f'"{name}"' in json.dumps(entry)]
    entries = entries or [entry for entry in service.warnings() if name in json.dumps(entry)]
    assert len(entries) == 1, entries
    return entries[0]


# --- state.json ------------------------------------------------------------------------------

STATE: dict[str, Any] = {
    "id": "bad",
    "init_process_pid": 1,
    "init_process_start": 1,
    "namespace_paths": {"NEWNET": "/proc/1/ns/net"},
    "config": {"namespaces": [{"type": "NEWNET", "path": ""}], "labels": ["bundle=/nowhere"]},
}


def with_state(**changes: Any) -> str:
    return json.dumps({**STATE, **changes})


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_link_out(path: Path) -> None:
    secret = path.parent.parent.parent / "secret"
    secret.write_text(with_state())
    path.symlink_to(secret)


BAD_STATES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_text(""),
    "cut off": lambda path: path.write_text(with_state()[:-40]),
    "not JSON": lambda path: path.write_text("<xml/>"),
    "not UTF-8": lambda path: path.write_bytes(b'{"id": "\xff\xfe"}'),
    "a list": lambda path: path.write_text("[]"),
    "null": lambda path: path.write_text("null"),
    "pid is a string": lambda path: path.write_text(with_state(init_process_pid="1")),
    "pid is negative": lambda path: path.write_text(with_state(init_process_pid=-1)),
    "pid is too big": lambda path: path.write_text(with_state(init_process_pid=2**70)),
    "config is a list": lambda path: path.write_text(with_state(config=[])),
    "labels are numbers": lambda path: path.write_text(with_state(config={"labels": [1]})),
    "nested deeply": lambda path: path.write_text("[" * 100_000),
    "huge": lambda path: path.write_text(with_state() + " " * 64_000_000),
    "a directory": lambda path: path.mkdir(),
    "a FIFO": make_fifo,
    "a link": make_link_out,
    "a link to itself": lambda path: path.symlink_to("state.json"),
    "a link to nowhere": lambda path: path.symlink_to("/nonexistent"),
}


def put_state(directory: Path, kind: str) -> None:
    """Put one of BAD_STATES into a container's new directory, in one step, as runc does."""
    directory.mkdir(parents=True)
    BAD_STATES[kind](directory / "state-1")
    (directory / "state-1").rename(directory / "state.json")


@pytest.mark.parametrize("kind", BAD_STATES)
def test_a_state_json_that_cannot_be_read(host: Host, kind: str) -> None:
    service = host.service()
    directory = host.root / "bad"
    put_state(directory, kind)

    goes_on(host)
    assert host.fails("bad")
    told_once(service, "bad")
    assert host.veths() == {host.container("good").veth}

    host.command("rm", "-r", str(directory))
    eventually(lambda: set(host.ls()) == {"good"})
    assert service.running


def test_all_of_them_at_once_by_sync_alone(host: Host) -> None:
    for number, kind in enumerate(BAD_STATES):
        put_state(host.root / f"bad{number}", kind)
    goes_on(host)
    rows = host.ls()
    assert {rows[f"bad{number}"]["status"] for number in range(len(BAD_STATES))} == {"failed"}
    done = host.watcher("sync", check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == len(BAD_STATES)


def test_a_state_json_that_is_mended_heals(host: Host) -> None:
    host.service()
    web = host.run("web")
    host.attached("web")
    state = (host.root / "web/state.json").read_text()
    (host.root / "web/state.json").write_text("")
    (host.root / "web/state.json").write_text(state)
    eventually(lambda: host.status("web") == "attached")
    assert web.address


def test_a_state_json_that_is_spoiled_takes_nobodys_network_away(host: Host) -> None:
    """runc never writes one in place, so this is a disk's or a person's fault."""
    service = host.service()
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    state = (host.root / "web/state.json").read_text()
    (host.root / "web/state.json").write_text("{")
    service.logged("web", "is not what runc writes")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    (host.root / "web/state.json").write_text(state)
    eventually(lambda: host.status("web") == "attached")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def test_a_directory_without_a_state_json(host: Host) -> None:
    service = host.service()
    (host.root / "bad").mkdir(parents=True)
    goes_on(host)
    assert host.status("bad") in ("", "waiting")
    assert [entry for entry in service.warnings() if "bad" in json.dumps(entry)] == []


def test_files_and_links_in_the_root_are_no_containers(host: Host) -> None:
    service = host.service()
    host.root.mkdir(exist_ok=True)
    (host.root / "file").write_text("x")
    (host.root / "link").symlink_to("/")
    (host.root / "state.json").write_text("{}")
    goes_on(host)
    assert set(host.ls()) == {"good"}
    assert service.running


def test_state_jsons_that_vanish_while_they_are_read(host: Host) -> None:
    service = host.service()
    script = f"""
    for i in $(seq 300); do
        mkdir -p {host.root}/brief$((i % 7))
        echo '{with_state()}' > {host.root}/brief$((i % 7))/state-x
        mv {host.root}/brief$((i % 7))/state-x {host.root}/brief$((i % 7))/state.json
        rm -r {host.root}/brief$(((i + 3) % 7)) 2>/dev/null
    done
    rm -rf {host.root}/brief*
    """
    host.command("sh", "-c", script)
    goes_on(host)
    eventually(lambda: set(host.ls()) == {"good"})
    assert service.running
    assert "Traceback" not in service.log_text()


# --- pids ------------------------------------------------------------------------------------


def write_state(host: Host, name: str, **changes: Any) -> None:
    directory = host.root / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "state-1").write_text(with_state(id=name, **changes))
    (directory / "state-1").rename(directory / "state.json")


@pytest.mark.parametrize("mode", ["service", "sync"])
def test_a_pid_that_is_gone(host: Host, mode: str) -> None:
    if mode == "service":
        host.service()
    write_state(host, "gone", init_process_pid=4_000_000)
    write_state(host, "reused", init_process_pid=1, init_process_start=123_456_789)
    host.settle()
    eventually(lambda: {row["status"] for row in host.ls().values()} == {"exited"})
    assert host.here.links() - {"netns0"} == {"lo", "uplink"}
    goes_on(host)


def test_a_pid_of_the_hosts_own_processes(host: Host) -> None:
    """A state that claims a namespace of its own for a process in the host's."""
    host.service()
    stat = host.command("cat", "/proc/1/stat").stdout
    start = int(stat.rpartition(")")[2].split()[19])
    before = host.here.picture()
    write_state(host, "host", init_process_pid=1, init_process_start=start)
    eventually(lambda: host.status("host") in ("ignored", "failed"))
    assert host.here.picture() == before
    goes_on(host)


def test_labels_that_are_not_key_and_value(host: Host) -> None:
    """In a state that is otherwise a real container's."""
    elsewhere = host.base / "elsewhere"
    host.bundle("web")
    host.launch("run", "web", "--detach", root=elsewhere)
    state = json.loads((elsewhere / "web/state.json").read_text())
    state["config"]["labels"] += ["nonsense", "", "=", "=x", "io.watcher", "a=b=c"]
    (host.root / "web").mkdir(parents=True)
    (host.root / "web/state.json").write_text(json.dumps(state))
    host.attached("web")


# --- annotations -----------------------------------------------------------------------------

BAD_ANNOTATIONS: list[tuple[dict[str, str], tuple[str, ...]]] = [
    ({"ports": "0:80"}, ("0",)),
    ({"ports": "65536:80"}, ("65536",)),
    ({"ports": "8080:70000"}, ("70000",)),
    ({"ports": "127.0.0.1:80"}, ("127.0.0.1:8080:80",)),
    ({"ports": "9000-9010"}, ("9000-9010:9000-9010",)),
    ({"ports": "80,80/tcp"}, ("80/tcp", "once")),
    ({"ports": ""}, ()),
    ({"ports": "http:80"}, ("http",)),
    ({"ports": "-1:80"}, ("-1",)),
    ({"ports": "8080:80,8080:81"}, ("8080",)),
    ({"ports": "8080:80,127.0.0.1:8080:81"}, ("8080",)),
    ({"ports": "8080:80,"}, ()),
    ({"ports": "9010-9000:9010-9000"}, ("9010-9000",)),
    ({"ports": "9000-9010:80-81"}, ("9000-9010",)),
    ({"ports": "8080:80/icmp"}, ("icmp", "tcp")),
    ({"ports": "300.1.1.1:8080:80"}, ("300.1.1.1",)),
    ({"ports": "[::g]:8080:80"}, ("::g",)),
    ({"ports": "[{"}, ()),
    ({"ports": '[{"hostPort": "x", "containerPort": 80}]'}, ("hostPort",)),
    ({"ports": '{"hostPort": 8080}'}, ()),
    ({"ip": "172.19.0.300"}, ("172.19.0.300",)),
    ({"ip": "172.20.0.5"}, ("172.20.0.5", "172.19.0.0/16")),
    ({"ip": GATEWAY}, (GATEWAY,)),
    ({"ip": "172.19.0.0"}, ("172.19.0.0",)),
    ({"ip": "172.19.255.255"}, ("172.19.255.255",)),
    ({"ip": "172.19.0.5,172.19.0.6"}, ()),
    ({"ip": "fd00::50"}, ("fd00::50",)),
    ({"mac": "02:42"}, ("02:42",)),
    ({"mac": "01:00:5e:00:00:01"}, ("multicast",)),
    ({"network": "nowhere"}, ("nowhere", "default")),
    ({"network": "defualt"}, ("defualt", "default")),
    ({"network": "default,default"}, ("default",)),
    ({"network": "default,none"}, ("none",)),
    ({"network": "none", "ports": "8080:80"}, ("none",)),
    ({"share": "nobody"}, ("nobody",)),
    ({"share": "../../etc"}, ("../../etc",)),
    ({"share": "web"}, ("web",)),
    ({"port": "8080:80"}, ("io.watcher.port", "io.watcher.ports")),
    ({"Ports": "8080:80"}, ("io.watcher.Ports", "io.watcher.ports")),
    ({"netwrok": "default"}, ("io.watcher.netwrok", "io.watcher.network")),
    ({"": "x"}, ("io.watcher.",)),
    ({"ports": "8080:80\nlevel=info forged"}, ()),
    ({"ports": "x" * 100_000}, ()),
]


@pytest.mark.parametrize(
    ("annotations", "words"),
    BAD_ANNOTATIONS,
    ids=[
        ",".join(f"{key}={value[:24]!r}" for key, value in annotations.items())
        for annotations, _ in BAD_ANNOTATIONS
    ],
)
def test_annotations_that_cannot_be_meant(
    host: Host, annotations: dict[str, str], words: tuple[str, ...]
) -> None:
    service = host.service()
    web = host.run(
        "web", annotations={f"io.watcher.{key}": value for key, value in annotations.items()}
    )
    reason = host.fails("web")

    (key, value), *_ = annotations.items()
    if len(annotations) == 1:
        assert f"io.watcher.{key}" in reason
        if value.isprintable() and len(value) < 100:
            assert json.dumps(value)[1:-1] in reason or value in reason
    for word in words:
        assert word in reason, reason
    assert len(reason.splitlines()) == 1
    assert len(reason) < 1000
    told_once(service, "web", "io.watcher.")
    assert web.place.links() == {"lo"}
    assert host.leftovers() == []
    goes_on(host)


def test_sync_alone_tells_them_on_stderr_and_exits_1(host: Host) -> None:
    host.run("web", ports="0:80")
    host.run("other", annotations={"io.watcher.netwrok": "x"})
    host.run("good")
    done = host.watcher("sync", check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2, done.stderr
    for word in ("web", "io.watcher.ports", "0:80", "other", "io.watcher.netwrok"):
        assert word in done.stderr
    rows = host.ls()
    assert (rows["web"]["status"], rows["good"]["status"]) == ("failed", "attached")


# --- what is taken ---------------------------------------------------------------------------


@pytest.fixture(params=["service", "sync"])
def kept(request: pytest.FixtureRequest, host: Host) -> Host:
    """As `host`, once with `watcher run` and once where only `watcher sync` is run."""
    if request.param == "service":
        host.service()
    return host


def heals(host: Host, name: str) -> None:
    """A container that has failed is attached by itself."""
    host.settle()
    eventually(lambda: host.status(name) == "attached", what=f"the healing of {name}")
    assert not host.inspect(name)["reason"]


def test_a_port_that_another_sandbox_has(kept: Host) -> None:
    first = kept.attach("first", ports="8080:80")
    first.serve(tcp=(80,))
    kept.run("second", ports="8080:80,8081:80").serve(tcp=(80,))
    reason = kept.fails("second")
    for word in ("8080", "first", "io.watcher.ports"):
        assert word in reason
    assert kept.beyond.reach(UPLINK, 8080) == Answer("first", BEYOND)
    assert kept.beyond.reach(UPLINK, 8081, timeout=0.3) is None

    kept.delete("first")
    heals(kept, "second")
    assert kept.beyond.reach(UPLINK, 8080) == Answer("second", BEYOND)
    assert kept.beyond.reach(UPLINK, 8081) == Answer("second", BEYOND)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("8080:80", "127.0.0.1:8080:80"),
        ("127.0.0.1:8080:80", "8080:80"),
        ("0.0.0.0:8080:80", "192.0.2.2:8080:80"),
        ("9000-9010:80-90", "9005:80"),
    ],
)
def test_port_maps_that_overlap(host: Host, first: str, second: str) -> None:
    host.service()
    host.attach("first", ports=first)
    host.run("second", ports=second)
    assert "first" in host.fails("second")


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_that_a_process_of_the_host_listens_on(kept: Host, protocol: str) -> None:
    taken: dict[str, Any] = {protocol: (8080,)}
    server = kept.here.serve(**taken)
    kept.run("web", ports=f"8080:80/{protocol}").serve(tcp=(80,), udp=(80,))
    reason = kept.fails("web")
    for word in ("8080", "io.watcher.ports"):
        assert word in reason
    answer = kept.beyond.reach(UPLINK, 8080, protocol)  # type: ignore[arg-type]
    assert answer == Answer("host", BEYOND)

    server.close()
    heals(kept, "web")
    answer = kept.beyond.reach(UPLINK, 8080, protocol)  # type: ignore[arg-type]
    assert answer == Answer("web", BEYOND)


def test_a_port_that_a_process_listens_on_at_another_address_is_free(host: Host) -> None:
    host.service()
    host.command("ip", "address", "add", "192.0.2.3/24", "dev", "uplink")
    host.here.serve(tcp=(8080,), address="192.0.2.3")
    host.attach("web", ports="192.0.2.2:8080:80").serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert host.beyond.reach("192.0.2.3", 8080) == Answer("host", BEYOND)


def test_an_address_that_is_taken(kept: Host) -> None:
    first = kept.attach("first")
    address = first.address
    kept.run("second", annotations={"io.watcher.ip": address})
    reason = kept.fails("second")
    for word in (address, "first", "io.watcher.ip"):
        assert word in reason

    kept.delete("first")
    heals(kept, "second")
    assert kept.container("second").address == address


@pytest.mark.parametrize("mode", ["service", "sync"])
def test_no_free_address(make_host: HostMaker, mode: str) -> None:
    host = make_host(GATE_OFF + '[network.default]\nsubnets = ["172.19.0.0/30"]\n')
    if mode == "service":
        host.service()
    host.attach("first")
    host.run("second")
    reason = host.fails("second")
    assert "172.19.0.0/30" in reason

    host.delete("first")
    heals(host, "second")


def test_a_mac_that_is_taken(host: Host) -> None:
    host.service()
    host.attach("first", annotations={"io.watcher.mac": "02:42:ac:13:07:32"})
    host.run("second", annotations={"io.watcher.mac": "02:42:ac:13:07:32"})
    reason = host.fails("second")
    for word in ("02:42:ac:13:07:32", "first"):
        assert word in reason
    host.delete("first")
    heals(host, "second")


# --- sharing ---------------------------------------------------------------------------------


def test_a_share_that_the_namespace_contradicts(kept: Host) -> None:
    kept.attach("web")
    kept.run("sidecar", annotations={"io.watcher.share": "web"})
    reason = kept.fails("sidecar")
    for word in ("io.watcher.share", "web", "watcher bundle"):
        assert word in reason
    assert kept.container("sidecar").place.links() == {"lo"}


def test_a_share_of_another_than_the_namespace_is_of(host: Host) -> None:
    host.service()
    host.attach("web")
    host.attach("other")
    host.run(
        "sidecar", netns_path=host.netns_dir / "web", annotations={"io.watcher.share": "other"}
    )
    assert "other" in host.fails("sidecar")


def test_a_share_of_a_container_that_has_vanished(host: Host) -> None:
    host.service()
    web = host.attach("web")
    host.delete("web")
    host.gone(web)
    host.run("sidecar", annotations={"io.watcher.share": "web"})
    assert "web" in host.fails("sidecar")


def test_a_sidecars_port_that_the_first_one_has(host: Host) -> None:
    host.service()
    host.attach("web", ports="8080:80").serve(tcp=(80,))
    host.run("sidecar", netns_path=host.netns_dir / "web", ports="8080:81")
    assert "8080" in host.fails("sidecar")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


# --- leases.db -------------------------------------------------------------------------------


def leases_db(host: Host) -> Path:
    return host.state_dir / "leases.db"


def refused_in_one_line(host: Host, *words: str) -> None:
    done = host.watcher("sync", check=False)
    assert done.returncode == 1, done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_a_lease_store_that_is_corrupt(host: Host) -> None:
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    address = web.address
    for file in host.state_dir.iterdir():
        file.unlink(missing_ok=True)  # a service looks after them at once
    leases_db(host).write_bytes(b"not a database, by any means " * 1000)
    done = host.watcher("ls", check=False)
    assert done.returncode == 1
    assert "run `watcher sync`" in done.stderr
    before = host.watcher("sync", "--dry-run").stdout
    assert leases_db(host).read_bytes().startswith(b"not a database"), "nothing is written"
    assert "is not a lease store" in before
    done = host.watcher("sync")
    aside = host.state_dir / "leases.db.damaged-1"
    assert str(aside) in done.stdout
    assert aside.read_bytes().startswith(b"not a database"), "evidence is kept"
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert web.address == address
    assert host.status("web") == "attached"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("sandbox.id", "CAST(X'77ff0a' AS TEXT)"),
        ("interface.mac", "CAST(X'77ff0a' AS TEXT)"),
        ("address.address", "'no address'"),
        ("claim.host_ip", "'no address'"),
    ],
)
def test_a_lease_store_with_a_text_that_is_none(host: Host, column: str, value: str) -> None:
    web = host.attach("web", ports="8080:80")
    table, _, name = column.partition(".")
    with closing(sqlite3.connect(leases_db(host), isolation_level=None)) as database:
        database.execute(f"UPDATE {table} SET {name} = {value}")
    refused_in_one_line(host, str(leases_db(host)), "damaged", "move it away")
    assert "Traceback" not in host.watcher("ls", check=False).stderr
    leases_db(host).unlink()
    host.watcher("sync")
    assert host.status("web") == "attached"
    assert host.leases() == {web.address: "web"}


def test_a_lease_store_of_a_newer_schema(host: Host) -> None:
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    with closing(sqlite3.connect(leases_db(host))) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        database.execute("PRAGMA user_version = 999")
    refused_in_one_line(host, str(leases_db(host)), "999")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    with closing(sqlite3.connect(leases_db(host))) as database:
        database.execute(f"PRAGMA user_version = {version}")
    assert host.watcher("sync").stdout == "nothing to do\n"


def test_a_service_does_not_start_on_a_lease_store_of_a_newer_schema(host: Host) -> None:
    host.watcher("sync")
    host.attach("web")
    with closing(sqlite3.connect(leases_db(host))) as database:
        database.execute("PRAGMA user_version = 999")
    done = host.watcher("run", check=False, timeout=20)
    assert done.returncode == 1
    assert "leases.db" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_lease_store_that_is_locked(host: Host) -> None:
    service = host.service()
    host.attach("web")
    with closing(sqlite3.connect(leases_db(host), isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        host.run("late", ports="8080:80").serve(tcp=(80,))
        service.logged("leases.db", level="error")
        assert host.container("late").place.links() == {"lo"}
        database.execute("ROLLBACK")
    heals(host, "late")
    assert host.beyond.reach(UPLINK, 8080) == Answer("late", BEYOND)
    assert service.running


def test_a_full_disk(host: Host) -> None:
    host.state_dir.mkdir()
    host.command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(host.state_dir))
    service = host.service()
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    filler = host.state_dir / "filler"
    host.command("dd", "if=/dev/zero", f"of={filler}", "bs=4k", "status=none", check=False)
    host.run("late")
    service.logged("late", level="error")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    host.delete("web")

    host.command("rm", str(filler))
    heals(host, "late")
    eventually(lambda: host.veths() == {host.container("late").veth})
    assert service.running
