"""A held init is moved into the network namespace of another container."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.held import Verb, runc
from tests.support.mover import Mover
from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from tests.support.bundles import Spec
    from tests.support.host import Host
    from tests.support.host.containers import Container

SHOWS = ("sh", "-c", "ls -l /proc/self/ns/net && ls /sys/class/net && ip link")


def namespaces(host: Host, pid: int) -> set[int]:
    """The network namespaces of all threads of a process of `host`."""
    tasks = host.seen(Path(f"/proc/{pid}/task"))
    return {(task / "ns/net").stat().st_ino for task in tasks.iterdir()}


@pytest.mark.parametrize("verb", ["run", "create"])
def test_its_program_starts_in_the_other_namespace(
    host: Host, root: Path, web: Container, verb: Verb
) -> None:
    host.bundle("side", SHOWS)
    with Mover(host, root) as mover, runc(host, verb, "side") as process:
        assert mover.move("side", web.pid) == ""
        assert mover.ask("allow", "side")
        assert process.wait(PATIENCE) == 0
        if verb == "create":
            host.start("side")
        eventually(lambda: "eth1" in host.output("side"))
        assert f"net:[{web.place.inode}]" in host.output("side")


def test_all_threads_are_moved_and_whoever_comes_later_is_there(
    host: Host, root: Path, web: Container
) -> None:
    host.bundle("side")
    with Mover(host, root) as mover, runc(host, "run", "side", "--detach") as process:
        init = mover.held("side")["init"]
        own = namespaces(host, init)
        assert len(own) == 1
        assert mover.move_held("side", web.pid) == ""
        assert namespaces(host, init) == {web.place.inode}
        assert mover.ask("allow", "side")
        assert process.wait(PATIENCE) == 0
        side = host.container("side")
        assert namespaces(host, side.pid) == {web.place.inode}
        assert f"net:[{web.place.inode}]" in side.exec("ls", "-l", "/proc/self/ns/net").stdout


def test_the_namespace_that_is_given_up_is_gone(host: Host, root: Path, web: Container) -> None:
    """With all that is in it: the end of a link is that of its other end."""
    host.bundle("side")
    with Mover(host, root) as mover, runc(host, "run", "side", "--detach") as process:
        init = mover.held("side")["init"]
        words = ("type", "veth", "peer", "name", "inside", "netns", str(init))
        host.command("ip", "link", "add", "outside", *words)
        assert mover.move_held("side", web.pid) == ""
        eventually(lambda: "outside" not in host.here.links())
        assert mover.ask("allow", "side")
        assert process.wait(PATIENCE) == 0


def traces(host: Host, pid: int) -> dict[str, object]:
    """What a process has: its descriptors, its memory, and what its threads block and may do."""
    process = host.seen(Path(f"/proc/{pid}"))
    kept = ("SigBlk", "SigIgn", "SigCgt", "TracerPid", "CapEff", "NoNewPrivs", "Seccomp")
    return {
        "descriptors": {fd.name: str(fd.readlink()) for fd in (process / "fd").iterdir()},
        "memory": [line.split()[:5] for line in (process / "maps").read_text().splitlines()],
        "threads": {
            task.name: [
                line
                for line in (task / "status").read_text().splitlines()
                if line.split(":")[0] in kept
            ]
            for task in (process / "task").iterdir()
        },
        "call": (process / "syscall").read_text(),
    }


def at_rest(host: Host, pid: int) -> dict[str, object]:
    """What a process has once it waits."""

    def rests() -> dict[str, object]:
        before = traces(host, pid)
        assert before == traces(host, pid)
        assert before["call"] != "running\n"
        return before

    return eventually(rests)


def is_as_before(host: Host, pid: int, before: dict[str, object]) -> None:
    """Waits until a process has again what it had."""

    def same() -> bool:
        after = traces(host, pid)
        changed = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
        assert not changed, changed
        return True

    eventually(same)


def test_nothing_of_the_move_is_left_in_the_init(host: Host, root: Path, web: Container) -> None:
    host.bundle("side")
    with Mover(host, root) as mover, runc(host, "create", "side") as process:
        init = mover.held("side")["init"]
        before = at_rest(host, init)
        assert mover.move_held("side", web.pid) == ""
        is_as_before(host, init, before)
        assert mover.ask("allow", "side")
        assert process.wait(PATIENCE) == 0
    host.start("side")


def test_many_are_moved_at_once(host: Host, root: Path, web: Container) -> None:
    names = [f"c{n}" for n in range(32)]
    for name in names:
        host.bundle(name, SHOWS)
    with Mover(host, root) as mover, ThreadPoolExecutor(len(names)) as pool:

        def launched(name: str) -> int:
            with runc(host, "run", name) as process:
                return process.wait(4 * PATIENCE)

        ends = [pool.submit(launched, name) for name in names]
        for name in names:
            mover.held(name)
        for name in names:
            mover.tell("move", name, str(web.pid))
        for name in names:
            assert mover.wait("moved", id=name)["error"] == ""
            mover.tell("allow", name)
        assert [end.result() for end in ends] == [0] * len(names)
    assert all(f"net:[{web.place.inode}]" in host.output(name) for name in names)


# --- what is refused -----------------------------------------------------------------------------


def refused(host: Host, root: Path, web: Container, says: str) -> None:
    """Expects that the bundle `side` cannot be moved, and starts in its own namespace if it may."""
    with Mover(host, root) as mover, runc(host, "create", "side") as process:
        init = mover.held("side")["init"]
        before, own = at_rest(host, init), namespaces(host, init)
        error = mover.move_held("side", web.pid)
        assert error.startswith("CannotMove: ")
        assert says in error
        is_as_before(host, init, before)
        assert namespaces(host, init) == own
        assert mover.ask("allow", "side")
        assert process.wait(PATIENCE) == 0
    host.start("side")
    eventually(lambda: namespaces(host, host.pid("side")) == own)


def bound(spec: Spec, source: str, target: str) -> None:
    spec["mounts"].append(
        {"destination": target, "type": "bind", "source": source, "options": ["bind"]}
    )


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("maskedPaths", "/proc/net/dev"),
        ("maskedPaths", "/proc/sys/net/core/somaxconn"),
        ("maskedPaths", "/proc/sys/net/ipv4/conf/lo"),
        ("readonlyPaths", "/proc/sys/net/core/somaxconn"),
        ("readonlyPaths", "/proc/sys/net/ipv4/conf/lo"),
    ],
)
def test_a_path_that_leads_into_the_namespace_given_up(
    host: Host, root: Path, web: Container, kind: str, path: str
) -> None:
    host.bundle("side", edit=lambda spec: spec["linux"][kind].append(path))
    refused(host, root, web, "shows the network namespace that it was made in")


@pytest.mark.parametrize("path", ["/sys/class", "/sys/devices", "/sys/class/net"])
def test_a_part_of_a_sysfs_that_shows_links(
    host: Host, root: Path, web: Container, path: str
) -> None:
    host.bundle("side", edit=lambda spec: spec["linux"]["readonlyPaths"].append(path))
    refused(host, root, web, f'its mount at "{path}" shows the network namespace')


def test_a_mount_on_a_link_in_sysfs(host: Host, root: Path, web: Container) -> None:
    path = "/sys/devices/virtual/net/lo/mtu"
    host.bundle("side", edit=lambda spec: spec["linux"]["maskedPaths"].append(path))
    refused(host, root, web, f'its mount at "{path}" shows the network namespace')


def test_a_mount_of_the_namespace_itself(host: Host, root: Path, web: Container) -> None:
    host.bundle("side", edit=lambda spec: bound(spec, "/proc/self/ns/net", "/etc/hosts"))
    refused(host, root, web, 'its mount at "/etc/hosts" shows the network namespace')


def test_a_container_with_a_user_namespace(host: Host, root: Path, web: Container) -> None:
    host.bundle("side", user_namespace=True)
    refused(host, root, web, "user namespace of its own")


def test_an_init_without_room_for_descriptors(host: Host, root: Path, web: Container) -> None:
    def edit(spec: Spec) -> None:
        spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 10, "soft": 10}]

    host.bundle("side", edit=edit)
    refused(host, root, web, "RLIMIT_NOFILE")


# --- settings ------------------------------------------------------------------------------------


def test_settings_of_the_bundle_are_written_into_the_shared_namespace(
    host: Host, root: Path, web: Container
) -> None:
    setting = "net/ipv4/ip_unprivileged_port_start"
    host.bundle("side", ["cat", f"/proc/sys/{setting}"])
    with Mover(host, root) as mover, runc(host, "run", "side") as process:
        assert mover.move("side", web.pid, "ipv4/ip_unprivileged_port_start=80") == ""
        assert mover.ask("allow", "side")
        assert process.wait(PATIENCE) == 0
    assert host.output("side").strip() == "80"


@pytest.mark.parametrize("second", ["ipv4/there_is_none=1", "ipv4/conf/eth9/arp_notify=1"])
def test_a_refused_setting_leaves_those_before_it_as_they_were(
    host: Host, root: Path, web: Container, second: str
) -> None:
    host.bundle("side")
    first = "ipv4/ip_unprivileged_port_start"
    with Mover(host, root) as mover, runc(host, "run", "side") as process:
        error = mover.move("side", web.pid, f"{first}=80", second)
        assert error.startswith("CannotMove: linux.sysctl")
        assert "there is no such setting" in error
        assert mover.ask("deny", "side")
        assert process.wait(PATIENCE) == 1
    assert web.place.run("cat", f"/proc/sys/net/{first}").stdout.strip() == "1024"
