"""Plays `watcher` on a host, killed at one of its failure points (:mod:`tests.support.killing`)."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Final
from zlib import crc32

from handlers.kernel.rtnl import OURS
from tests.support.paths import REPOSITORY
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import Host

KILLING: Final = REPOSITORY / "tests/support/killing.py"
READY: Final = "after notify READY=1"
KILLED: Final = -signal.SIGKILL


class Killer:
    """Runs `watcher` on a host by tests/support/killing.py, one at a time."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._log = host.base / "killed.log"
        self._process = host.popen(
            [sys.executable, str(KILLING)],
            env=host.watcher_env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        host.on_close(self._close)
        self._rest = ""
        self._razed = False
        self.points: list[str] = []
        """Those of the run that was started last, so far."""
        self.status: int | None = None
        """How it has ended, if it has."""

    def _close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait() == 0

    def _tell(self, request: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> None:
        """Waits for what the next lines of tests/support/killing.py say."""
        assert self._process.stdout is not None
        data = os.read(self._process.stdout.fileno(), 1 << 16).decode()
        assert data, f"tests/support/killing.py has ended:\n{self.log()}"
        *lines, self._rest = (self._rest + data).split("\n")
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "ended":
                self.status = int(rest)
            elif word == "razed":
                self._razed = True
            else:
                self.points.append(rest)

    def log(self) -> str:
        """The end of what all runs have said."""
        return self._log.read_text()[-4000:] if self._log.exists() else ""

    def start(self, *args: str, at: int | None = None, after: str = "", victim: int = 0) -> None:
        """Starts `watcher`, to be killed at point `at` behind the notification `after`.

        With `victim`, the process of that number on the host is killed there instead.
        """
        self.points, self.status = [], None
        self._tell(
            {
                "args": ["--config", str(self.host.config), *args],
                "at": at,
                "after": after,
                "victim": victim,
                "stderr": str(self._log),
            }
        )

    def until(self, point: str) -> bool:
        """Waits until it has come to a point of that name; false if it has ended before."""
        while point not in self.points and self.status is None:
            self._hear()
        return point in self.points

    def ended(self) -> int:
        """Waits for its end; its exit status, or `KILLED`."""
        while self.status is None:
            self._hear()
        return self.status

    def has_ended(self) -> bool:
        """Whether it has ended by now."""
        assert self._process.stdout is not None
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        while poll.poll(0):
            self._hear()
        return self.status is not None

    def stopped_when(self, condition: Callable[[], bool]) -> bool:
        """Stops a service when `condition` holds; whether it was killed before or meanwhile."""
        eventually(lambda: self.has_ended() or condition())
        if self.status is None:
            self.signal(signal.SIGTERM)
        return self.ended() == KILLED

    def run(self, *args: str, at: int | None = None) -> int:
        """Runs `watcher` to its end."""
        self.start(*args, at=at)
        return self.ended()

    def sync(self) -> None:
        """`watcher sync`, which has to succeed."""
        status = self.run("sync")
        assert status == 0, f"watcher sync exits {status}:\n{self.log()}"

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self._tell({"signal": int(number)})

    def raze(self) -> None:
        """Nothing of the watcher is on the host, as before its first start."""
        self._razed = False
        directories = [str(self.host.run_dir), str(self.host.state_dir)]
        made = {"group": OURS, "pins": str(self.host.netns_dir), "directories": directories}
        self._tell({"raze": made})
        while not self._razed:
            self._hear()


ALL: Final = os.environ.get("WATCHER_KILL_STEP") == "1"
"""Whether every point is taken, as `make soak` has it."""

_TODAY: Final = date.today().toordinal()


def sample(name: str, step: int) -> tuple[int, int]:
    """The first point to take, from 1 on, and how far it is to the next one.

    Each day it is another first one: in `step` days, every point has been taken.

    Args:
        name: of what is played; the first points of two differ.
        step: of its points, every so-manieth is taken, or every single one if :data:`ALL` are.
    """
    step = 1 if ALL else step
    return 1 + (crc32(name.encode()) + _TODAY) % step, step


def every_point(
    kill: Callable[[int], bool],
    check: Callable[[], None],
    *,
    step: int = 1,
    first: int | None = None,
) -> None:
    """Has `kill` play an operation and end it at its first point, its second, and so on.

    Args:
        kill: given the point, plays the operation; whether it was cut off there.
        check: looks at what is left.
        step: more than 1 to leave some out; see :func:`sample`.
        first: where to begin, if that is not to change from day to day.
    """
    begin, step = sample(kill.__qualname__, step)
    cut, at = True, (first or begin) - step
    points = 0
    while cut:
        at += step
        points += 1
        try:
            cut = kill(at)
            check()
        except AssertionError as error:
            error.add_note(f"killed at point {at}")
            raise
    assert points > 1
