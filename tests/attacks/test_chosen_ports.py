"""A free host port is no way to a port that is not to be had, nor from others' limits."""

from __future__ import annotations

import json

import pytest

from tests.support.chosen import chosen, listening
from tests.support.host import BEYOND, GATE_OFF, UPLINK, Container, Host, HostMaker
from tests.support.tampering import lose_store
from tests.support.traffic import Answer
from watcher.containers.ports import parse_ports

LIMITED = '[root.limits]\nhost_ports = ["9000-9002", "9002-9004", "7000"]\n'
WITHIN = {7000, *range(9000, 9005)}


def test_a_choice_never_leaves_the_limits(make_host: HostMaker) -> None:
    """Neither by chance nor when they are exhausted; and each port is had once."""
    host = make_host(LIMITED + GATE_OFF)
    with listening(host, 9003):
        for name in ("a", "b", "c", "d", "e", "f"):
            host.run(name, ports="80,80/udp")
        host.watcher("sync", check=False)
        attached = [name for name, row in host.ls().items() if row["status"] == "attached"]
        assert len(attached) == len(WITHIN) - 1
        ports = [chosen(host, name) for name in attached]
        assert {tcp for tcp, _ in ports} == WITHIN - {9003}
        assert {udp for _, udp in ports} < WITHIN
        assert len({udp for _, udp in ports}) == len(attached)


@pytest.mark.parametrize(
    "ports",
    [
        "0:80",
        ":80",
        "0-1:80-81",
        "127.0.0.1::80",
        "127.0.0.1:0:80",
        "[::]::80",
        json.dumps([{"hostPort": 0, "containerPort": 80}]),
        json.dumps([{"containerPort": 80}]),
        "80-81",
        "9000:80,80-90",
        "80,22:80",
        "80,65536",
    ],
)
def test_other_ways_to_write_it(make_host: HostMaker, ports: str) -> None:
    host = make_host(LIMITED + GATE_OFF)
    host.run("thief", ports=ports)
    assert "io.watcher.ports" in host.fails("thief")
    assert host.elements() == []


def test_the_limit_on_host_addresses_holds_for_it(make_host: HostMaker) -> None:
    """It would be reached on every address."""
    host = make_host('[root.limits]\nhost_addresses = ["127.0.0.1"]\n' + GATE_OFF)
    host.run("thief", ports="80")
    assert "host address of 127.0.0.1" in host.fails("thief")


def test_thousands_of_them_take_ports_but_leave_the_host_as_it_is(make_host: HostMaker) -> None:
    """Who may choose from a few of his own takes those alone."""
    host = make_host()
    other = host.base / "guests"
    with host.config.open("a") as config:
        config.write(f'[[root]]\npath = "{other}"\n[root.limits]\nhost_ports = ["9000-9099"]\n')
    service = host.service()
    web = host.attach("web", ports="80")
    web.serve(tcp=(80,))
    before = host.elements()
    host.bundle("greedy", ports=",".join(map(str, range(1, 11000))))
    assert host.launch("run", "greedy", "--detach", root=other, check=False).returncode != 0
    assert service.logged("refused", "no host port of 9000-9099 is free")
    assert host.elements() == before
    host.bundle("greedy", ports=",".join(map(str, range(1, 101))))
    host.launch("run", "greedy", "--detach", root=other)
    taken = parse_ports(",".join(host.ls()["greedy"]["ports"]))
    singles = [single.host_port for port in taken for single in port.singles()]
    assert sorted(singles) == [*range(9000, 9100)]
    late: Container = host.attach("late", ports="80")
    late.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, chosen(host, "late")[0]) == Answer("late", BEYOND)
    assert host.beyond.reach(UPLINK, chosen(host, "web")[0]) == Answer("web", BEYOND)
    host.runc("delete", "--force", "greedy", root=other)


def test_a_copy_says_nothing_of_another_container(host: Host) -> None:
    """A container that comes after the lease store was lost gets nothing by an old copy."""
    host.attach("web", ports="80")
    (copy,) = (host.run_dir / "sandboxes").iterdir()
    text = copy.read_text()
    before = chosen(host, "web")
    host.delete("web")
    host.watcher("sync")
    lose_store(host)
    thief = host.run("web", ports="8080:80")
    copy.write_text(text)
    copy.with_name(str(thief.place.inode)).write_text(text)
    copy.with_name(f"{thief.place.inode}.new").write_text(text)
    host.watcher("sync")
    assert chosen(host, "web") == [8080] != before
    assert not list((host.run_dir / "sandboxes").iterdir())
