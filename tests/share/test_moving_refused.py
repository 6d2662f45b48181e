"""Who cannot be moved: nothing of it has changed, and it may start in its own namespace."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import refusing
from tests.support.crun import CrunHost
from tests.support.held import own_mount, runc
from tests.support.mover import OLD, Mover
from tests.support.traces import at_rest, is_as_before, namespaces
from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.bundles import Spec
    from tests.support.host import Host
    from tests.support.host.containers import Container


def refused(
    host: Host,
    root: Path,
    web: Container,
    says: str,
    prefix: tuple[str, ...] = (),
    of_mover: tuple[str, ...] = (),
) -> None:
    """Expects that the bundle `side` cannot be moved, and starts in its own namespace if it may.

    Args:
        host: the host.
        root: its root.
        web: whose namespace is to be shared.
        says: a part of the reason.
        prefix: a command that starts runc.
        of_mover: a command that starts the gate.
    """
    with (
        Mover(host, root, prefix=of_mover) as mover,
        runc(host, "create", "side", prefix=prefix) as process,
    ):
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


def test_a_hook_that_leaves_a_process_in_the_container(
    host: Host, root: Path, web: Container
) -> None:
    """It would stay in the namespace that is given up."""

    def edit(spec: Spec) -> None:
        leaves = "sleep 1000 < /dev/null > /dev/null 2>&1 &"
        hook = {"path": "/bin/sh", "args": ["sh", "-c", leaves]}
        spec["hooks"] = {"createContainer": [hook]}

    host.bundle("side", edit=edit)
    with Mover(host, root) as mover, runc(host, "create", "side") as process:
        error = mover.move("side", web.pid)
        assert "another process is in the container already" in error
        assert mover.ask("deny", "side")  # runc waits for that process where it is allowed
        assert process.wait(PATIENCE) == 1


MOVE_MOUNT, OPEN_TREE, SETNS = 429, 428, 308


@pytest.mark.parametrize("call", [MOVE_MOUNT, SETNS])
def test_an_init_that_may_not_make_one_of_the_calls(
    host: Host, root: Path, web: Container, call: int
) -> None:
    host.bundle("side")
    prefix = (sys.executable, refusing.__file__, str(call))
    refused(host, root, web, "Operation not permitted", prefix)


@pytest.mark.parametrize("call", [MOVE_MOUNT, OPEN_TREE])
def test_an_init_that_may_not_make_one_that_an_older_kernel_takes(
    host: Host, root: Path, web: Container, call: int
) -> None:
    host.bundle("side")
    prefix = (sys.executable, refusing.__file__, str(call))
    refused(host, root, web, "Operation not permitted", prefix, OLD)


def test_more_mounts_than_are_read(host: Host, root: Path, web: Container) -> None:
    directory = "/tmp" + f"/{'x' * 250}" * 7

    def edit(spec: Spec) -> None:
        destinations = ["/tmp", *(f"{directory}/{n}" for n in range(600))]
        spec["mounts"] += [
            {"destination": one, "type": "tmpfs", "source": "tmpfs"} for one in destinations
        ]

    host.bundle("side", edit=edit)
    refused(host, root, web, "too many mounts")


def test_more_of_a_sysfs_than_are_covered(host: Host, root: Path, web: Container) -> None:
    def edit(spec: Spec) -> None:
        spec["mounts"] += [
            {"destination": f"/dev/{n}", "type": "sysfs", "source": "sysfs"} for n in range(9)
        ]

    host.bundle("side", edit=edit)
    refused(host, root, web, "too many mounts of a sysfs")


def test_an_init_of_crun_which_has_no_capabilities_left_when_it_is_held(rootfs: Path) -> None:
    with CrunHost(rootfs) as host:
        host.root.mkdir(mode=0o700, exist_ok=True)
        own_mount(host, host.root)
        web = host.run("web")
        host.bundle("side")
        with Mover(host, host.root) as mover:
            process = host.launching("create", "side")
            init = mover.held("side")["init"]
            own = namespaces(host, init)
            assert "has given up its capabilities" in mover.move_held("side", web.pid)
            assert mover.ask("allow", "side")
            host.launched(process, "side")
        host.start("side")
        assert namespaces(host, host.pid("side")) == own
