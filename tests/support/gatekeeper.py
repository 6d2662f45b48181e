"""A gate by itself, in a process of its own on a host: the program, and how a test works with it.

The program answers no hold unless it is told to. It prints what happens as lines of JSON and takes
commands as lines of words; see :func:`_obey` for those.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import sys
import threading
from contextlib import contextmanager
from subprocess import PIPE
from typing import TYPE_CHECKING, Any, Self

import msgspec

from handlers import root_mounts
from handlers.kernel import rootpath
from watcher.containers import roots
from watcher.gate.hold import Hold
from watcher.gate.observe import observe
from watcher.gate.thread import Gate
from watcher.model.errors import WatcherError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.host import Host

type Json = dict[str, Any]

PATIENCE = 20.0
"""Seconds after which an event that comes at all has come, even on a slow machine."""


class Gatekeeper:
    """A gate on a host, until the end of a `with` or of the host.

    Args:
        host: the host.
        roots: the roots to be marked from the start: mount points.
        options: of the program; see :func:`_options`.
        prefix: a command that starts the program, e.g. `setpriv …`.
    """

    program = __file__

    def __init__(
        self, host: Host, *roots: Path, options: tuple[str, ...] = (), prefix: tuple[str, ...] = ()
    ) -> None:
        self.host = host
        self._said: list[Json] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._process = host.popen(
            [*prefix, sys.executable, self.program, *options, *map(str, roots)],
            stdin=PIPE,
            stdout=PIPE,
            env=host.watcher_env,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        host.on_close(self.end)
        self.first = self.wait()
        self.pid: int = self.first["pid"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def tell(self, *words: str) -> None:
        """Gives the program a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()

    def ask(self, *words: str) -> Any:
        """Gives the program a command and returns its result."""
        self.tell(*words)
        return self.wait("result")["value"]

    def wait(self, event: str = "", **fields: object) -> Json:
        """The next line that it prints, or the first of `event` that has these `fields`.

        Other lines stay for later calls.
        """

        def fits(said: Json) -> bool:
            return event in ("", said["event"]) and fields.items() <= said.items()

        while True:
            for said in self._said:
                if fits(said):
                    self._said.remove(said)
                    return said
            try:
                self._said.append(json.loads(self._lines.get(timeout=PATIENCE)))
            except queue.Empty:
                raise AssertionError(f"no {event} {fields}, but {self._said}") from None

    def held(self, id_: str) -> Json:
        """Waits until the container `id_` is held."""
        return self.wait("held", id=id_)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The program with all its threads stopped meanwhile, as by `kill -STOP`."""
        self.host.command("kill", "-STOP", str(self.pid))
        # `nsenter` stops with its child, and has it go on when it goes on itself.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """`kill -9`."""
        self.host.command("kill", "-KILL", str(self.pid))
        self._process.wait(PATIENCE)

    def end(self) -> list[Json]:
        """Ends the program, and returns what it has said that nobody has waited for."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._reader.join()
        self._process.stdout.close()
        while not self._lines.empty():
            self._said.append(json.loads(self._lines.get()))
        return self._said

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--on-timeout", choices=("allow", "deny"), default="allow")
    parser.add_argument("--limited", action="store_true", help="the queue of events has an end")
    parser.add_argument("--raise", dest="raises", action="store_true", help="decide raises")
    parser.add_argument("--busy", action="store_true", help="the main thread never rests")
    parser.add_argument("--at-once", action="store_true", help="decide allows")
    parser.add_argument("roots", nargs="*")
    return parser.parse_args()


def _say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}, default=str), flush=True)  # noqa: T201


def _mark(gate: Gate, root: str) -> None:
    """Marks a root; its directory stays open until the program ends."""
    directory = rootpath.open_directory(root)
    gate.mark(root, directory, filesystem=root_mounts.is_whole(directory))


def _observed(hold: Hold) -> Json:
    try:
        told: Json = msgspec.to_builtins(observe(hold, patient=True))
        return told
    except WatcherError as error:
        return {"error": str(error)}


def _obey(gate: Gate, holds: dict[str, Hold], word: str, argument: str) -> object:
    """Does one command and returns its result.

    `allow ID`, `deny ID`, `decide ID` (to deny), `finish ID`, `observe ID` of a hold;
    `read ROOT ID` as `roots.read`; `mark ROOT`, `unmark ROOT`; `alive`; `close`.
    """
    match word:
        case "allow" | "deny":
            return holds[argument].answer(word == "allow")
        case "decide":
            return gate.decide(holds[argument], allow=False)
        case "finish":
            gate.finish(holds[argument])
            return None
        case "observe":
            return _observed(holds[argument])
        case "read":
            container = roots.read(*argument.split())
            return container and msgspec.to_builtins(container)
        case "mark" | "unmark":
            try:
                _mark(gate, argument) if word == "mark" else gate.unmark(argument)
            except OSError as error:
                return error.errno
            return 0
        case "alive":
            return gate.alive
    gate.close()
    return None


def _main() -> None:
    options = _options()
    holds: dict[str, Hold] = {}

    def decide(hold: Hold) -> None:
        if options.raises:
            raise RuntimeError("as asked")
        holds[hold.id] = hold
        _say("held", id=hold.id, root=hold.root, runc=hold.runc_pid, init=hold.init.pid)
        if options.at_once:
            hold.answer(True)

    try:
        gate = Gate(
            timeout=options.timeout,
            on_timeout=options.on_timeout == "allow",
            decide=decide,
            expired=lambda hold, allow: _say("expired", id=hold.id, allow=allow),
            overflow=lambda: _say("overflow"),
            failed=lambda error: _say("failed", error=repr(error)),
            unlimited=not options.limited,
        )
    except OSError as error:
        _say("refused", errno=error.errno, pid=os.getpid())
        return
    for root in options.roots:
        _mark(gate, root)
    _say("ready", pid=os.getpid())
    while options.busy:
        pass
    for line in sys.stdin:
        word, _, argument = line.strip().partition(" ")
        _say("result", value=_obey(gate, holds, word, argument))
    gate.close()


if __name__ == "__main__":
    _main()
