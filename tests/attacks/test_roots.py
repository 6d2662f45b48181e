"""A user who owns a part of a root's path: nothing but what is theirs is ever held or read for it.

The service marks what a root's path leads to, and every open(2) below a mark waits for it. Who can
have it mark `/` or `/etc` has the host in their hands.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.host import UPLINK, Host, Service
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

MALLORY = 4321
OPENED = """
import sys
from handlers.kernel import rootpath
try:
    print(rootpath.path_of(rootpath.open_directory(sys.argv[1])))
except OSError as error:
    print(error.strerror)
"""


@pytest.fixture
def theirs(host: Host) -> Host:
    """A host whose root is `home/a/runc`, and all above that is Mallory's from `home` on."""
    host.root = host.base / "home/a/runc"
    host.configure()
    host.root.mkdir(parents=True, mode=0o755)
    for path in (host.base / "home", host.base / "home/a"):
        os.chown(path, MALLORY, MALLORY)
    return host


def mallory(host: Host, script: str) -> None:
    """Does something as Mallory, in their home."""
    user = (f"--reuid={MALLORY}", f"--regid={MALLORY}", "--clear-groups", "--bounding-set=-all")
    host.command("setpriv", *user, "sh", "-ec", script, directory=host.base / "home")


def nobody_waits(host: Host, service: Service) -> None:
    """Files of the host are opened, though the service answers nobody."""
    service.signal(signal.SIGSTOP)
    try:
        for path in ("/etc/hostname", "/etc/passwd", str(host.config)):
            host.command("cat", path, timeout=30)
    finally:
        service.signal(signal.SIGCONT)


def mounted(host: Host) -> list[str]:
    """All mount points."""
    return [
        line.split()[4] for line in host.command("cat", "/proc/self/mountinfo").stdout.splitlines()
    ]


def commands_go_on(host: Host) -> None:
    for command in (("ls",), ("check",), ("sync", "--dry-run"), ("network", "ls")):
        done = host.watcher(*command, check=False)
        assert done.returncode in (0, 1), done
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("target", ["/", "/etc", "/run"])
def test_a_link_in_place_of_a_root_is_not_followed(theirs: Host, target: str) -> None:
    service = theirs.service()
    before = mounted(theirs)
    web = theirs.attach("web")

    mallory(theirs, f"mkdir b; ln -s {target} b/runc; mv --exchange -T a b")
    service.logged("left alone", str(theirs.root), level="error")
    nobody_waits(theirs, service)
    assert [point for point in mounted(theirs) if point == target] == [
        point for point in before if point == target
    ]
    commands_go_on(theirs)
    assert web.veth in theirs.veths()

    service.restart()
    nobody_waits(theirs, service)
    commands_go_on(theirs)
    assert "Traceback" not in service.log_text()

    mallory(theirs, "rm -r a; mv b a")
    service.logged("kept again", str(theirs.root))
    done = theirs.run_to_end("first", ("ip", "-4", "addr", "show", "eth0"))
    assert "inet 172.19." in done.stdout
    assert service.running


def test_a_link_above_a_root_that_was_there_before_the_start(theirs: Host) -> None:
    of_root = theirs.base / "of-root"
    of_root.mkdir()
    theirs.root.rmdir()
    mallory(theirs, f"rmdir a; ln -s {of_root} a")
    before = mounted(theirs)
    with theirs.service() as service:
        service.logged("left alone", str(theirs.root), level="error")
        nobody_waits(theirs, service)
        assert mounted(theirs) == before
        assert list(of_root.iterdir()) == []
        commands_go_on(theirs)
        assert str(theirs.root) in theirs.watcher("check", check=False).stdout
        service.stop()
    assert mounted(theirs) == before


def test_a_directory_that_is_moved_takes_no_hold_with_it(theirs: Host) -> None:
    service = theirs.service()
    web = theirs.attach("web")
    moved = theirs.base / "home/b/runc"
    mallory(theirs, "mv a b; mkdir a")
    theirs.root.mkdir()

    eventually(lambda: str(moved) not in mounted(theirs), what="the old root's end as a mount")
    eventually(lambda: mounted(theirs).count(str(theirs.root)) == 1, what="the new root's hold")
    assert web.veth in theirs.veths()  # its init lives, and an empty root tells nothing
    done = theirs.run_to_end("other", ("ip", "-4", "addr", "show", "eth0"))
    assert "inet 172.19." in done.stdout

    mallory(theirs, "mv a c; mv b a")
    eventually(lambda: str(theirs.base / "home/c/runc") not in mounted(theirs))
    eventually(lambda: mounted(theirs).count(str(theirs.root)) == 1)
    done = theirs.run_to_end("again", ("ip", "-4", "addr", "show", "eth0"))
    assert "inet 172.19." in done.stdout
    theirs.attached("web")
    service.stop()
    assert not [point for point in mounted(theirs) if "/home/" in point]


