"""The throwaway host itself: what every other test here takes for granted."""

from __future__ import annotations

from pathlib import Path

from tests.support.host import BEYOND, BEYOND6, UPLINK, UPLINK6, Host, HostMaker
from tests.support.traffic import Answer


def test_a_host_has_its_own_links_mounts_and_processes(make_host: HostMaker) -> None:
    one, other = make_host(), make_host()
    one.command("ip", "link", "add", "mine", "type", "bridge")
    one.command("mount", "-t", "tmpfs", "tmpfs", str(one.base / "sys"))

    assert one.here.links() >= {"lo", "uplink", "mine"}
    assert "mine" in one.command("ls", "/sys/class/net").stdout.split()
    assert "mine" not in other.here.links()
    assert not Path("/sys/class/net/mine").exists()
    assert str(one.base) not in Path("/proc/self/mountinfo").read_text()
    assert len(one.command("sh", "-c", "ls -d /proc/[0-9]*").stdout.split()) < 5


def test_the_machine_beyond_is_reached_by_the_uplink(host: Host) -> None:
    host.beyond.serve(tcp=(80,), udp=(53,))
    host.here.serve(tcp=(80,), udp=(53,))

    assert host.here.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert host.here.reach(BEYOND, 53, "udp") == Answer("beyond", UPLINK)
    assert host.here.reach(BEYOND6, 80) == Answer("beyond", UPLINK6)
    assert host.beyond.reach(UPLINK, 80) == Answer("host", BEYOND)
    assert host.beyond.reach(UPLINK6, 53, "udp") == Answer("host", BEYOND6)
    assert host.beyond.reach("172.19.0.1", 80, timeout=0.2) is None


def test_containers_run_and_end(host: Host) -> None:
    web = host.run("web")
    assert host.state("web")["status"] == "running"
    assert web.place.links() == {"lo"}
    assert web.exec("hostname").stdout == "runc\n"
    assert host.run_to_end("echo", ["echo", "hello"]).stdout == "hello\n"
    assert host.run_to_end("false", ["false"], check=False).returncode == 1

    host.create("waits")
    assert host.state("waits")["status"] == "created"
    host.start("waits")
    assert host.state("waits")["status"] == "running"
    host.pause("waits")
    assert host.state("waits")["status"] == "paused"
    host.kill("web")
    assert host.state("web")["status"] == "stopped"
    host.delete("web")
    assert not (host.root / "web").exists()
    # `waits` is left paused: a host ends all the same.


def test_a_container_may_have_a_user_namespace_or_join_a_network_namespace(host: Host) -> None:
    web = host.run("web", user_namespace=True)
    assert web.exec("cat", "/proc/self/uid_map").stdout.split() == ["0", "100000", "65536"]
    host.run("same", netns_path="host")
    assert host.container("same").place.inode == host.here.inode
    joined = host.run("joined", netns_path=f"/proc/{web.pid}/ns/net")
    assert joined.place.inode == web.place.inode


def test_another_machine_has_a_link_of_its_own(host: Host) -> None:
    far = host.machine("far", "198.51.100.0/24")
    far.serve(tcp=(80,))
    assert host.here.reach("198.51.100.2", 80) == Answer("far", "198.51.100.1")
