"""`watcher run`: starts, stops, crashes and comes back without anybody's connection noticing."""

from __future__ import annotations

import fcntl
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.config.test_reload import has_opened
from tests.support.host import BEYOND, UPLINK, Host, HostMaker, Service
from tests.support.traffic import Answer
from tests.support.waiting import eventually
from watcher.locks.names import SERVICE


def test_containers_that_are_there_already_are_attached_before_it_is_ready(host: Host) -> None:
    host.run("web", ports="8080:80").serve(tcp=(80,))
    host.run("other")
    host.service(cold=True)
    assert {row["status"] for row in host.ls().values()} == {"attached"}
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def test_sigterm_leaves_every_container_working(host: Host) -> None:
    service = host.service(cold=True)
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    host.beyond.serve(tcp=(80,))
    stream = host.beyond.stream(UPLINK, 8080)
    service.stop()

    assert stream.say("hello") == "hello"
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert host.here.reach("127.0.0.1", 8080) is not None
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert host.pins() == {"web"}


def test_its_main_thread_alone_takes_the_signals_that_stop_it(host: Host) -> None:
    service = host.service(cold=True)
    for task in Path(f"/proc/{service.pid}/task").iterdir():
        status = (task / "status").read_text()
        blocked = int(status.partition("SigBlk:")[2].split()[0], 16)
        for number in (signal.SIGTERM, signal.SIGCONT, signal.SIGHUP):
            assert bool(blocked & 1 << number - 1) == (task.name != str(service.pid)), status


def test_sigint_stops_it_as_well(host: Host) -> None:
    service = host.service(cold=True)
    service.signal(signal.SIGINT)
    assert service.wait() in (0, 130)
    assert "Traceback" not in service.log_text()


def restarted_without_notice(host: Host, service: Service, end: str) -> None:
    web = host.attach("web", ports="8080:80/tcp,8080:80/udp")
    web.serve(tcp=(80,), udp=(80,))
    host.beyond.serve(tcp=(80,))
    inwards = host.beyond.stream(UPLINK, 8080)
    local = host.here.stream("127.0.0.1", 8080)
    outwards = web.place.stream(BEYOND, 80)
    datagrams = host.beyond.datagrams(UPLINK, 8080)
    assert datagrams.ask() == Answer("web", BEYOND)
    before = host.here.picture(), web.place.picture()

    for _ in range(3):
        getattr(service, end)()
        service.start()
        for stream in (inwards, local, outwards):
            assert stream.say("still there") == "still there"
        assert datagrams.ask() == Answer("web", BEYOND)
    assert (host.here.picture(), web.place.picture()) == before
    assert host.watcher("sync").stdout == "nothing to do\n"


def test_a_stop_and_a_start_touch_no_connection(host: Host) -> None:
    restarted_without_notice(host, host.service(cold=True), "stop")


def test_a_kill_and_a_start_touch_no_connection(host: Host) -> None:
    restarted_without_notice(host, host.service(cold=True), "kill9")


def test_a_container_that_appeared_in_the_meantime_is_attached_at_the_start(host: Host) -> None:
    service = host.service(cold=True)
    old = host.attach("old")
    address = old.address
    service.kill9()
    host.run("new")
    service.start()
    assert host.ls()["new"]["status"] == "attached"
    assert old.address == address


def test_it_tells_its_manager_what_systemd_wants_to_know(host: Host) -> None:
    service = host.service(env={"WATCHDOG_USEC": "400000"}, cold=True)
    service.notified("WATCHDOG=1", times=3)
    service.signal(signal.SIGTERM)
    service.notified("STOPPING=1")
    assert service.wait() == 0


def test_a_second_one_on_the_same_host_is_refused(host: Host) -> None:
    first = host.service(cold=True)
    web = host.attach("web")
    second = host.watcher("run", check=False, timeout=20)
    assert second.returncode == 1
    assert len(second.stderr.strip().splitlines()) == 1, second.stderr
    assert str(host.run_dir) in second.stderr or "already" in second.stderr
    assert first.running
    assert host.status("web") == "attached"
    assert web.veth in host.veths()


