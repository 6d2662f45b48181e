"""Every life that a container can lead."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.host import BEYOND, GATEWAY, SUBNET, UPLINK, Host, HostMaker, Json
from tests.support.traffic import Answer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    pass
from ipaddress import ip_address, ip_network

WAIT_AND_PING = f"until ip route | grep -q default; do sleep 0.01; done; ping -c1 -W10 {GATEWAY}"


@pytest.fixture(params=["auto", "off"])
def served(request: pytest.FixtureRequest, make_host: HostMaker) -> Host:
    """A host with `watcher run`, with the gate where the kernel has it, and without."""
    host = make_host(f'[gate]\nmode = "{request.param}"\n')
    host.service()
    return host


def test_run_in_the_foreground(served: Host) -> None:
    done = served.run_to_end("web", ["sh", "-c", WAIT_AND_PING])
    assert "1 packets received" in done.stdout
    served.empty()
    assert served.ls() == {}


def test_run_detached(served: Host) -> None:
    web = served.attach("web")
    assert served.state("web")["status"] == "running"
    assert "1 packets received" in web.exec("ping", "-c1", "-W10", GATEWAY).stdout


def test_created_and_started_later(served: Host) -> None:
    served.create("web", ["sh", "-c", f"ip -4 addr show eth0; ping -c1 -W10 {GATEWAY}"])
    web = served.attached("web")
    assert served.state("web")["status"] == "created"
    assert web.address
    address = web.address
    served.start("web")
    eventually(lambda: "1 packets received" in served.output("web"))
    assert address in served.output("web")
    served.empty()


def test_created_without_a_service_and_started_later(host: Host) -> None:
    host.create("web", ["sh", "-c", f"ping -c1 -W10 {GATEWAY}"])
    host.attached("web")
    host.start("web")
    eventually(lambda: "1 packets received" in host.output("web"))
    host.empty()


def test_created_and_deleted_without_a_start(served: Host) -> None:
    served.create("web")
    web = served.attached("web")
    served.delete("web")
    served.gone(web)
    served.empty()


def test_killed(served: Host) -> None:
    served.attach("web", ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"])
    served.kill("web", "TERM")
    eventually(lambda: served.state("web")["status"] == "stopped")
    served.empty()
    assert served.status("web") == "exited"


def test_paused_and_resumed(served: Host) -> None:
    web = served.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    address = web.address
    served.pause("web")
    assert served.watcher("sync").stdout == "nothing to do\n"
    assert served.status("web") == "attached"
    assert served.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    served.resume("web")
    assert web.address == address
    assert "1 packets received" in web.exec("ping", "-c1", "-W10", GATEWAY).stdout


def test_paused_before_anybody_looked(host: Host) -> None:
    web = host.run("web")
    host.pause("web")
    host.watcher("sync")
    host.resume("web")
    assert "1 packets received" in web.exec("ping", "-c1", "-W10", GATEWAY).stdout


def test_with_a_user_namespace(served: Host) -> None:
    served.beyond.serve(tcp=(80,))
    web = served.attach("web", user_namespace=True, ports="8080:80")
    web.serve(tcp=(80,))
    assert served.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert f"inet {web.address}/16" in web.exec("ip", "addr").stdout
    served.delete("web")
    served.empty()


def test_with_a_user_namespace_and_without_a_service(host: Host) -> None:
    web = host.attach("web", user_namespace=True)
    assert f"inet {web.address}/16" in web.exec("ip", "addr").stdout
    host.delete("web")
    host.empty()


def test_ended_within_a_millisecond(served: Host) -> None:
    for number in range(20):
        served.run_to_end(f"brief{number}", ["true"], ports="8080:80")
    for number in range(5):
        served.bundle(f"left{number}", ["true"])
        served.launch("run", f"left{number}", "--detach")
    served.empty()
    rows = served.ls()
    assert {name: row["status"] for name, row in rows.items()} == {
        f"left{number}": "exited" for number in range(5)
    }


def test_an_id_that_is_used_again_at_once(served: Host) -> None:
    served.bundle("web", ports="8080:80")
    for _ in range(10):
        served.launch("run", "web", "--detach")
        served.delete("web")
    served.launch("run", "web", "--detach")
    web = served.attached("web")
    web.serve(tcp=(80,))
    assert served.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    eventually(lambda: served.veths() == {web.veth})
    assert served.pin_inode("web") == web.place.inode
    assert list(served.leases().values()) == ["web"]
    served.delete("web")
    served.empty()


def test_an_id_that_is_used_again_keeps_its_address(served: Host) -> None:
    addresses = set()
    for _ in range(4):
        web = served.attach("web")
        addresses.add(web.address)
        served.delete("web")
        served.gone(web)
    assert len(addresses) == 1


def run_many(host: Host, names: list[str]) -> None:
    """`runc run -d` of many bundles, all at the same time."""
    for name in names:
        host.bundle(name)
    processes = [host.launching("run", name, "--detach") for name in names]
    for name, process in zip(names, processes, strict=True):
        host.launched(process, name)


def all_attached(host: Host, names: list[str]) -> bool:
    rows = host.ls()
    assert set(rows) == set(names)
    assert {row["status"] for row in rows.values()} == {"attached"}
    return True


def test_64_started_in_parallel(served: Host) -> None:
    names = [f"c{number}" for number in range(64)]
    run_many(served, names)
    eventually(lambda: all_attached(served, names), timeout=40)

    addresses = {host_address(served, name) for name in names}
    assert len(addresses) == 64
    assert len(served.veths()) == 64
    assert served.pins() == set(names)
    first, last = served.container("c0"), served.container("c63")
    last.serve(tcp=(80,))
    assert first.reach(last.address, 80) == Answer("c63", first.address)
    assert served.watcher("sync").stdout == "nothing to do\n"
    served.command(
        "sh",
        "-c",
        "".join(f"runc --root {served.root} delete --force {name} & " for name in names) + "wait",
    )
    served.empty()


def host_address(host: Host, name: str) -> str:
    address = host.container(name).address
    assert ip_address(address) in ip_network(SUBNET)
    return address


def test_16_started_in_parallel_without_a_service(host: Host) -> None:
    names = [f"c{number}" for number in range(16)]
    run_many(host, names)
    host.watcher("sync")
    assert all_attached(host, names)
    assert len({host_address(host, name) for name in names}) == 16


# --- runc 1.3 --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["service", "sync"])
def test_the_early_state_of_runc_1_3_is_waited_out(make_host: HostMaker, mode: str) -> None:
    """What runc 1.3 does in the root, played with a container that another root has."""
    host = make_host()
    service = host.service() if mode == "service" else None
    elsewhere = host.base / "elsewhere"
    host.bundle("web", ports="8080:80")
    host.launch("create", "web", root=elsewhere)
    final = json.loads((elsewhere / "web/state.json").read_text())

    def save(state: Json) -> None:
        temporary = host.root / "web/state-1234567"
        temporary.write_text(json.dumps(state))
        temporary.rename(host.root / "web/state.json")

    (host.root / "web").mkdir(parents=True)
    host.command("mkfifo", str(host.root / "web/exec.fifo"))
    save({**final, "init_process_pid": 0, "init_process_start": 0, "namespace_paths": {}})
    host.settle()
    assert host.status("web") in ("", "waiting")
    assert host.leftovers() == []

    save(final)
    web = host.attached("web")
    web.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    if service is not None:  # the gate of another root would have held it
        told = [e for e in service.warnings() if "without being held" not in e["event"]]
        assert told == []
