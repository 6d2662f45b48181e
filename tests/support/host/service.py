"""The service on a host, under a service manager."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support.host.manager import Manager
from tests.support.host.place import Json
from tests.support.logs import entries
from tests.support.processes import Entered
from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from tests.support.host.watched import Watched
    from tests.support.warm import Started

_numbers = itertools.count(1)


class Service:
    """`watcher run`, or another command, on a host, as systemd starts it; SIGTERM stops it.

    Args:
        host: the host.
        args: more options of `watcher`.
        env: more of its environment.
        script: what is run in place of `watcher`.
        cold: whether Python starts anew for it, and imports only what it needs; see
            :mod:`tests.support.warm`. A script, and another program than this tree's, are cold.
        command: the command of `watcher` that it is.
    """

    def __init__(
        self,
        host: Watched,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        *,
        script: Path | None = None,
        cold: bool = False,
        command: str = "run",
    ) -> None:
        self.host = host
        self._command = command
        self._args = ("--log-format", "json", *args, command)
        self._env = env or {}
        self._script = script
        self._cold = cold
        self._process: Started | Entered | None = None
        self._name = f"{command}-{next(_numbers)}"
        self._log = host.base / f"{self._name}.log"
        self._manager: Manager | None = None

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, ready: bool = True) -> None:
        """Starts it; with `ready`, waits until it has said that it is."""
        assert not self.running
        self._manager = Manager(self.host.base / f"notify-{self._name}")
        env = {**self.host.watcher_env, "NOTIFY_SOCKET": str(self._manager.path), **self._env}
        with self._log.open("a") as log:
            if self._cold or self._script is not None or not self.host.is_of_this_tree:
                command = self.host.watcher_command(*self._args, script=self._script)
                process = self.host.popen(command, env=env, stdout=log, stderr=log)
                self._process = Entered(process)
            else:
                self._process = self.host.start_warm(*self._args, env=env, log=log.fileno())
        if ready:
            self.notified("READY=1")

    def notified(self, assignment: str, times: int = 1) -> None:
        """Waits until it has notified its manager of `assignment` (sd_notify(3)) so many times."""
        manager = self._manager
        assert manager is not None
        deadline = time.monotonic() + PATIENCE
        while not manager.wait(assignment, times, 0.2):
            assert self.running, f"watcher {self._command} has ended:\n{self.log_text()}"
            assert time.monotonic() < deadline, f"no {assignment}:\n{self.log_text()}"

    @property
    def pid(self) -> int:
        """Its pid outside the host's process namespace."""
        assert self._process is not None
        return self._process.pid

    @property
    def inner_pid(self) -> int:
        """Its pid in the host's process namespace."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("NSpid:")[2].split("\n")[0].split()[-1])

    def times_notified(self, assignment: str) -> int:
        """How often it has notified its manager of `assignment` by now."""
        assert self._manager is not None
        return self._manager.count(assignment)

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal; with SIGSTOP, waits until all of its threads have stopped."""
        assert self._process is not None
        self._process.signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Waits for its end and returns its exit status."""
        assert self._process is not None
        status = self._process.wait(timeout)
        if self._manager is not None:
            self._manager.close()
        return status

    def stop(self) -> None:
        """Stops it as systemd does, and expects that it ends well."""
        self.signal(signal.SIGTERM)
        status = self.wait()
        assert status == 0, f"watcher {self._command} exits {status}:\n{self.log_text()}"

    def kill9(self) -> None:
        """Kills it."""
        self.signal(signal.SIGKILL)
        self.wait()

    def restart(self) -> None:
        """Stops it and starts it again."""
        self.stop()
        self.start()

    def end(self) -> None:
        """Ends it, whether it runs or not."""
        if self._process is None:
            return
        self._process.end()
        self.wait()

    def log_text(self) -> str:
        """What it has written so far."""
        return self._log.read_text() if self._log.exists() else ""

    def log(self) -> list[Json]:
        """The entries of its log, but for one that is being written."""
        return entries(self.log_text())

    def warnings(self) -> list[Json]:
        """The entries of its log that are warnings or worse."""
        return [
            entry for entry in self.log() if entry.get("level") in ("warning", "error", "critical")
        ]

    def logged(self, *words: str, level: str = "") -> Json:
        """Waits for an entry of its log with all of `words` somewhere in it."""

        def entry() -> Json:
            return next(
                entry
                for entry in self.log()
                if all(word in json.dumps(entry, ensure_ascii=False) for word in words)
                and level in ("", entry.get("level"))
            )

        def found() -> Json:
            try:
                return entry()
            except StopIteration:
                raise AssertionError(f"no entry with {words}:\n{self.log_text()}") from None

        return eventually(found, what=f"a log entry with {words}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
