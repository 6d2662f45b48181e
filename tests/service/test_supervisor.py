"""Threads and readers that end: said, started anew, and what they have missed is made good."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.host import Host, Service
from tests.support.paths import REPOSITORY
from tests.support.waiting import eventually
from watcher.events.roots import RootWatch
from watcher.log.logger import make_log
from watcher.service.retries import Later
from watcher.service.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

SEES_ETH0 = ("ip", "-4", "addr", "show", "eth0")
WOUNDED = REPOSITORY / "tests/support/wounded.py"


DRIFT = """
import asyncio, subprocess
from ipaddress import ip_network
from watcher.events.drift import Drift

async def main():
    loop, said = asyncio.get_running_loop(), asyncio.Queue()
    def suspect(name):
        said.put_nowait(f"suspected {name}")
        if said.qsize() == 1 and not ended:
            raise RuntimeError("as asked")
    def failed(error):
        ended.append(error)
        said.put_nowait(f"ended {error}")
    ended = []
    for _ in range(2):
        drift = Drift(
            loop, ["netns0"], ["netns0"], [ip_network("172.19.0.0/16")],
            overlapping=lambda: (), routes=lambda: None,
            link=suspect, host=suspect, lost=lambda: None, failed=failed,
        )
        subprocess.run(["ip", "link", "add", "netns0", "up", "type", "bridge"], check=True)
        subprocess.run(["ip", "link", "delete", "netns0"], check=True)
        print(await said.get(), flush=True)
        if len(ended) == 1 and drift.alive is False:
            print(await said.get(), flush=True)
    drift.close()

asyncio.run(asyncio.wait_for(main(), 20))
"""


MOUNTS = """
import asyncio, subprocess, sys
from watcher.events.mounts import MountWatch

async def main():
    loop, said, ended = asyncio.get_running_loop(), asyncio.Queue(), []
    def anew(root):
        said.put_nowait("anew")
        if not ended:
            raise RuntimeError("as asked")
    def failed(error):
        ended.append(error)
        said.put_nowait(f"ended {error}")
    for verb in (["mount", "-t", "tmpfs", "tmpfs"], ["umount"]):
        roots = lambda: sys.argv[1:]
        watch = MountWatch(loop, roots, anew=anew, changed=lambda: None, failed=failed)
        subprocess.run([*verb, sys.argv[1]], check=True)
        print(await said.get(), flush=True)
        if not watch.alive:
            print(await said.get(), flush=True)
    watch.close()

asyncio.run(asyncio.wait_for(main(), 20))
"""


def wounded(host: Host, thread: str) -> Service:
    """A service whose thread of that name ends by SIGUSR1."""

    return host.service(env={"WATCHDOG_USEC": "400000", "WOUNDED": thread}, script=WOUNDED)


def test_a_gate_whose_thread_ends_is_opened_again(host: Host) -> None:
    service = wounded(host, "gate")
    before = host.attach("before")
    for number in range(2):
        service.signal(signal.SIGUSR1)
        host.run(f"meanwhile{number}")  # nobody is held for it
        eventually(partial(has_ended, service, "gate", number + 1))
        done = host.run_to_end(f"after{number}", SEES_ETH0)
        assert "inet 172.19." in done.stdout
        host.attached(f"meanwhile{number}")
    host.attached(before.id)
    service.notified("WATCHDOG=1")


def test_links_are_deleted_though_the_reapers_thread_ends(host: Host) -> None:
    service = wounded(host, "reaper")
    for number in range(2):
        web = host.attach(f"web{number}")
        service.signal(signal.SIGUSR1)
        host.delete(web.id)
        host.gone(web)
        eventually(partial(has_ended, service, "reaper", number + 1))
    assert host.watcher("sync").stdout == "nothing to do\n"


def ended(service: Service, part: str) -> int:
    """How often it was said that a part has ended."""
    return sum(e["event"].startswith("a part has ended") and e["part"] == part
               for e in service.log())  # fmt: skip


def has_ended(service: Service, part: str, times: int) -> bool:
    """Whether it was said so many times that a part has ended."""
    return ended(service, part) == times


def test_the_manager_is_not_told_that_all_is_well_while_a_part_cannot_be_started(
    host: Host,
) -> None:
    service = wounded(host, "gate")
    service.notified("WATCHDOG=1")
    pid = service.inner_pid
    service.signal(signal.SIGUSR1)
    host.command("prlimit", f"--pid={pid}", "--nofile=4:")
    host.command("sh", "-c", f": >{host.root}/file")  # what wakes the thread

    def failures() -> int:
        return sum("cannot be started" in entry["event"] for entry in service.log())

    eventually(lambda: failures() > 1)  # so the beats before the first are a while ago
    told, failed = service.times_notified("WATCHDOG=1"), failures()
    eventually(lambda: failures() > failed)  # it was tried again by a beat, and others lay between
    assert service.times_notified("WATCHDOG=1") == told

    host.command("prlimit", f"--pid={pid}", "--nofile=1024:")
    service.notified("WATCHDOG=1", told + 1)
    assert "inet 172.19." in host.run_to_end("web", SEES_ETH0).stdout


# --- the mechanism by itself -----------------------------------------------------------------


def in_loop(script: Callable[[asyncio.AbstractEventLoop], Any]) -> None:
    async def run() -> None:
        await asyncio.wait_for(script(asyncio.get_running_loop()), 20)

    asyncio.run(run())


def test_a_watch_that_ends_by_an_error_watches_again(tmp_path: Path) -> None:
    log = make_log("debug", "json")
    seen: asyncio.Queue[str] = asyncio.Queue()

    def look(_: str, id_: str) -> None:
        seen.put_nowait(id_)
        if id_ == "bad":
            raise RuntimeError("as asked")

    async def script(loop: asyncio.AbstractEventLoop) -> None:
        root = os.open(tmp_path, os.O_PATH)
        parts = Supervisor(loop, lambda: seen.put_nowait("all"), log)
        watch = RootWatch(
            look=look, anew=lambda _: None, overflow=lambda: None,
            failed=lambda error: parts.ended("inotify", error), log=log,
        )  # fmt: skip

        def start() -> None:
            watch.start(loop)
            watch.watch_root("root", root)

        parts.add("inotify", lambda: watch.alive, start)
        for id_ in ("good", "bad", "next"):
            (tmp_path / id_).mkdir()
        start()
        for id_ in ("good", "bad", "next"):
            (tmp_path / id_).rmdir()
            assert await seen.get() == id_
            if id_ == "bad":
                assert await seen.get() == "all"
        assert parts.check()
        watch.stop()
        os.close(root)

    in_loop(script)


def test_drift_that_ends_by_an_error_says_so_and_listens_again(host: Host) -> None:
    """By the real kernel's word, in a network namespace of its own."""
    done = host.command(sys.executable, "-c", DRIFT, env=host.watcher_env)
    assert done.stdout.splitlines() == ["suspected netns0", "ended as asked", "suspected netns0"]


