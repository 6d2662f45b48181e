"""What is not the watcher's stays as it is, whatever it is called; who lives is not buried.

Ownership is told by more than a name: links carry an interface group that the kernel sets as they
are made. What has a name of ours and is not ours is reported, not removed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tests.support.host import BEYOND, GATE_OFF, UPLINK, Container, Host, HostMaker
from tests.support.tampering import index
from tests.support.traffic import Answer
from tests.support.waiting import eventually

NEIGHBOURS: Final = """
link add netnsv0-99999 type veth peer name netnsv1-99999
link set netnsv0-99999 alias "watcher web"
link add netnsv0-x type bridge
link add netns00 type bridge
link add netns1 type bridge
addr add 198.51.100.1/32 dev netns1
link add mine0 group 2002875491 type veth peer name mine1 group 2002875491
link set netnsv1-99999 master netns1
"""
"""2002875491 is the group of what the watcher makes: nothing without the name, nor the reverse."""

TABLES: Final = """
add table ip watcher
add map ip watcher port4 { type inet_service : ipv4_addr; }
add element ip watcher port4 { 8080 : 192.0.2.9 }
add table inet watcher2
add chain inet watcher2 c { type filter hook input priority 0; }
add rule inet watcher2 c tcp dport 9999 drop
add table inet watch
add set inet watch macs { type ether_addr; }
add element inet watch macs { 02:42:ac:13:00:02 }
add table netdev watcher
"""

_PTRACE_SEIZE: Final = 0x4206
_PTRACE_INTERRUPT: Final = 0x4207
_PTRACE_DETACH: Final = 17


def neighbours(host: Host) -> dict[str, Any]:
    """What there is of others, as `ip`, `nft` and the directory of pins show it."""
    links = [
        {key: link.get(key) for key in ("ifname", "ifindex", "address", "group", "master", "flags")}
        | {"addresses": [entry["local"] for entry in link["addr_info"]]}
        for link in host.ip("addr")
        if link["ifname"] in NEIGHBOURS.split() and link["ifname"] != "netns0"
    ]
    tables = [
        host.nft("list", *line.split()[1:]).stdout
        for line in TABLES.splitlines()
        if line.startswith("add table")
    ]
    pins = {name: host.pin_inode(name) for name in host.pins() if name.startswith("theirs")}
    return {"links": links, "tables": tables, "pins": pins}


def move_in(host: Host) -> dict[str, Any]:
    """Others make things with names like ours; what they made."""
    host.command("ip", "-batch", "-", stdin=NEIGHBOURS)
    host.command("nft", "-f", "-", stdin=TABLES)
    host.netns_dir.mkdir(exist_ok=True)
    for name in ("theirs", "theirs-too"):
        foreign_pin(host, name)
    before = neighbours(host)
    assert len(before["links"]) == 7
    return before


def foreign_pin(host: Host, name: str) -> None:
    path = host.netns_dir / name
    host.command("sh", "-ec", f"touch {path}; unshare --net={path} true")


def test_things_of_others_with_similar_names_are_left_alone(kept: Host) -> None:
    before = move_in(kept)
    web = kept.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    assert kept.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert neighbours(kept) == before
    kept.delete("web")
    kept.gone(web)
    kept.watcher("sync")
    assert neighbours(kept) == before


def test_down_removes_nothing_of_others(host: Host) -> None:
    before = move_in(host)
    host.run("web", ports="8080:80")
    host.watcher("sync")
    host.watcher("down")
    assert neighbours(host) == before
    assert host.pins() == {"theirs", "theirs-too"}
    assert "netns0" not in host.here.links()


def test_without_its_memory_it_takes_nothing_of_others_for_its_own(host: Host) -> None:
    before = move_in(host)
    host.run("web")
    host.watcher("sync")
    host.delete("web")
    host.command("sh", "-c", f"rm -r {host.state_dir}")
    host.watcher("sync")
    host.watcher("sync")
    assert neighbours(host) == before


def test_a_link_of_others_by_the_very_name_is_reported_and_left_alone(host: Host) -> None:
    web = host.run("web")
    host.command("ip", "link", "add", web.veth, "type", "bridge")
    theirs = index(host, web.veth)
    reason = host.fails("web")
    assert web.veth in reason
    host.watcher("sync", check=False)
    assert index(host, web.veth) == theirs
    host.command("ip", "link", "delete", web.veth)
    host.watcher("sync")
    assert host.status("web") == "attached"


def test_a_pin_of_others_by_the_very_name_is_reported_and_left_alone(host: Host) -> None:
    host.netns_dir.mkdir()
    foreign_pin(host, "web")
    theirs = host.pin_inode("web")
    host.run("web")
    reason = host.fails("web")
    assert str(host.netns_dir / "web") in reason
    assert host.pin_inode("web") == theirs
    host.delete("web")
    host.watcher("sync")
    assert host.pin_inode("web") == theirs


def test_a_bridge_of_others_is_used_and_not_removed(host: Host) -> None:
    host.command("ip", "link", "add", "netns0", "type", "bridge")
    theirs = index(host, "netns0")
    web = host.run("web", ports="8080:80")
    web.serve(tcp=(80,))
    host.watcher("sync")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    host.watcher("down")
    assert index(host, "netns0") == theirs


def test_forwarding_that_was_on_before_stays_on(host: Host) -> None:
    host.command("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    host.run("web")
    host.watcher("sync")
    host.watcher("down")
    assert host.sysctl("net/ipv4/ip_forward") == "1"


def test_a_mount_of_others_on_the_directory_of_pins_stays(host: Host) -> None:
    host.netns_dir.mkdir()
    host.command("mount", "-t", "tmpfs", "tmpfs", str(host.netns_dir))
    host.run("web")
    host.watcher("sync")
    assert host.pins() == {"web"}
    host.watcher("down")
    kinds = host.command("findmnt", "--noheadings", "--output=FSTYPE", str(host.netns_dir)).stdout
    assert kinds.split() == ["tmpfs"]


def keeps(host: Host, web: Container) -> None:
    """Whether the container has kept everything after the watcher has looked."""
    before = web.place.picture()
    host.watcher("sync")
    assert host.status("web") == "attached"
    assert web.veth in host.veths()
    assert host.leases() == {web.address: "web"}
    assert web.place.picture() == before
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def published(host: Host) -> Container:
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    return web


def test_a_paused_container_is_not_taken_for_dead(kept: Host) -> None:
    web = published(kept)
    kept.pause("web")
    keeps(kept, web)
    kept.resume("web")
    keeps(kept, web)


def test_a_stopped_init_is_not_taken_for_dead(kept: Host) -> None:
    web = published(kept)
    kept.runc("kill", "web", "STOP")
    keeps(kept, web)
    kept.runc("kill", "web", "CONT")


def test_a_container_in_a_debugger_is_not_taken_for_dead(kept: Host) -> None:
    web = published(kept)
    with traced(outer_pid(web)):
        keeps(kept, web)
    keeps(kept, web)


def outer_pid(container: Container) -> int:
    """The pid of a container's init as this process sees it."""

    def is_in(path: Path) -> bool:
        with suppress(OSError):
            return path.stat().st_ino == container.place.inode
        return False

    (path,) = filter(is_in, Path("/proc").glob("[0-9]*/ns/net"))
    return int(path.parts[2])


