"""The copies of sandboxes cannot be written, or what lies beside them is no copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.connected import FRONT, is_right, on, refused
from tests.support.host import BEYOND, UPLINK
from tests.support.traffic import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.host import Host, HostMaker


def fill(host: Host, directory: Path) -> None:
    """Cover a directory with a file system that has no room."""
    options = "size=4k,nr_inodes=2,mode=700"
    host.command("mount", "-t", "tmpfs", "-o", options, "none", str(directory))
    host.command("sh", "-c", f"head -c 4096 /dev/zero > {directory}/full")


def test_no_room_for_a_copy_keeps_nobody_from_going(make_host: HostMaker) -> None:
    host = make_host(FRONT)
    web = host.attach("web", ports="8080:80,81")
    web.serve(tcp=(80,))
    side = host.share("side", "web", ports="9000:80")
    host.watcher("connect", "side", "front")
    address = on(side, "eth1")
    stream = host.beyond.stream(UPLINK, 8080)
    copies = host.run_dir / "sandboxes"
    fill(host, copies)
    assert "No space left" in refused(host, "publish", "web", "9001:80")
    assert host.beyond.reach(UPLINK, 9001, timeout=0.3) is None

    host.delete("side")
    host.run("late")
    done = host.watcher("sync", check=False)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert web.place.links() == {"lo", "eth0"}
    assert address not in host.leases()
    assert host.beyond.reach(UPLINK, 9000, timeout=0.3) is None
    assert host.status("late") == "attached"
    assert stream.say("still there") == "still there"
    host.watcher("unpublish", "web", "8080:80")
    assert host.beyond.reach(UPLINK, 8080, timeout=0.3) is None

    host.command("umount", str(copies))
    host.watcher("sync")
    assert is_right(host)
    host.watcher("publish", "web", "8080:80")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def test_what_is_no_copy_is_not_waited_for(make_host: HostMaker) -> None:
    """A fifo would wait for its writer for ever, and a device may never end."""
    host = make_host(FRONT)
    host.attach("web", ports="81")
    directory = host.run_dir / "sandboxes"
    (name,) = [path.name for path in directory.iterdir()]
    for line in ("mkfifo 1", "mknod 2 c 1 5", "ln -s /dev/zero 3", f"mv {name} 4; mkfifo {name}"):
        host.command("sh", "-c", f"cd {directory}; {line}")
        done = host.watcher("sync", timeout=20)
        assert "copy" in done.stdout
        assert [path.name for path in directory.iterdir()] == [name]
        assert is_right(host)


def test_a_refused_connection_leaves_nothing_to_repair(live: Host) -> None:
    web = live.attach("web")
    web.place.run("ip", "link", "add", "eth1", "type", "bridge")
    assert "not ours already" in refused(live, "connect", "web", "front")
    assert is_right(live)
    assert not list((live.run_dir / "sandboxes").glob("*"))
