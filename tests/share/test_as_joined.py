"""A container that was moved sees, file by file, what one sees whose bundle names the path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.held import runc
from tests.support.mover import OLD, Mover
from tests.support.seen_inside import seen_inside
from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.bundles import Spec
    from tests.support.host import Host
    from tests.support.host.containers import Container
    from tests.support.seen_inside import Seen

COVERED = ("/sys/class/net", "/sys/devices/virtual/net")
"""What a move mounts, and a bundle that names the path does not."""

OF_SYSFS = ("class/net", "devices/virtual/net")


def nothing(_: Spec) -> None:
    """The bundle as it is."""


def masks(*paths: str) -> Callable[[Spec], object]:
    return lambda spec: spec["linux"]["maskedPaths"].extend(paths)


def read_only(*paths: str) -> Callable[[Spec], object]:
    return lambda spec: spec["linux"]["readonlyPaths"].extend(paths)


def without_sysfs(spec: Spec) -> None:
    spec["mounts"] = [m for m in spec["mounts"] if not m["destination"].startswith("/sys")]


def with_another_sysfs(spec: Spec) -> None:
    spec["mounts"].append(
        {"destination": "/var", "type": "sysfs", "source": "sysfs", "options": ["noatime"]}
    )


def with_that_of_the_host(spec: Spec) -> None:
    spec["mounts"].append(
        {"destination": "/var", "type": "none", "source": "/sys", "options": ["bind", "ro"]}
    )


def with_a_tmpfs_on_it(spec: Spec) -> None:
    spec["mounts"].append(
        {"destination": "/sys/class/net", "type": "tmpfs", "source": "mine", "options": ["ro"]}
    )


def shared(spec: Spec) -> None:
    spec["linux"]["rootfsPropagation"] = "shared"


EDITS = {
    "as it is": nothing,
    "masked": masks("/proc/net", "/sys/class/net"),
    "masked above": masks("/proc/sys/net", "/sys/class"),
    "masked whole": masks("/sys"),
    "read-only": read_only("/proc/net", "/proc/sys/net", "/sys", "/sys/fs"),
    "no sysfs": without_sysfs,
    "two sysfs": with_another_sysfs,
    "that of the host": with_that_of_the_host,
    "a tmpfs": with_a_tmpfs_on_it,
    "shared": shared,
}


def both(
    host: Host,
    root: Path,
    web: Container,
    edit: Callable[[Spec], object],
    of_mover: tuple[str, ...] = (),
) -> tuple[Container, Container]:
    """Two containers of one bundle: one has joined by path, one was moved."""
    joined = host.run("joined", netns_path=f"/proc/{web.pid}/ns/net", edit=edit)
    host.bundle("moved", edit=edit)
    with (
        Mover(host, root, prefix=of_mover) as mover,
        runc(host, "run", "moved", "--detach") as process,
    ):
        assert mover.move("moved", web.pid) == ""
        assert mover.ask("allow", "moved")
        assert process.wait(PATIENCE) == 0
    return joined, host.container("moved")


def same(host: Host, joined: Container, moved: Container, *paths: str) -> Seen:
    """Waits until both see the same at and below `paths`, but for what changes all the time."""

    def seen() -> Seen:
        expected = seen_inside(host, joined.pid, *paths)
        found = seen_inside(host, moved.pid, *paths)
        again = seen_inside(host, joined.pid, *paths)
        assert found.keys() == expected.keys() == again.keys()
        lasting = {path: text for path, text in expected.items() if text == again[path]}
        different = {path: found[path] for path, text in lasting.items() if text != found[path]}
        assert not different, different
        return lasting

    return eventually(seen)


def mounts(host: Host, container: Container) -> list[tuple[str, ...]]:
    """Its mounts, without numbers that are others for each container."""
    name = f"/{container.id}"
    lines = seen_inside(host, container.pid, "/proc/self/mountinfo")["/proc/self/mountinfo"]
    found = []
    for line in lines.splitlines():
        _, _, _, shown, *rest = line.split(" ")
        rest = [word for word in rest if not word.startswith(("shared:", "master:"))]
        found.append((shown.removesuffix(name), *rest))
    return found


@pytest.mark.parametrize("edit", EDITS)
def test_it_sees_the_same(host: Host, root: Path, web: Container, edit: str) -> None:
    joined, moved = both(host, root, web, EDITS[edit])
    sysfs = [f"{point}/{one}" for point in ("/sys", "/var") for one in OF_SYSFS]
    seen = same(host, joined, moved, "/proc/self/net", "/proc/net", "/proc/sys/net", *sysfs)
    if edit == "as it is":
        assert seen["/sys/class/net"] == "eth0 eth1 lo"
        assert seen["/sys/devices/virtual/net/eth0/mtu"] == "1400\n"
        assert {"address", "ifindex"} <= set(seen["/sys/devices/virtual/net/eth0"].split())
        assert seen["/proc/sys/net/ipv4/conf"] == "all default eth0 eth1 lo"
        assert len(seen) > 1000

    of_moved = mounts(host, moved)
    assert [one for one in of_moved if one[0][1:] not in OF_SYSFS] == mounts(host, joined)


@pytest.mark.parametrize("of_mover", [(), OLD], ids=["this kernel", "an older kernel"])
def test_what_covers_is_mounted_as_what_is_covered(
    host: Host, root: Path, web: Container, of_mover: tuple[str, ...]
) -> None:
    joined, moved = both(host, root, web, with_another_sysfs, of_mover)
    same(host, joined, moved, *(f"{point}/{one}" for point in ("/sys", "/var") for one in OF_SYSFS))
    before = mounts(host, joined)
    added = [one for one in mounts(host, moved) if one not in before]
    assert {one[1] for one in added} == {
        f"{point}/{directory}" for point in ("/sys", "/var") for directory in OF_SYSFS
    }
    for _, point, *rest in added:
        [(_, _, *covered)] = [one for one in before if one[:2] == ("/", f"/{point.split('/')[1]}")]
        assert rest == covered
    write = ("sh", "-c", "echo 1500 > /sys/class/net/eth0/mtu")
    for container in (joined, moved):
        assert "Read-only file system" in container.exec(*write, check=False).stderr


def test_exec_and_a_later_link_are_seen_as_well(host: Host, root: Path, web: Container) -> None:
    joined, moved = both(host, root, web, nothing)
    web.place.run("ip", "link", "add", "later", "type", "bridge")
    for words in (
        ["ls", "/sys/class/net"],
        ["cat", "/sys/class/net/later/ifindex"],
        ["ip", "addr"],
    ):
        assert moved.exec(*words).stdout == joined.exec(*words).stdout
    assert "later" in moved.exec("ls", "/sys/class/net").stdout


def test_its_cgroups_are_mounted_as_ever(host: Host, root: Path, web: Container) -> None:
    joined, moved = both(host, root, web, nothing)
    same(host, joined, moved, "/sys/fs/cgroup/pids/pids.max", "/sys/firmware", "/proc/acpi")
