"""A gate that moves held inits, in a process of its own on a host: the program, and its handles.

Like :mod:`tests.support.gatekeeper`, with one more command, `move`. The steps of a move are the
moments before and after each request of ptrace(2) and each wait for its result. A :class:`Killer`
forks such a program for each container, and has somebody killed at one of its steps.
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
from typing import TYPE_CHECKING, Any, Final

from handlers import root_mounts
from handlers.kernel import rootpath
from handlers.kernel.ptrace import requests
from handlers.moving import CannotMove, HalfMoved, stopped, why_never
from tests.support import refusing
from tests.support.gatekeeper import Gatekeeper
from tests.support.processes import children
from watcher.containers import proc
from watcher.gate.aside import Aside
from watcher.gate.hold import Hold
from watcher.gate.thread import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.support.host import Host


class Mover(Gatekeeper):
    """A gate on a host that moves held inits on command."""

    program = __file__

    def move(self, id_: str, pid: int, *settings: str) -> str:
        """Waits until `id_` is held, and moves its init to process `pid`; it stays held.

        Args:
            id_: the container.
            pid: a process in the network namespace that the init comes into.
            settings: `path=value` below `/proc/sys/net`, as the runtime has written them.

        Returns:
            Why it was not moved; empty if it was.
        """
        self.held(id_)
        return self.move_held(id_, pid, *settings)

    def move_held(self, id_: str, pid: int, *settings: str) -> str:
        """As :meth:`move`, of one that is known to be held."""
        self.tell("move", id_, str(pid), *settings)
        error: str = self.wait("moved", id=id_)["error"]
        return error


OLD: Final = (sys.executable, refusing.__file__, "428,EINVAL")
"""The prefix of a :class:`Mover` that is refused open_tree(2) as a kernel before Linux 6.15 would:
it cannot clone a part of a mount without a place."""


class Killer(Gatekeeper):
    """Forks a gate for each container, which moves and allows it, or denies it."""

    program = __file__

    def __init__(self, host: Host, root: Path) -> None:
        super().__init__(host, root, options=("--forks",))

    def arm(self, pid: int, at: int = 0, who: str = "tracer") -> None:
        """Has the next container moved to process `pid`, and `who` killed at step `at`.

        Args:
            pid: a process in the network namespace that the init comes into.
            at: the step, from 1; 0 for none.
            who: `tracer`, `init` or `runc`.
        """
        self.tell(str(pid), str(at), who)
        self.wait("ready")

    def forked(self) -> int:
        """The pid of the gate that :meth:`arm` has forked, as this process sees it."""
        [server] = children(self._process.pid)
        [gate] = children(server)
        return gate


class Steps:
    """Counts the steps, and calls `act` at one of them."""

    def __init__(self) -> None:
        self.at = self.count = 0
        self.act: Callable[[], object] = lambda: None
        self._wrap(requests, "_request")
        self._wrap(requests.Waits, "wait")

    def _wrap(self, where: Any, name: str) -> None:
        function = getattr(where, name)

        def wrapped(*args: Any) -> Any:
            self._reach()
            try:
                return function(*args)
            finally:
                self._reach()

        setattr(where, name, wrapped)

    def _reach(self) -> None:
        self.count += 1
        if self.count == self.at:
            self.act()


class Program:
    """The program. Its main thread alone answers holds, if it is told to."""

    def __init__(self, roots: Sequence[str]) -> None:
        self.steps = Steps()
        self._holds: dict[str, Hold] = {}
        self._aside = Aside((), most=64)
        self.work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._gate = Gate(
            timeout=60.0,
            on_timeout=False,
            decide=self._decide,
            expired=lambda hold, _: say("expired", id=hold.id),
            overflow=lambda: say("overflow"),
            failed=lambda error: say("failed", error=repr(error)),
            unlimited=True,
        )
        for root in roots:
            directory = rootpath.open_directory(root)
            self._gate.mark(root, directory, filesystem=root_mounts.is_whole(directory))
        say("ready", pid=os.getpid(), never=why_never())

    def run(self) -> None:
        """Works until there is no more to do."""
        while (work := self.work.get()) is not None:
            work()
        self._gate.close()

    def obey(self) -> None:
        """Takes commands from standard input until its end."""
        for line in sys.stdin:
            self.work.put(partial(self._obey, *line.split()))
        self.work.put(None)

    def kill(self, who: str) -> None:
        """Kills the tracer, which is this process, the only container's init, or its runtime."""
        hold = next(iter(self._holds.values()))
        pids = {"tracer": os.getpid(), "init": hold.init.pid, "runc": hold.runc_pid}
        os.kill(pids[who], signal.SIGKILL)

    def _obey(self, word: str, id_: str, *rest: str) -> None:
        hold = self._holds[id_]
        if word == "move":
            self._aside.run(partial(self.move, hold, *rest))
        else:
            say("result", value=hold.answer(word == "allow"))

    def _decide(self, hold: Hold) -> None:
        self._holds[hold.id] = hold
        say("held", id=hold.id, runc=hold.runc_pid, init=hold.init.pid)
        self.held(hold)

    def held(self, hold: Hold) -> None:
        """Called in the gate's thread with a new hold."""

    def move(self, hold: Hold, pid: str, *settings: str) -> None:
        """Moves the init of `hold` to process `pid`."""
        error, self.steps.count = "", 0
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
        self.work.put(partial(self.moved, hold, error))

    def moved(self, hold: Hold, error: str) -> None:
        """Called in the main thread with the result of a move."""
        say("moved", id=hold.id, error=error, steps=self.steps.count)


class ForOne(Program):
    """The program for one container, which it moves and answers by itself."""

    def __init__(self, roots: Sequence[str], pid: str, at: int, who: str) -> None:
        self._pid = pid
        super().__init__(roots)
        self.steps.at, self.steps.act = at, partial(self.kill, who)

    def held(self, hold: Hold) -> None:
        self._aside.run(partial(self.move, hold, self._pid))

    def moved(self, hold: Hold, error: str) -> None:
        hold.answer(not error)
        super().moved(hold, error)
        self.work.put(None)


def say(event: str, **fields: object) -> None:
    """Prints a whole line, or none if somebody kills this process."""
    os.write(1, f"{json.dumps({'event': event, **fields})}\n".encode())


def _fork(roots: Sequence[str]) -> None:
    """Forks a program for each line of standard input."""
    say("forks", pid=os.getpid())
    for line in sys.stdin:
        pid, at, who = line.split()
        child = os.fork()
        if child == 0:
            ForOne(roots, pid, int(at), who).run()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        say("over", status=status)


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--forks", action="store_true", help="fork for each line that comes")
    parser.add_argument("roots", nargs="*")
    options = parser.parse_args()
    if options.forks:
        _fork(options.roots)
        return
    program = Program(options.roots)
    threading.Thread(target=program.obey, daemon=True).start()
    program.run()


if __name__ == "__main__":
    _main()
