"""The roots in their own right: each watched and held by itself, whatever becomes of the others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.host import GATE_OFF, Host
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.host import HostMaker

SEES_ETH0 = ("ip", "-4", "addr", "show", "eth0")


def two_roots(host: Host, second: Path) -> None:
    """Adds a root to the configuration of `host`."""
    host.config.write_text(host.config.read_text() + f'[[root]]\npath = "{second}"\n')


def first_instruction(host: Host, name: str, root: Path | None = None) -> str:
    """What a new container sees of its network at its first instruction."""
    host.bundle(name, SEES_ETH0)
    return host.launch("run", name, root=root).stdout


def test_directories_that_come_and_go_in_a_root_do_no_harm(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF)
    service = host.service()
    loop = "for i in $(seq 300); do mkdir -p $0/t/u; rm -rf $0; done"
    loops = [host.popen(["sh", "-c", loop, str(host.root / f"s{n}")]) for n in range(3)]
    web = host.attach("web")
    for process in loops:
        assert process.wait(60) == 0
    host.delete("web")
    host.gone(web)
    host.attach("after")
    assert [entry for entry in service.warnings() if "no gate" not in entry["event"]] == []
    assert "Traceback" not in service.log_text()


@pytest.mark.parametrize("gone", ["moved", "replaced"])
def test_a_container_that_is_moved_in_its_root_is_still_watched(
    make_host: HostMaker, gone: str
) -> None:
    """Whoever moves directories to and fro moves what is watched with them."""
    host = make_host(GATE_OFF)
    host.service()
    host.bundle("web")
    host.launch("create", "web")
    host.attached("web")
    path = host.root / "web"
    script = f"mv {path} {path}-x; mv {path}-x {path}"
    if gone == "replaced":
        script = f"cp -a {path} {path}-x; mv --exchange -T {path} {path}-x; rm -r {path}-x"
    host.command("sh", "-ec", script)
    state = path / "state.json"
    host.command("mv", str(state), f"{state}.away")
    host.command("mv", f"{state}.away", str(state))
    host.attached("web")


# --- each by itself --------------------------------------------------------------------------


def test_a_root_that_cannot_be_held_is_named_and_the_others_are_held(host: Host) -> None:
    other = host.base / "other"
    two_roots(host, other)
    host.command("mkdir", "-p", str(other / "below"))
    host.command("mount", "-t", "tmpfs", "tmpfs", str(other / "below"))
    service = host.service()

    ready = service.logged("ready")
    assert ready["held"] == {str(host.root): "mount"}
    assert f"{other}/below" in ready["not_held"][str(other)]
    assert f"{other}/below" in host.watcher("check").stdout
    assert "inet 172.19." in first_instruction(host, "web")
    host.bundle("late")
    host.launch("run", "late", "--detach", root=other)
    eventually(lambda: host.ls()["late"]["status"] == "attached")

    host.command("umount", str(other / "below"))
    service.stop()
    service.start()
    assert "inet 172.19." in first_instruction(host, "held", other)


def test_a_root_that_others_have_to_make_is_taken_once_it_is_there(host: Host) -> None:
    home = host.base / "home"
    home.mkdir()
    os.chown(home, 4321, 4321)
    theirs = home / "run/runc"
    two_roots(host, theirs)
    service = host.service()

    assert str(theirs) in service.logged("ready")["left"]
    assert not (home / "run").exists()
    assert str(theirs) in host.watcher("check").stdout
    assert "inet 172.19." in first_instruction(host, "web")
    service.restart()  # it ends for nothing of that

    user = ("setpriv", "--reuid=4321", "--regid=4321", "--clear-groups")
    host.command(*user, "mkdir", "-p", str(theirs))
    # It may be looked at first while its parent alone is there.
    service.logged("is not held", str(theirs), "user 4321's own")
    host.bundle("late")
    host.launch("run", "late", "--detach", root=theirs)
    eventually(lambda: host.ls()["late"]["status"] == "attached")
    mounts = host.command("cat", "/proc/self/mountinfo").stdout
    assert f" {host.root} " in mounts
    assert f" {theirs} " not in mounts
    checked = host.watcher("check").stdout
    assert "user 4321's own" in checked
    service.restart()
    ready = service.logged('"ready"', "not_held")
    assert "user 4321's own" in ready["not_held"][str(theirs)]
    assert ready["runtimes"] == {str(theirs): "runc"}


@pytest.mark.parametrize("why", ["a mount below", "in another user's", "another user's"])
def test_a_root_that_cannot_be_held_refuses_the_start_where_that_is_required(
    make_host: HostMaker, why: str
) -> None:
    host = make_host('[gate]\nmode = "required"\n')
    other = host.base / "home/runc"
    two_roots(host, other)
    if why == "a mount below":
        host.command("mkdir", "-p", str(other / "below"))
        host.command("mount", "-t", "tmpfs", "tmpfs", str(other / "below"))
    else:
        theirs = other if why == "another user's" else other.parent
        theirs.mkdir(parents=True)
        os.chown(theirs, 4321, 4321)
    done = host.watcher("run", check=False, timeout=20)
    assert done.returncode == 1
    assert str(other) in done.stderr.splitlines()[-1]
    mounts = host.command("cat", "/proc/self/mountinfo").stdout
    assert f" {host.root} " not in mounts


def test_what_an_earlier_version_mounted_on_a_users_own_root_is_taken_away(host: Host) -> None:
    """It was killed; the mount keeps the user from removing the directory."""
    theirs = host.base / "theirs"
    two_roots(host, theirs)
    theirs.mkdir()
    os.chown(theirs, 4321, 4321)
    host.command("mount", "--bind", str(theirs), str(theirs))
    host.command("mount", "--make-private", str(theirs))
    assert str(theirs) in host.service().logged("ready")["not_held"]
    assert f" {theirs} " not in host.command("cat", "/proc/self/mountinfo").stdout
    host.bundle("web")
    host.launch("run", "web", "--detach", root=theirs)
    eventually(lambda: host.ls()["web"]["status"] == "attached")
