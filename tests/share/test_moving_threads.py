"""A process whose threads come and go, as those of a newer runtime may, is moved as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from handlers.kernel import processes
from handlers.moving import CannotMove, HalfMoved, StoppedInit, stopped
from tests.support import refusing, threads
from tests.support.waiting import PATIENCE, eventually
from watcher.containers import proc
from watcher.model.container import Process

if TYPE_CHECKING:
    from tests.support.host.containers import Container


@contextmanager
def restless() -> Iterator[subprocess.Popen[str]]:
    """A process whose threads come and go."""
    with subprocess.Popen(
        [sys.executable, threads.__file__],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            yield process
        finally:
            process.kill()


def known(process: subprocess.Popen[str]) -> Process:
    start = processes.start_time(process.pid)
    assert start is not None
    return Process(process.pid, start)


def netns_of(process: subprocess.Popen[str]) -> int:
    netns = proc.netns_of(process.pid)
    assert netns is not None
    return netns


def namespaces(process: subprocess.Popen[str]) -> set[int]:
    """The network namespaces of all threads; some end meanwhile."""
    found = set()
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            found.add((task / "ns/net").stat().st_ino)
    return found


def kill_and_move(process: subprocess.Popen[str], one: StoppedInit, web: Container) -> None:
    process.kill()
    one.move(web.place.netns)


def rest(process: subprocess.Popen[str]) -> str:
    """What it says of its calls at its end."""
    said, _ = process.communicate(timeout=PATIENCE)
    return said.strip()


def test_all_of_its_threads_are_moved_and_all_calls_end_as_they_should(web: Container) -> None:
    with restless() as process:
        own = netns_of(process)
        with stopped(known(process), os.getpid(), own) as one:
            one.move(web.place.netns)
        assert namespaces(process) == {web.place.inode}
        assert rest(process) == "right 0"


def test_it_is_stopped_and_let_go_many_times(web: Container) -> None:
    with restless() as process:
        own = netns_of(process)
        for _ in range(200):
            with stopped(known(process), os.getpid(), own):
                pass
        assert namespaces(process) == {own}
        with stopped(known(process), os.getpid(), own) as one:
            one.move(web.place.netns)
        assert namespaces(process) == {web.place.inode}
        assert rest(process) == "right 0"


def test_it_may_be_killed_while_it_is_stopped(web: Container) -> None:
    with restless() as process:
        own = netns_of(process)
        with pytest.raises(HalfMoved, match="ended"), stopped(known(process), os.getpid(), own):
            process.kill()
        assert not Path(f"/proc/{process.pid}").exists()
    with restless() as process:
        own = netns_of(process)
        moved = stopped(known(process), os.getpid(), own)
        with pytest.raises(HalfMoved, match="ended"), moved as one:
            kill_and_move(process, one, web)
        assert not Path(f"/proc/{process.pid}").exists()


def test_a_signal_that_comes_meanwhile_is_delivered_afterwards(web: Container) -> None:
    with restless() as process:
        own = netns_of(process)
        with stopped(known(process), os.getpid(), own) as one:
            process.send_signal(signal.SIGUSR1)
            one.move(web.place.netns)
        assert namespaces(process) == {web.place.inode}
        assert rest(process) == "right 1"


def test_one_that_a_signal_has_stopped_stays_so(web: Container) -> None:
    with restless() as process:
        own = netns_of(process)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        moved = stopped(known(process), os.getpid(), own)
        with pytest.raises(CannotMove, match="a signal has stopped"), moved:
            pytest.fail("it was stopped once more")
        stat = Path(f"/proc/{process.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        process.send_signal(signal.SIGCONT)
        with stopped(known(process), os.getpid(), own) as one:
            one.move(web.place.netns)
        assert namespaces(process) == {web.place.inode}
        assert rest(process) == "right 0"


def test_a_descriptor_that_is_no_network_namespace_moves_nobody() -> None:
    with restless() as process:
        own = netns_of(process)
        with Path("/proc/self/ns/uts").open() as uts:
            moved = stopped(known(process), os.getpid(), own)
            with pytest.raises(CannotMove, match="cannot be moved: Invalid argument"), moved as one:
                one.move(uts.fileno())
        assert namespaces(process) == {own}
        assert rest(process) == "right 0"


# --- nobody else is touched ----------------------------------------------------------------------


def test_no_other_process_is_stopped() -> None:
    with restless() as process:
        own, init = netns_of(process), known(process)
        wrong = [
            (Process(init.pid, init.start + 1), os.getpid(), own, "has ended"),
            (init, os.getppid(), own, "not the child"),
            (init, init.pid, own, "not the child"),
            (init, os.getpid(), own + 1, "not in the network namespace"),
        ]
        for one, runtime, netns, says in wrong:
            with pytest.raises(CannotMove, match=says), stopped(one, runtime, netns):
                pytest.fail("it was stopped")
        assert rest(process) == "right 0"
    with pytest.raises(CannotMove, match="has ended"), stopped(init, os.getpid(), own):
        pytest.fail("it was stopped")


def test_one_that_has_a_child_is_left_alone() -> None:
    words = ["unshare", "--net", "sh", "-c", "echo there; sleep 1000; :"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        [child] = eventually(lambda: list(proc.children(process.pid)))
        moved = stopped(known(process), os.getpid(), netns_of(process))
        with pytest.raises(CannotMove, match="another process is in the container"), moved:
            pytest.fail("it was stopped")
        process.kill()
        os.kill(child, 9)


def test_one_that_is_traced_is_left_to_its_tracer() -> None:
    with restless() as process:
        own, init = netns_of(process), known(process)
        traces = f"""
import sys
from handlers.moving import stopped
from watcher.model.container import Process
with stopped(Process({init.pid}, {init.start}), {os.getpid()}, {own}):
    print("traces", flush=True)
    sys.stdin.read()
"""
        with subprocess.Popen(
            [sys.executable, "-c", traces],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as tracer:  # fmt: skip
            assert tracer.stdout is not None
            assert tracer.stdout.readline() == "traces\n"
            moved = stopped(init, os.getpid(), own)
            with pytest.raises(CannotMove, match=f"process {tracer.pid} traces"), moved:
                pytest.fail("it was stopped")
            tracer.communicate()
        assert rest(process) == "right 0"


def test_the_end_of_the_tracer_is_that_of_the_process() -> None:
    with restless() as process:
        own, init = netns_of(process), known(process)
        traces = f"""
import os, signal
from handlers.moving import stopped
from watcher.model.container import Process
with stopped(Process({init.pid}, {init.start}), {os.getpid()}, {own}):
    os.kill(os.getpid(), signal.SIGKILL)
"""
        subprocess.run([sys.executable, "-c", traces], check=False)
        assert process.wait(PATIENCE) == -9


# --- where nobody can be moved -------------------------------------------------------------------

ASKS = "from handlers.moving import why_never; print(why_never())"
PTRACE = 101


def test_a_process_that_may_not_trace_says_so() -> None:
    asks = [sys.executable, "-c", ASKS]
    may_not = [sys.executable, refusing.__file__, str(PTRACE), *asks]
    says = [
        subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
        for words in (asks, may_not)
    ]
    assert says == ["\n", "this process may not call ptrace(2): Operation not permitted\n"]
