"""A gate that moves held inits, in a process of its own on a host: the program, and its handle.

Like :mod:`tests.support.gatekeeper`, with one more command, `move`. The steps of a move are the
moments before and after each request of ptrace(2) and each wait for its result. The program may be
told to kill itself at one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlers import root_mounts
from handlers.kernel import rootpath
from handlers.kernel.ptrace import requests
from handlers.moving import CannotMove, HalfMoved, stopped, why_never
from tests.support.gatekeeper import Gatekeeper
from watcher.containers import proc
from watcher.gate.aside import Aside
from watcher.gate.hold import Hold
from watcher.gate.thread import Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.gatekeeper import Json


class Mover(Gatekeeper):
    """A gate on a host that moves held inits on command."""

    program = __file__

    def move(self, id_: str, pid: int, *settings: str) -> Json:
        """Waits until `id_` is held, moves its init to process `pid`, and lets it go.

        Args:
            id_: the container.
            pid: a process in the network namespace that the init comes into.
            settings: `path=value` below `/proc/sys/net`, as the runtime has written them.
        """
        self.held(id_)
        self.tell("move", id_, str(pid), *settings)
        return self.wait("moved", id=id_)


class Steps:
    """Counts the steps, and ends the program at one of them."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.count = 0
        for name in ("_request", "wait"):
            self._wrap(name)

    def _wrap(self, name: str) -> None:
        function = getattr(requests, name)

        def wrapped(*args: Any) -> Any:
            self._reach()
            try:
                return function(*args)
            finally:
                self._reach()

        setattr(requests, name, wrapped)

    def _reach(self) -> None:
        self.count += 1
        if self.count == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


class Program:
    """The program; it answers no hold unless it is told to."""

    def __init__(self, roots: list[str], at: int) -> None:
        self._steps = Steps(at)
        self._holds: dict[str, Hold] = {}
        self._aside = Aside((), most=64)
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._gate = Gate(
            timeout=60.0,
            on_timeout=False,
            decide=self._decide,
            expired=lambda hold: self._say("expired", id=hold.id),
            overflow=lambda: self._say("overflow"),
            failed=lambda error: self._say("failed", error=repr(error)),
            unlimited=True,
        )
        for root in roots:
            directory = rootpath.open_directory(root)
            self._gate.mark(root, directory, filesystem=root_mounts.is_whole(directory))
        self._say("ready", pid=os.getpid(), never=why_never())

    def run(self) -> None:
        """Obeys until there are no more commands; this thread alone answers holds."""
        threading.Thread(target=self._read, daemon=True).start()
        while (work := self._work.get()) is not None:
            work()
        self._gate.close()

    def _read(self) -> None:
        for line in sys.stdin:
            self._work.put(partial(self._obey, *line.split()))
        self._work.put(None)

    def _obey(self, word: str, id_: str, *rest: str) -> None:
        hold = self._holds[id_]
        if word == "move":
            self._aside.run(partial(self._move, hold, *rest))
        else:
            self._say("result", value=hold.answer(word == "allow"))

    def _decide(self, hold: Hold) -> None:
        self._holds[hold.id] = hold
        self._say("held", id=hold.id, runc=hold.runc_pid, init=hold.init.pid)

    def _move(self, hold: Hold, pid: str, *settings: str) -> None:
        """Moves the init of `hold`, and has it allowed, or denied if it cannot be moved."""
        error, self._steps.count = "", 0
        sysctls = [(path, value) for path, _, value in (one.partition("=") for one in settings)]
        try:
            init, netns = hold.init, proc.netns_of(hold.init.pid)
            target = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                with stopped(init, hold.runc_pid, netns or 0) as one:
                    one.move(target, sysctls)
            finally:
                os.close(target)
        except (CannotMove, HalfMoved, OSError) as reason:
            error = f"{type(reason).__name__}: {reason}"
        self._work.put(partial(self._answer, hold, error, self._steps.count))

    def _answer(self, hold: Hold, error: str, steps: int) -> None:
        hold.answer(not error)
        self._say("moved", id=hold.id, error=error, steps=steps)

    def _say(self, event: str, **fields: object) -> None:
        with self._lock:
            print(json.dumps({"event": event, **fields}, default=str), flush=True)  # noqa: T201


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--die-at", type=int, default=0, help="the step at which it kills itself")
    parser.add_argument("roots", nargs="*", type=Path)
    options = parser.parse_args()
    Program([str(root) for root in options.roots], options.die_at).run()


if __name__ == "__main__":
    _main()