@contextmanager
def traced(pid: int) -> Iterator[None]:
    """Process `pid` stands still in a tracer: this thread."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ptrace(request: int) -> None:
        done = libc.ptrace(request, pid, None, None)
        assert done == 0, os.strerror(ctypes.get_errno())

    ptrace(_PTRACE_SEIZE)
    ptrace(_PTRACE_INTERRUPT)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED)
    with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
        assert stat.read().rpartition(") ")[2][0] == "t"
    try:
        yield
    finally:
        ptrace(_PTRACE_DETACH)


def test_a_process_with_the_pid_of_another_time_is_not_the_container(kept: Host) -> None:
    """The pid in `state.json` runs, but has started at another moment than that says."""
    web = published(kept)
    file = kept.root / "web/state.json"
    state = json.loads(file.read_text())
    replace(kept, "web", state | {"init_process_start": state["init_process_start"] - 1})
    kept.gone(web)
    assert kept.status("web") == "exited"
    assert "eth0" not in web.place.links()
    replace(kept, "web", state)
    web = kept.attached("web")
    assert kept.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def replace(host: Host, name: str, state: object) -> None:
    """Saves a container's `state.json` as runc does it: a new file, moved into place."""
    new = host.root / name / "state-1"
    new.write_text(json.dumps(state))
    new.rename(host.root / name / "state.json")


def test_a_container_of_the_same_name_is_another_one(make_host: HostMaker) -> None:
    """It is deleted and made again while the service does not look."""
    host = make_host(GATE_OFF)
    service = host.service()
    web = published(host)
    service.signal(signal.SIGSTOP)
    host.delete("web")
    host.run("web", ports="8081:80").serve(tcp=(80,))
    service.signal(signal.SIGCONT)
    again = host.attached("web")
    assert again.veth != web.veth
    eventually(lambda: host.veths() == {again.veth})
    assert host.beyond.reach(UPLINK, 8080, timeout=0.3) is None
    assert host.beyond.reach(UPLINK, 8081) == Answer("web", BEYOND)