@pytest.mark.parametrize("command", ["run", "down"])
def test_one_that_cannot_be_seen_is_told_of_as_well(host: Host, command: str) -> None:
    """As one in another pid namespace."""
    host.watcher("sync")
    with (host.run_dir / SERVICE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = host.watcher(command, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith(
        ": a process that cannot be seen from here; stop it first, e.g. `systemctl stop watcher`\n"
    )


def mounts_of_root(host: Host) -> int:
    lines = host.command("cat", "/proc/self/mountinfo").stdout.splitlines()
    return sum(line.split()[4] == str(host.root) for line in lines)


@pytest.mark.parametrize("what", ["run_dir", "service.lock", "lock", "replaced"])
def test_one_whose_locks_are_removed_makes_them_anew(host: Host, what: str) -> None:
    service = host.service(env={"WATCHDOG_USEC": "400000"}, cold=True)
    web = host.attach("web")
    held = [entry["event"] for entry in service.log()]
    if what == "run_dir":
        host.run_dir.rename(host.base / "away")  # at once: it is made anew meanwhile
        shutil.rmtree(host.base / "away")
    elif what == "replaced":
        other = host.base / "other"
        other.mkdir(mode=0o700)
        # At once: between two steps the service would make it anew.
        subprocess.run(["mv", "--exchange", "-T", other, host.run_dir], check=True)
    else:
        (host.run_dir / what).unlink()
    service.logged("made the locks anew", level="warning")
    names = {"answers.sock", "events.sock", "lock", "resolv", "service.lock", "told.sock"}
    eventually(lambda: {path.name for path in host.run_dir.iterdir()} == names)

    second = host.watcher("run", check=False, timeout=20)
    assert second.returncode == 1
    assert "has this host already" in second.stderr
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert mounts_of_root(host) == 1
    assert "inet 172.19." in host.run_to_end("next", ("ip", "-4", "addr", "show", "eth0")).stdout
    host.delete(web.id)
    host.gone(web)
    service.notified("WATCHDOG=1", service.times_notified("WATCHDOG=1") + 2)
    told = [entry["event"] for entry in service.log()][len(held) :]
    assert told.count("made the locks anew, which were removed") == 1
    assert not [event for event in told if event in ("repaired", "sync failed")]
    service.stop()


def test_a_lock_that_a_command_has_for_an_instant_is_waited_for(host: Host) -> None:
    """As one does that looks whether a service runs while `run_dir` is made anew."""
    service = host.service(cold=True)
    path, beside = host.run_dir / SERVICE, host.base / "beside"
    with beside.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        beside.rename(path)  # so that it is removed, and another one is locked at the same time
        eventually(lambda: has_opened(service, path), what="that it has seen the other one")
    service.logged("made the locks anew", level="warning")
    assert service.running
    host.attach("web")


def test_of_two_that_each_have_a_lock_the_first_gives_way(host: Host) -> None:
    """Where all locks were removed while the first one could not see it."""
    first = host.service(cold=True)
    first.signal(signal.SIGSTOP)
    shutil.rmtree(host.run_dir)
    host.command("sh", "-ec", "rm /run/watcher-*.lock")
    second = host.service(cold=True)
    first.signal(signal.SIGCONT)
    assert first.wait() == 1
    assert "another `watcher run` has this host by now" in first.log_text()
    assert "Traceback" not in first.log_text()
    assert second.running
    eventually(lambda: mounts_of_root(host) == 1)
    host.attach("next")


def test_two_hosts_each_have_their_own(make_host: HostMaker) -> None:
    for host in (make_host(), make_host()):
        host.service(cold=True)
        host.attach("web", ports="8080:80").serve(tcp=(80,))
        assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def test_a_root_that_is_missing_at_the_start_may_appear_later(host: Host) -> None:
    assert not host.root.exists()
    service = host.service(cold=True)
    host.attach("web")
    assert service.running


def test_a_root_deep_in_directories_that_are_missing_may_appear_later(make_host: HostMaker) -> None:
    host = make_host()
    root = host.base / "a/b/c/runc"
    host.config.write_text(host.config.read_text().replace(str(host.root), str(root)))
    host.root = root
    host.service(cold=True)
    host.attach("web")


def test_a_root_that_is_removed_and_made_again_is_watched_again(host: Host) -> None:
    service = host.service(cold=True)
    web = host.attach("web")
    host.delete("web")
    host.gone(web)
    # As after `rm -r`, a mount of the gate on it included.
    host.command(
        "unshare", "--mount", "sh", "-c", f"umount {host.root} 2>/dev/null; rm -r {host.root}"
    )
    host.attach("web")
    host.attach("other")
    assert service.running


def test_several_roots_are_watched(make_host: HostMaker) -> None:
    host = make_host()
    other = host.base / "podman"
    host.config.write_text(host.config.read_text() + f'\n[[root]]\npath = "{other}"\n')
    host.service(cold=True)
    host.attach("web")
    host.bundle("pod")
    host.launch("run", "pod", "--detach", root=other)
    eventually(lambda: host.ls()["pod"]["status"] == "attached")
    assert host.ls()["pod"]["root"] == str(other)
    assert host.ls()["web"]["root"] == str(host.root)


def test_the_log_is_json_and_names_the_container(host: Host) -> None:
    service = host.service(cold=True)
    host.attach("web", ports="8080:80")
    host.delete("web")
    host.empty()
    assert any(entry.get("container") == "web" for entry in service.log())
    assert service.warnings() == []


def test_runcs_own_files_are_left_alone(host: Host) -> None:
    service = host.service(cold=True)
    host.attach("web")
    assert {path.name for path in (host.root / "web").iterdir()} <= {"state.json", "exec.fifo"}
    service.stop()
    host.delete("web")
    shutil.rmtree(host.root)
