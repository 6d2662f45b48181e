"""It is there before a container's first instruction, and nothing else changes."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.support.crun import CrunHost
from tests.support.host import GATE_OFF, Host, HostMaker, Service
from tests.support.resolv_confs import OURS, READ
from tests.support.waiting import eventually

CATS = ("sh", "-c", "cat /etc/resolv.conf; exec sleep 1000000")
WAITS = ("sh", "-c", "until grep -s nameserver /etc/resolv.conf; do :; done")


def test_it_is_there_at_the_first_instruction(host: Host, service: Service) -> None:
    host.bundle("web", READ)
    for _ in range(20):
        assert host.launch("run", "web").stdout == OURS
    names = [f"c{number}" for number in range(32)]
    for name in names:
        host.bundle(name, READ)
    running = [(name, host.launching("run", name)) for name in names]
    assert {host.launched(process, name).stdout for name, process in running} == {OURS}
    host.create("later", CATS)
    host.start("later")
    eventually(lambda: host.output("later") == OURS)
    assert service.warnings() == []
    service.stop()
    assert host.container("later").exec(*READ).stdout == OURS


def test_nobody_can_write_it_and_nobody_else_sees_it(host: Host, service: Service) -> None:
    host.command("mount", "--make-rshared", "/")
    web = host.attach("web")
    assert "Read-only" in web.exec("sh", "-c", "echo x >/etc/resolv.conf", check=False).stderr
    mount = next(
        line
        for line in web.exec("cat", "/proc/self/mountinfo").stdout.splitlines()
        if line.split()[4] == "/etc/resolv.conf"
    )
    assert set(mount.split()[5].split(",")) >= {"ro", "nosuid", "nodev", "noexec"}
    assert "shared:" not in mount
    assert "resolv" not in host.command("cat", "/proc/self/mountinfo").stdout
    assert (host.rootfs / "etc/resolv.conf").read_bytes() == b""
    assert service.warnings() == []


def test_what_a_container_mounts_over_it_is_seen_by_nobody_else(
    host: Host, service: Service
) -> None:
    host.command("mount", "--make-rshared", "/")
    web = host.attach("web")
    for name in ("/etc/hosts", "/etc/passwd"):
        inside = ("nsenter", f"--target={web.pid}", "--mount", "--root")
        host.command(*inside, "/bin/busybox", "mount", "-o", "bind", name, "/etc/resolv.conf")
    assert web.exec(*READ).stdout.startswith("root:")
    assert host.run_to_end("next", READ).stdout == OURS
    assert host.command("cat", str(host.run_dir / "resolv/default.conf")).stdout == OURS
    assert service.warnings() == []


def test_who_wants_none_or_has_no_such_network_gets_none(host: Host, service: Service) -> None:
    for asked in (
        {"io.watcher.dns": "none"},
        {"io.watcher.network": "plain"},
        {"io.watcher.network": "none"},
        {"io.watcher.network": "plain,default"},
    ):
        assert host.run_to_end("web", READ, annotations=asked).stdout == ""
    asked = {"io.watcher.network": "default,plain", "io.watcher.dns": "192.0.2.1"}
    assert host.run_to_end("web", READ, annotations=asked).stdout == OURS
    assert service.warnings() == []


def test_who_shares_a_sandbox_gets_that_of_its_first_network(host: Host, service: Service) -> None:
    host.attach("web")
    share = {"io.watcher.share": "web"}
    assert host.run_to_end("moved", READ, annotations=share).stdout == OURS
    assert host.run_to_end("by-path", READ, netns_path=host.netns_dir / "web").stdout == OURS
    none = share | {"io.watcher.dns": "none"}
    assert host.run_to_end("none", READ, annotations=none).stdout == ""
    host.attach("back", annotations={"io.watcher.network": "plain"})
    host.watcher("connect", "back", "default")
    assert host.run_to_end("side", READ, annotations={"io.watcher.share": "back"}).stdout == ""
    assert service.warnings() == []


def test_without_a_gate_it_comes_as_soon_as_it_can(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF)
    service = host.service()
    host.attach("web")
    eventually(lambda: host.container("web").exec(*READ).stdout == OURS)
    service.kill9()
    synced = host.run("synced")
    assert synced.exec(*READ).stdout == ""
    host.watcher("sync")
    assert synced.exec(*READ).stdout == OURS
    late, web = host.run("late"), host.container("web")
    assert late.exec(*READ).stdout == ""
    inside = ("nsenter", f"--target={web.pid}", "--mount", "--root")
    host.command(*inside, "/bin/busybox", "umount", "/etc/resolv.conf")
    service.start()
    for each in (late, web):
        eventually(lambda each=each: each.exec(*READ).stdout == OURS)  # type: ignore[misc]
    assert not [entry for entry in service.warnings() if "resolv" in str(entry)]


def test_a_file_that_is_lost_is_made_anew_and_a_changed_domain_reaches_who_runs(
    host: Host, service: Service
) -> None:
    web = host.attach("web")
    directory = host.run_dir / "resolv"
    assert host.seen(directory).stat().st_mode & 0o777 == 0o755
    assert host.seen(directory / "default.conf").stat().st_mode & 0o777 == 0o644
    config = host.config.read_text()
    host.config.write_text(f'{config}[names]\ndomain = "corp.internal"\n')
    service.signal(signal.SIGHUP)
    service.notified("READY=1", 2)
    ours = OURS.replace("watcher.internal", "corp.internal")
    assert web.exec(*READ).stdout == ours
    host.command("rm", "-r", str(directory))
    assert host.run_to_end("next", READ).stdout == ours
    assert service.warnings() == []
    service.stop()
    host.watcher("down")
    assert not host.seen(directory).exists()


def test_crun_create_waits_for_it_and_crun_run_gets_it(rootfs: Path) -> None:
    with CrunHost(rootfs) as host:
        service = host.service()
        host.create("web", READ)
        host.start("web")
        host.shows("web", OURS)
        host.bundle("run", ("sh", "-c", f"{WAITS[-1]}; exec sleep 1000000"))
        host.launch("run", "run", "--detach")
        eventually(lambda: "nameserver" in host.output("run"))
        assert service.warnings() == []
