"""Whatever hangs, hangs alone: a file system that does not answer, a writer that was stopped."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.hangs import Freezable, HangingBundle
from tests.support.host import Host, HostMaker
from tests.support.processes import end
from tests.support.waiting import PATIENCE, eventually
from watcher.locks.names import SERVICE, WRITERS

FIRST = ["grep", "-q", "eth0", "/proc/net/dev"]
"""Succeeds if it has its network at its first instruction."""


def gated(make_host: HostMaker, gate: str = "timeout = 2.5\n") -> Host:
    host: Host = make_host(f'[gate]\nmode = "required"\n{gate}')
    return host


def nobody_is_held(host: Host) -> None:
    """What runc does with its containers is not held, as it would be by a group that stays."""
    host.command("runc", "--root", str(host.root), "list", timeout=PATIENCE)


# --- a bundle that does not answer ---------------------------------------------------------------


def test_a_bundle_that_does_not_answer_holds_up_nobody_else(make_host: HostMaker) -> None:
    host = gated(make_host)
    service = host.service()
    bundle = HangingBundle(host, "stuck", ["true"])
    process = bundle.run()
    bundle.wait()

    assert host.run_to_end("web", FIRST).returncode == 0
    assert process.wait(PATIENCE) == 0
    assert service.logged("held too long", "stuck", level="error")
    service.signal(signal.SIGTERM)
    service.notified("STOPPING=1")
    nobody_is_held(host)
    bundle.answer()  # the kernel ends no process that waits for an answer
    assert service.wait() == 0


def test_more_bundles_hang_than_are_waited_for(make_host: HostMaker) -> None:
    host = gated(make_host, "timeout = 2.0\n")
    service = host.service()
    bundles = [HangingBundle(host, f"stuck{number}", ["true"]) for number in range(17)]
    processes = [bundle.run() for bundle in bundles[:16]]
    for number, process in enumerate(processes):
        assert process.wait(PATIENCE) == 0
        assert service.logged("held too long", f"stuck{number}", level="error")

    assert bundles[16].run().wait(PATIENCE) == 0
    assert service.logged("not held", "stuck16", level="error")
    assert not [
        entry
        for entry in service.log()
        if "held too long" in entry["event"] and entry["container"] == "stuck16"
    ]
    assert host.run_to_end("web", FIRST).returncode == 0

    for bundle in bundles:
        bundle.answer()
    service.stop()


def test_a_bundle_that_answers_after_all_gets_its_network(make_host: HostMaker) -> None:
    """On a file system that could hang, read in a thread aside."""
    host = gated(make_host, "timeout = 60.0\n")
    host.service()
    assert HangingBundle(host, "web", FIRST, count=2).run().wait(PATIENCE) == 0


def test_a_killed_service_that_cannot_end_holds_nobody(make_host: HostMaker) -> None:
    host = gated(make_host)
    service = host.service()
    bundle = HangingBundle(host, "stuck", ["true"])
    bundle.run()
    bundle.wait()
    service.signal(signal.SIGKILL)
    nobody_is_held(host)

    new = host.service()
    assert host.run_to_end("web", FIRST).returncode == 0
    new.stop()
    bundle.answer()


# --- a frozen store ------------------------------------------------------------------------------


def test_a_frozen_store_ends_each_hold_and_heals(make_host: HostMaker) -> None:
    host = gated(make_host)
    store = Freezable(host, host.state_dir)
    service = host.service(env={"WATCHDOG_USEC": "400000"})
    store.freeze()
    host.run("one")
    host.run("two")
    assert service.logged("held too long", "one", level="error")
    assert service.logged("held too long", "two", level="error")
    assert service.logged("waits for a file system", level="error")
    nobody_is_held(host)

    store.thaw()
    host.attached("one")
    host.attached("two")
    service.stop()


def test_sigterm_ends_a_service_whose_store_is_frozen(make_host: HostMaker) -> None:
    host = gated(make_host)
    store = Freezable(host, host.state_dir)
    service = host.service()
    store.freeze()
    host.run("one")
    service.signal(signal.SIGTERM)
    assert service.logged("does not stop", level="error")
    nobody_is_held(host)

    store.thaw()
    assert service.wait() == 1
    host.service()
    host.attached("one")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_killed_service_whose_store_is_frozen_is_taken_over_from(
    make_host: HostMaker, number: signal.Signals
) -> None:
    host = gated(make_host)
    store = Freezable(host, host.state_dir)
    service = host.service()
    store.freeze()
    host.run("one")
    service.signal(number)
    nobody_is_held(host)

    new = host.service(ready=False)
    assert new.logged(SERVICE, "taken over", level="warning")
    assert new.logged(
        f"{host.run_dir / WRITERS} is taken over"
    )  # for this it waits behind the gate
    host.run("two")
    assert new.logged("held too long", "two", level="error")
    store.thaw()
    new.notified("READY=1")
    host.attached("one")
    host.attached("two")
    new.stop()


# --- a writer that was stopped -------------------------------------------------------------------


def holds(pid: int, lock: Path) -> bool:
    """Whether process `pid` of this machine has that lock."""
    inode = lock.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[4] == str(pid) and words[5].endswith(f":{inode}"):
            return True
    return False


class Stopped:
    """A command that changes the host, stopped while it has the lock."""

    def __init__(self, host: Host, *args: str) -> None:
        self.process = self._started(host, *args)
        host.on_close(lambda: end(self.process))

    def _started(self, host: Host, *args: str) -> subprocess.Popen[str]:
        lock = host.run_dir / WRITERS
        for _ in range(50):
            process = host.popen(
                host.watcher_command(*args), env=host.watcher_env,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            pid = 0
            while process.poll() is None:
                with suppress(OSError, IndexError):
                    pid = pid or _child(process.pid)
                    if pid and lock.exists() and holds(pid, lock):
                        os.kill(pid, signal.SIGSTOP)
                        break
            if process.poll() is None and holds(pid, lock):
                self.pid = pid
                return process
            end(process)
        raise AssertionError(f"{args} was never caught with the lock")

    def go_on(self) -> None:
        """SIGCONT, and the command's end."""
        os.kill(self.pid, signal.SIGCONT)
        os.kill(self.process.pid, signal.SIGCONT)
        self.process.wait(PATIENCE)


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def test_a_stopped_sync_ends_each_hold_and_is_named(make_host: HostMaker) -> None:
    host = gated(make_host)
    service = host.service()
    sync = Stopped(host, "sync")
    host.run("one")
    assert service.logged("held too long", "one", level="error")
    assert service.logged("has the lock", "sync", "stopped", "kill -CONT", level="error")
    assert host.run_to_end("ours", ["true"], netns_path="host").returncode == 0
    found = host.watcher("check", check=False).stdout
    assert "stopped" in found
    assert "sync" in found

    sync.go_on()
    host.attached("one")
    assert host.run_to_end("web", FIRST).returncode == 0
    service.stop()


