"""A held init is moved into the network namespace of another container."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.held import Verb, runc
from tests.support.mover import Mover
from tests.support.traces import at_rest, is_as_before, namespaces
from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.host import Host
    from tests.support.host.containers import Container

SHOWS = ("sh", "-c", "ls -l /proc/self/ns/net && ls /sys/class/net && ip link")


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


def test_nothing_of_the_move_is_left_in_the_init(host: Host, root: Path, web: Container) -> None:
    host.bundle("side")
    with Mover(host, root) as mover, runc(host, "create", "side") as process:
        init = mover.held("side")["init"]
        before = at_rest(host, init)
        del before["mounts"]
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
