"""What an administrator has below the directory of pins stays, though it looks like ours."""

from __future__ import annotations

import pytest

from tests.support.host import GATE_OFF, Host, HostMaker
from tests.support.tampering import MARK, NOTHING, forget, named_namespace, powerful, second_name


def test_a_second_name_of_a_sandboxs_namespace_stays(kept: Host) -> None:
    web = kept.attach("web")
    inode = second_name(kept, "debug", web)
    assert kept.watcher("sync").stdout == NOTHING
    assert kept.pin_inode("debug") == inode
    kept.delete("web")
    kept.gone(web)
    kept.watcher("sync")
    assert kept.pin_inode("debug") == inode


@pytest.mark.parametrize("lost", [False, True], ids=["", "store lost"])
def test_down_leaves_a_second_name(host: Host, *, lost: bool) -> None:
    inode = second_name(host, "debug", host.attach("web"))
    host.share("sidecar", "web")
    if lost:
        forget(host)
    host.watcher("down")
    assert host.pins() == {"debug"}
    assert host.pin_inode("debug") == inode


def test_without_its_memory_a_second_name_stays_as_well(host: Host) -> None:
    """Of a sandbox that lives, and of one that has gone."""
    inode = second_name(host, "debug", host.attach("web"))
    forget(host)
    host.watcher("sync")
    assert host.pins() == {"web", "debug"}
    forget(host)
    host.delete("web")
    assert f"left {host.netns_dir}/debug" in host.watcher("sync").stdout
    assert host.pins() == {"debug"}
    assert host.pin_inode("debug") == inode
    assert host.watcher("sync").stdout == NOTHING


def test_a_mark_inside_a_namespace_of_an_administrator_does_not_take_its_name(host: Host) -> None:
    lab = named_namespace(host, "lab")
    host.run("guest", netns_path=host.netns_dir / "lab", edit=powerful)
    lab.run("ip", "link", "set", "lo", "group", MARK)
    lab.run("ip", "link", "add", "eth0", "group", MARK, "type", "veth", "peer", "name", "eth1")
    lab.run("ip", "link", "set", "eth0", "alias", "watcher lab")
    host.watcher("sync")
    assert host.pin_inode("lab") == lab.inode
    forget(host)
    host.watcher("sync")
    assert host.pin_inode("lab") == lab.inode
    host.watcher("down")
    assert host.pin_inode("lab") == lab.inode


def test_an_empty_file_of_an_administrator_is_not_taken_over(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF)
    host.netns_dir.mkdir()
    file = host.netns_dir / "web"
    file.touch()
    before = file.stat()
    host.run("web")
    assert str(file) in host.fails("web")
    host.delete("web")
    host.watcher("sync")
    assert file.stat() == before
    file.unlink()
    host.attach("web")


def test_a_name_that_was_taken_over_is_told_and_stops_nobody_else(host: Host) -> None:
    web, other = host.attach("web"), host.attach("other")
    for name in ("web", "other"):
        host.command("sh", "-ec", f"umount {host.netns_dir}/{name}; rm {host.netns_dir}/{name}")
    theirs = named_namespace(host, "web")
    printed = host.watcher("sync").stdout
    assert f"left {host.netns_dir}/web" in printed
    assert host.pin_inode("web") == theirs.inode
    assert host.pin_inode("other") == other.place.inode
    host.delete("web")
    host.watcher("sync")
    assert host.pin_inode("web") == theirs.inode
    assert web.veth not in host.veths()


def test_without_descriptors_no_pin_is_taken_for_somebody_elses(host: Host) -> None:
    """The first sync that has enough of them to succeed has done all that is to do."""
    host.attach("web")
    forget(host)
    host.delete("web")
    for most in range(12, 64):
        limited = ("prlimit", f"--nofile={most}:{most}", *host.watcher_command("sync"))
        done = host.command(*limited, check=False, env=host.watcher_env)
        if done.returncode == 0:
            break
        assert "left" not in done.stdout
    assert done.returncode == 0
    assert host.pins() == set()


def test_a_pin_that_only_its_file_knows_is_removed(host: Host) -> None:
    """Whoever should have unmounted it was killed when store and link had gone."""
    web = host.attach("web")
    second_name(host, "debug", web)
    host.delete("web")
    host.here.run("ip", "link", "del", web.veth)
    forget(host)
    assert f"removed {host.netns_dir}/web" in host.watcher("sync").stdout
    assert host.pins() == {"debug"}
    assert host.watcher("sync").stdout == NOTHING


def test_another_namespace_mounted_on_the_file_of_a_pin_stays(host: Host) -> None:
    web, other = host.attach("web"), host.attach("other")
    path = host.netns_dir / "web"
    host.command("umount", str(path))
    host.command("mount", "--bind", f"/proc/{other.pid}/ns/net", str(path))
    host.delete("web")
    host.here.run("ip", "link", "del", web.veth)
    forget(host)
    host.watcher("sync")
    assert host.pin_inode("web") == other.place.inode