def test_sigterm_ends_a_service_while_a_sync_is_stopped(make_host: HostMaker) -> None:
    host = gated(make_host)
    service = host.service()
    sync = Stopped(host, "sync")
    host.run("one")
    service.stop()
    sync.go_on()


@pytest.mark.parametrize("command", [("sync",), ("network", "rm", "default")])
def test_a_service_that_starts_while_a_writer_is_stopped_holds_runc(
    make_host: HostMaker, command: tuple[str, ...]
) -> None:
    host = gated(make_host)
    host.watcher("sync")
    writer = Stopped(host, *command)
    service = host.service(ready=False)
    assert service.logged("waiting", command[0], "stopped", level="warning")
    host.run("one")
    assert service.logged("held too long", "one", level="error")

    writer.go_on()
    service.notified("READY=1")
    host.attached("one")
    service.stop()


def test_a_service_told_to_stop_while_it_waits_does(make_host: HostMaker) -> None:
    host = gated(make_host)
    host.watcher("sync")
    writer = Stopped(host, "sync")
    service = host.service(ready=False)
    assert service.logged("waiting", level="warning")
    service.stop()
    writer.go_on()


@pytest.mark.parametrize("command", [("sync",), ("network", "rm", "default"), ("down",)])
def test_a_command_that_waits_for_a_stopped_one_says_so(
    host: Host, command: tuple[str, ...]
) -> None:
    host.watcher("sync")
    writer = Stopped(host, "sync")
    done = host.watcher(*command, check=False)
    assert done.returncode == 1
    for line in done.stderr.splitlines():
        assert "stopped" in line
        assert "kill -CONT" in line
    assert "sync" in done.stderr
    writer.go_on()


def test_a_stopped_down_keeps_a_service_from_starting_and_is_named(host: Host) -> None:
    host.watcher("sync")
    down = Stopped(host, "down")
    done = host.watcher("run", check=False)
    assert done.returncode == 1
    assert "down" in done.stderr
    assert "kill -CONT" in done.stderr
    down.go_on()


# --- a log that nobody reads ---------------------------------------------------------------------


def test_a_log_that_nobody_reads_holds_up_nobody(make_host: HostMaker) -> None:
    host = gated(make_host)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(writer, "w") as errors:
        process = host.popen(
            host.watcher_command("--log-format", "json", "run"),
            env=host.watcher_env, stderr=errors,
        )  # fmt: skip
    host.on_close(lambda: end(process))
    eventually(lambda: host.run_to_end("first", FIRST).returncode == 0)
    for number in range(40):
        assert host.run_to_end(f"web{number}", FIRST).returncode == 0
    os.kill(_child(process.pid), signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    os.close(reader)
