"""What one container does costs that container: nobody else waits, and the log stays readable.

Each container here has CAP_NET_ADMIN in its own namespace, as many have.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.host import BEYOND, UPLINK, Container, Host, HostMaker, Service
from tests.support.paths import REPOSITORY
from tests.support.processes import end
from tests.support.traffic import Answer
from tests.support.waiting import PATIENCE, eventually

TOGGLES: Final = {
    "an address of its own": "ip addr add 10.9.9.9/32 dev eth0; ip addr del 10.9.9.9/32 dev eth0",
    "the address that it was given": "ip addr flush dev eth0",
    "its lo": "ip link set lo down",
}
"""What a container does in a loop."""

FLOOD: Final = """
import socket, struct, sys
sys.path.insert(0, sys.argv[1])
from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink
from ipaddress import ip_interface
with Netlink() as netlink:
    index = netlink.index("lo")
    wanted = bytearray(rtnl.address(index, ip_interface("10.9.9.9/32")))
    gone = bytearray(wanted)
    struct.pack_into("=HH", gone, 4, rtnl.RTM_DELADDR, 5)
    struct.pack_into("=H", wanted, 6, 0x401)
    batch = bytes(wanted + gone) * 200
    print("ready", flush=True)
    raw = netlink._socket
    raw.setblocking(False)
    while True:
        raw.sendall(batch)
        try:
            while raw.recv(1 << 16):
                pass
        except OSError:
            pass
"""
"""Removes an address as fast as the kernel can, and tells the kernel to say nothing of it."""


@contextmanager
def looping(container: Container, command: str) -> Iterator[None]:
    """`command` again and again in a container's network namespace."""
    loop = f"while :; do {command}; sleep 0.02; done"
    inside = container.host.popen(["sh", "-c", loop], netns=container.place,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        yield
    finally:
        end(inside)


@contextmanager
def flooding(container: Container) -> Iterator[None]:
    """A container has the kernel say more than anybody reads."""
    root = str(REPOSITORY)
    process = container.host.popen(
        [sys.executable, "-c", FLOOD, root], netns=container.place, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        end(process)
        process.stdout.close()


def repairs(service: Service, word: str) -> int:
    """How many repairs of `word` were logged."""
    return sum(
        entry["event"] == "repaired" and word in str(entry.get("what")) for entry in service.log()
    )


def broken_and_whole_again(host: Host, web: Container, within: float = PATIENCE) -> None:
    """What others break on the host and in a neighbour is put right, each the first of its kind."""
    for place, damage in (
        (host.here, "nft flush ruleset"),
        (web.place, "ip route delete default"),
        (host.here, "ip link set netns0 down"),
    ):
        place.run(*damage.split())
        eventually(
            lambda: host.beyond.reach(UPLINK, 8080, timeout=0.3) == Answer("web", BEYOND),
            within,
            what=f"the repair after {damage}",
        )


@pytest.mark.parametrize("what", ["the address that it was given", "its lo"])
def test_pauses_are_of_who_earned_them(host: Host, what: str) -> None:
    """One who undoes something for ever is looked at ever less often, and nobody waits for that."""
    service = host.service()
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    rogue = host.attach("rogue")
    with looping(rogue, TOGGLES[what]):
        pause = eventually(lambda: earned(service, rogue), 60, what="a long pause")
        broken_and_whole_again(host, web, within=pause * 0.9)
    pauses = [e for e in service.warnings() if e["event"] == "something keeps undoing this"]
    assert all(rogue.veth in entry["what"] for entry in pauses)


def earned(service: Service, rogue: Container) -> float:
    """The pause that a container has earned, once that is long."""
    pauses: list[float] = [
        entry["pause"] for entry in service.warnings() if rogue.veth in str(entry.get("what"))
    ]
    return max((pause for pause in pauses if pause > 5), default=0.0)


def test_a_flood_of_one_containers_events_makes_nobody_deaf(host: Host) -> None:
    service = host.service("--log-level", "debug")
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    rogue = host.attach("rogue")
    before = sum(entry["event"] == "synced" for entry in service.log())
    with flooding(rogue):
        host.attach("during")
        broken_and_whole_again(host, web)
    after = sum(entry["event"] == "synced" for entry in service.log())
    assert after - before <= 6, "a container has everything looked at again and again"


def test_who_has_more_than_is_read_is_told_alone(host: Host) -> None:
    """A sync goes on with the others, and names the one."""
    service = host.service()
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    rogue = host.attach("rogue")
    many = "".join(
        f"address add 10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32 dev eth0\n" for n in range(6000)
    )
    rogue.place.run("ip", "-batch", "-", stdin=many)
    rogue.place.run("ip", "route", "delete", "default")
    entry = service.logged("cannot be put right", rogue.veth, level="error")
    assert "more addresses than are read" in entry["reason"]
    done = host.watcher("sync", check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "rogue" in done.stderr
    broken_and_whole_again(host, web)
    rogue.place.run("ip", "address", "flush", "dev", "eth0")
    service.logged("repaired", rogue.veth)
    assert host.watcher("sync").stdout == "nothing to do\n"


@pytest.mark.parametrize("mode", ["bridge", "routed"])
def test_very_many_routes_are_not_read(make_host: HostMaker, mode: str) -> None:
    """The service reads none of them: what it takes of memory is what it took before."""
    host = make_host(f'[network.default]\nmode = "{mode}"\n')
    service = host.service(cold=True)
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    rogue = host.attach("rogue")
    many = "".join(
        f"route add 20.{n >> 16}.{n >> 8 & 255}.{n & 255}/32 dev lo\n" for n in range(200_000)
    )
    rogue.place.run("ip", "-batch", "-", stdin=many)
    before = peak(service)
    rogue.place.run("ip", "addr", "add", "10.9.9.9/32", "dev", "eth0")
    with looping(rogue, TOGGLES["an address of its own"]):
        broken_and_whole_again(host, web) if mode == "bridge" else None
        rogue.place.run("ip", "route", "delete", "default")
        service.logged("repaired", rogue.veth, "default")
        host.watcher("sync")
        host.attach("during")
    assert peak(service) - before < 32 << 10, "kilobytes"


def peak(service: Service) -> int:
    """The most memory that the service has had so far, in KiB."""
    status = Path(f"/proc/{service.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def last_told(service: Service, link: str) -> str:
    """The last event of the log about a link."""
    return [str(e["event"]) for e in service.log() if link in str(e.get("what"))][-1]


def test_a_repair_that_fails_is_told_once_and_when_it_is_made(host: Host) -> None:
    """A container puts a link of its own in the place of `eth0`."""
    service = host.service()
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    rogue = host.attach("rogue")
    rogue.place.run(
        "sh", "-c", "until ip link delete eth0; ip link add eth0 type bridge; do :; done"
    )
    service.logged("cannot be put right", rogue.veth, level="error")
    broken_and_whole_again(host, web)
    host.watcher("sync", check=False)
    told = [e for e in service.warnings() if e["event"] == "cannot be put right"]
    assert len(told) == 1, told
    done = host.watcher("sync", check=False)
    assert (done.returncode, done.stdout) == (1, "nothing to do\n")
    assert "rogue" in done.stderr
    rogue.place.run("ip", "link", "delete", "eth0")
    eventually(lambda: last_told(service, rogue.veth) == "repaired")
    assert rogue.reach("172.19.0.1", 1) is None
    assert host.watcher("sync").stdout == "nothing to do\n"
