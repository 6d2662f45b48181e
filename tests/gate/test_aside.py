"""Calls that may never return, where the process can have no more threads."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from tests.support.paths import REPOSITORY
from tests.support.waiting import eventually
from watcher.gate.aside import Aside

SCRIPT = """
import os, resource, threading
from watcher.gate.aside import Aside

os.setuid(4321)  # root may have more than its limit
aside = Aside([], 2)
soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
assert [aside.run(lambda: None) for _ in range(3)] == [False, False, False]
resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
done = threading.Event()
assert aside.run(done.set)
assert done.wait(20)
"""


def test_a_call_for_which_no_thread_can_start_is_refused_and_the_next_is_made() -> None:
    subprocess.run(
        [sys.executable, "-c", SCRIPT], env={"PYTHONPATH": str(REPOSITORY)}, check=True, timeout=60
    )


def test_who_has_all_their_calls_hang_leaves_threads_for_others() -> None:
    aside, go_on, ended = Aside([], 4), threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        go_on.wait()
        ended.release()

    try:
        assert all(aside.run(hang, "theirs") for _ in range(8))
        for of in ("another", ""):
            done = threading.Event()
            assert aside.run(done.set, of)
            assert done.wait(20)
        eventually(lambda: not aside.run(hang, "theirs"), what="a refusal")
    finally:
        go_on.set()
    for _ in range(8):
        assert ended.acquire(timeout=20)
    done = threading.Event()
    assert aside.run(done.set, "theirs")
    assert done.wait(20)


def test_one_that_somebody_else_gives_up_later_does_not_hang_until_then() -> None:
    aside, clock, go_on = Aside([], 2), Aside([], 1), threading.Event()
    now = time.monotonic()
    try:
        assert all(aside.run(go_on.wait, until=now + 1000) for _ in range(2))
        assert clock.run(go_on.wait)
        eventually(lambda: not clock.run(go_on.wait), what="a time after which others hang")
        done = threading.Event()
        assert aside.run(done.set, until=now + 1000)
    finally:
        go_on.set()
    assert done.wait(20)


def test_one_that_somebody_has_given_up_hangs() -> None:
    aside, go_on = Aside([], 1), threading.Event()
    try:
        assert aside.run(go_on.wait, until=time.monotonic())
        eventually(lambda: not aside.run(go_on.wait, until=time.monotonic()), what="a refusal")
    finally:
        go_on.set()
