"""Where something runs out, the container concerned is told so, the rest goes on, and it recovers.

Each of these ends with room again, and then with everybody attached.
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

import pytest

from tests.support.host import BEYOND, GATE_OFF, UPLINK, Container, Host, HostMaker, Service
from tests.support.processes import descriptors as opened
from tests.support.traffic import Answer
from tests.support.waiting import eventually

PORTS_OF_A_BRIDGE: Final = 1023
"""`BR_MAX_PORTS` less one (`net/bridge/br_private.h`)."""

SMALL: Final = '[network.default]\nsubnets = ["172.19.0.0/29"]\n'
ROOM: Final = 5
"""Addresses of `SMALL` for containers."""


def published(host: Host, name: str = "web", port: int = 8080) -> Container:
    web = host.attach(name, ports=f"{port}:80")
    web.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, port) == Answer(name, BEYOND)
    return web


def still_there(host: Host) -> None:
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def reason(host: Host, service: Service, name: str) -> str:
    """What the log says of the container that gets no network; and nothing ever falls over."""
    entry = service.logged("failed", name, level="error")
    assert "Traceback" not in service.log_text()
    assert host.container(name).place.links() == {"lo"}
    still_there(host)
    return str(entry["reason"])


def limit(service: Service, descriptors: int | None) -> None:
    """The service may have so many more descriptors than now; `None`: as many as ever."""
    now = opened(service.pid)
    _, hard = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
    most = hard if descriptors is None else now + descriptors
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (most, hard))


@pytest.mark.parametrize("descriptors", [0, 1, 2, 3, 5])
def test_no_descriptors(make_host: HostMaker, descriptors: int) -> None:
    host = make_host(GATE_OFF)
    service = host.service()
    published(host)
    limit(service, descriptors)
    names = [f"c{number}" for number in range(6)]  # each takes one for good
    for name in names:
        host.run(name)
    service.logged("Too many open files", level="error")
    still_there(host)
    limit(service, None)
    for name in names:
        host.attached(name)
    still_there(host)
    assert "Traceback" not in service.log_text()
    for entry in service.log():  # nothing is taken for missing that could only not be looked at
        assert entry["level"] != "error" or "Too many open files" in entry["reason"], entry


def test_no_descriptors_at_the_gate(host: Host) -> None:
    """Nobody is held for long by a gate that can open nothing."""
    service = host.service()
    published(host)
    limit(service, 0)
    host.bundle("new")
    done = host.launch("run", "new", "--detach", check=False)
    still_there(host)
    limit(service, None)
    if done.returncode != 0:
        host.launch("run", "new", "--detach")
    host.attached("new")
    assert service.running
    assert "Traceback" not in service.log_text()


@pytest.fixture
def disk(host: Host) -> Path:
    """The state directory of `host`, as a file system of its own and as the host sees it."""
    host.state_dir.mkdir()
    host.command("mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(host.state_dir))
    host.configure(GATE_OFF)
    return host.state_dir


def fill(host: Host, disk: Path) -> None:
    host.command("sh", "-c", f"cat /dev/zero > {disk}/filler || true")


def test_a_full_disk_while_the_service_runs(host: Host, disk: Path) -> None:
    service = host.service()
    published(host)
    fill(host, disk)
    names = [f"c{number}" for number in range(30)]
    for name in names:  # SQLite has some room left in its files
        host.run(name)
        if any("no space left" in str(entry) for entry in service.warnings()):
            break
    entry = service.logged("no space left", level="error")
    assert "free some space" in str(entry["reason"])
    still_there(host)
    assert "Traceback" not in service.log_text()
    host.command("rm", str(disk / "filler"))
    host.runc("delete", "--force", "c0")
    for name in (path.name for path in sorted(host.root.glob("c*"))):
        host.attached(name)
    still_there(host)


def test_a_full_disk_where_no_service_runs(host: Host, disk: Path) -> None:
    fill(host, disk)
    host.run("web", ports="8080:80").serve(tcp=(80,))
    done = host.watcher("sync", check=False)
    assert done.returncode == 1
    assert "lease store" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    host.command("rm", str(disk / "filler"))
    host.attached("web")
    still_there(host)


def test_a_state_directory_that_is_read_only(host: Host, disk: Path) -> None:
    published(host)
    host.command("mount", "-o", "remount,ro", str(disk))
    host.run("new")
    for command in (("sync",), ("run",)):
        done = host.watcher(*command, check=False)
        assert done.returncode == 1
        *warned, error = done.stderr.splitlines()
        assert all("no gate" in line for line in warned), done.stderr
        assert "make its file system writable" in error
        still_there(host)
    host.command("mount", "-o", "remount,rw", str(disk))
    host.service()
    host.attached("new")
    still_there(host)


@pytest.mark.parametrize("gate", [GATE_OFF, ""], ids=["", "gate"])
def test_a_full_subnet(make_host: HostMaker, gate: str) -> None:
    host = make_host(SMALL + gate)
    service = host.service()
    published(host)
    names = [f"c{number}" for number in range(1, ROOM)]
    for name in names:
        host.attach(name)
    host.bundle("more")
    done = host.launch("run", "more", "--detach", check=bool(gate))
    entry = service.logged("more", "no free address", level="error")
    assert "172.19.0.0/29" in str(entry["reason"])
    still_there(host)
    host.delete(names[0])
    if done.returncode != 0:
        eventually(lambda: names[0] not in host.leases().values())
        host.launch("run", "more", "--detach")
    host.attached("more")
    assert set(host.leases().values()) == {"web", "more", *names[1:]}


def test_a_bridge_with_all_its_ports(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF)
    service = host.service()
    published(host)
    host.command("ip", "-batch", "-", stdin="".join(
        f"link add port{number} master netns0 type veth peer name end{number}\n"
        for number in range(1, PORTS_OF_A_BRIDGE)
    ))  # fmt: skip
    host.run("more")
    why = reason(host, service, "more")
    assert "bridge netns0 of network default has 1023 ports" in why
    assert 'mode = "routed"' in why
    eventually(
        lambda: set(host.leases().values()) == {"web"}
    )  # each new try takes one for a moment
    host.command("ip", "link", "delete", "port1")
    host.watcher("sync", check=False)  # nobody tells the service, which looks again within a minute
    host.attached("more")
    still_there(host)