def test_a_link_to_another_root_gives_no_container_twice(theirs: Host) -> None:
    real = theirs.base / "runc"
    theirs.config.write_text(theirs.config.read_text() + f'[[root]]\npath = "{real}"\n')
    theirs.root.rmdir()
    mallory(theirs, f"ln -s {real} a/runc")
    theirs.root = real
    theirs.service()
    theirs.attach("web")
    assert theirs.ls()["web"]["root"] == str(real)


def test_moving_to_and_fro_costs_the_others_nothing(theirs: Host) -> None:
    """Each change is a look at the root, so those who make many have to wait for it."""
    other = theirs.base / "runc"
    theirs.config.write_text(theirs.config.read_text() + f'[[root]]\npath = "{other}"\n')
    service = theirs.service()
    theirs.root = other
    loop = "while [ ! -e end ]; do mv a b; ln -s / a; rm a; mv b a; done"
    user = (f"--reuid={MALLORY}", f"--regid={MALLORY}", "--clear-groups")
    home = theirs.base / "home"
    with theirs.popen(["setpriv", *user, "sh", "-ec", loop], directory=home) as process:
        for number in range(5):
            done = theirs.run_to_end(f"c{number}", ("ip", "-4", "addr", "show", "eth0"))
            assert "inet 172.19." in done.stdout
        mallory(theirs, "touch end")
        assert process.wait(60) == 0, service.log_text()
    told = [entry for entry in service.log() if entry["event"].startswith("root is")]
    assert len(told) < 100
    assert service.running


@pytest.mark.parametrize("of", ["a container", "another program", "the host"])
def test_a_root_of_a_user_says_nothing_of_others_processes(host: Host, of: str) -> None:
    """Its files can name any process; only a namespace of the user's own gets anything by that."""
    runtime = host.base / "home/runc"
    runtime.mkdir(parents=True)
    for path in (runtime.parent, runtime):
        os.chown(path, MALLORY, MALLORY)
    host.config.write_text(host.config.read_text() + f'[[root]]\npath = "{runtime}"\n')
    host.service()
    web = host.attach("web")
    pid = web.pid
    if of != "a container":
        alone = "unshare --net " if of == "another program" else ""
        script = f"{alone}sleep 1000 >&- 2>&- & echo $! > pid"
        host.command("sh", "-ec", script)
        pid = int((host.base / "pid").read_text())
    stat = host.command("cat", f"/proc/{pid}/stat").stdout
    state = {
        "init_process_pid": pid,
        "init_process_start": int(stat.rpartition(")")[2].split()[19]),
        "config": {
            "namespaces": [{"type": "NEWNET", "path": ""}, {"type": "NEWUSER", "path": ""}],
            "labels": ["bundle=/tmp", "io.watcher.ports=8080:80"],
        },
    }
    (runtime.parent / "new").mkdir()
    (runtime.parent / "new/state.json").write_text(json.dumps(state))
    os.chown(runtime.parent / "new", MALLORY, MALLORY)
    (runtime.parent / "new").rename(runtime / "evil")
    host.watcher("sync", check=False)
    reason = "the host's" if of == "the host" else f"of no user namespace of user {MALLORY}"
    assert reason in host.inspect("evil")["reason"]
    assert host.inspect("web")["members"] == ["web"]
    assert host.veths() == {web.veth}
    web.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, 8080) is None


# --- which links are followed ----------------------------------------------------------------


def opened(host: Host, path: Path) -> str:
    return host.command(sys.executable, "-c", OPENED, str(path), env=host.watcher_env).stdout[:-1]


HOLDERS: dict[str, Callable[[Path], None]] = {
    "sticky": lambda path: path.chmod(0o1777),
    "writable by a group": lambda path: path.chmod(0o775),
    "another user's": lambda path: os.chown(path, MALLORY, MALLORY),
}


@pytest.mark.parametrize("how", HOLDERS)
@pytest.mark.parametrize("where", ["at the end", "on the way"])
def test_a_link_is_followed_only_where_root_alone_can_have_put_it(
    host: Host, how: str, where: str
) -> None:
    target, holder = host.base / "target", host.base / "holder"
    (target / "below").mkdir(parents=True)
    holder.mkdir()
    (holder / "link").symlink_to("../target")
    path = holder / "link" if where == "at the end" else holder / "link/below"
    assert opened(host, path) == str(path.resolve())

    HOLDERS[how](holder)
    assert "others than root could have put there" in opened(host, path)


def test_a_link_to_a_link_is_followed_by_the_same_rule(host: Host) -> None:
    theirs = host.base / "theirs"
    theirs.mkdir()
    (theirs / "link").symlink_to("/etc")
    (host.base / "ours").symlink_to("theirs/link")
    assert opened(host, host.base / "ours") == "/etc"
    os.chown(theirs, MALLORY, MALLORY)
    assert "others than root could have put there" in opened(host, host.base / "ours")


def test_links_in_a_circle_end(host: Host) -> None:
    (host.base / "one").symlink_to("two")
    (host.base / "two").symlink_to("one")
    assert opened(host, host.base / "one") == "Too many levels of symbolic links"