def test_drift_listens_where_others_leave_no_inotify(host: Host) -> None:
    """A container of the same user can take all there is."""
    take = "import ctypes\nlibc = ctypes.CDLL(None)\nwhile libc.inotify_init() >= 0: pass\n"
    powers = "+net_admin,+net_broadcast"
    user = f"--reuid=65533 --clear-groups --inh-caps={powers} --ambient-caps={powers}"
    words = ("setpriv", *user.split(), sys.executable, "-c", take + DRIFT)
    done = host.command(*words, env=host.watcher_env)
    assert done.stdout.splitlines() == ["suspected netns0", "ended as asked", "suspected netns0"]


def test_a_watch_of_the_mount_table_that_ends_by_an_error_says_so_and_watches_again(
    host: Host,
) -> None:
    host.root.mkdir()
    words = (sys.executable, "-c", MOUNTS, str(host.root))
    done = host.command(*words, env=host.watcher_env)
    assert done.stdout.splitlines() == ["anew", "ended as asked", "anew"]


@pytest.mark.parametrize("able", [True, False])
def test_a_part_that_has_ended_is_told_of_once_and_started(
    capsys: pytest.CaptureFixture[str], *, able: bool
) -> None:
    async def script(loop: asyncio.AbstractEventLoop) -> None:
        starts: list[bool] = []

        def renew() -> None:
            starts.append(able)
            if not able:
                raise OSError(24, "Too many open files")

        parts = Supervisor(loop, lambda: None, make_log("debug", "json"))
        parts.add("thread", lambda: starts[-1:] == [True], renew)
        assert [parts.check() for _ in range(3)] == [able] * 3
        assert len(starts) == 1

    in_loop(script)
    said = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    ending = "a part has ended, and is started anew"
    assert said == ([ending] if able else [ending, "a part cannot be started"])


def test_failures_that_plan_a_repetition_do_not_add_up() -> None:
    async def main() -> list[str]:
        loop, said, over = asyncio.get_running_loop(), list[str](), asyncio.Event()
        again = Later(loop, lambda: said.append("again"), (0.001, 0.002))
        for _ in range(10):
            again.plan()
        loop.call_later(0.05, over.set)  # the loop calls what is due in order
        await over.wait()
        return said

    assert asyncio.run(main()) == ["again"]


def test_the_pauses_of_a_repetition_grow_until_it_succeeds() -> None:
    async def main() -> None:
        loop, said, over = asyncio.get_running_loop(), list[float](), asyncio.Event()

        def fails() -> None:
            said.append(loop.time())
            if len(said) == 4:
                again.done()
                over.set()
            else:
                again.plan()

        again = Later(loop, fails, (0.02, 0.08))
        again.plan()
        await over.wait()
        first, second, third, fourth = said
        assert (second - first >= 0.04, third - second >= 0.08, fourth - third >= 0.08) == (
            True, True, True,
        )  # fmt: skip
        assert not again.planned

    asyncio.run(main())
