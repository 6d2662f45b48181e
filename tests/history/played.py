"""A service played by a test, at the socket and in the history, and `watcher events` beside it.

The moments that matter between the two are a matter of chance with a real service: what was sent
and not yet written when it was killed, what a slow reader has missed.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import msgspec

from tests.support.host import Host
from tests.support.processes import children, end
from tests.support.waiting import PATIENCE
from watcher.config.settings import Events
from watcher.feed.history import History
from watcher.feed.lines import (
    AnyLine,
    ContainerPart,
    Event,
    Line,
    Ready,
    SandboxLine,
    State,
    encoded,
)
from watcher.feed.names import EVENTS
from watcher.log.logger import SILENCE

START = datetime.now(UTC) - timedelta(minutes=10)
_decode = msgspec.json.Decoder(AnyLine).decode


def event(number: int, seconds: float | None = None, **fields: Any) -> Event:
    """The event of that number, so many seconds after :data:`START`; by default its number."""
    at = START + timedelta(seconds=number if seconds is None else seconds)
    of = f"sandbox/{number}"
    return Event(number, at, fields.pop("kind", "repaired"), unset=(of,), **fields)


class PlayedService:
    """A service, which serves one reader; the directories are made as needed."""

    def __init__(self, base: Path) -> None:
        self.state_dir, self.run_dir = base / "state", base / "run"
        self.config = base / "watcher.toml"
        self.config.write_text(
            f'state_dir = "{self.state_dir}"\nrun_dir = "{self.run_dir}"\n[events]\nkeep = 1000\n'
        )
        self._starts = 0
        self._reader: socket.socket | None = None
        self.start()

    def start(self) -> None:
        self._starts += 1
        self.run_dir.mkdir(exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.run_dir / "new"))
        self._listener.listen()
        (self.run_dir / "new").rename(self.run_dir / EVENTS)

    def stop(self) -> None:
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """The broker ends."""
        if self._reader is not None:
            self._reader.close()

    def accept(self, seq: int, sandboxes: Sequence[SandboxLine] = ()) -> None:
        """Accept a reader and send it the state as it is after the event `seq`."""
        self.drop()
        self._listener.settimeout(PATIENCE)
        self._reader, _ = self._listener.accept()
        self.state(seq, sandboxes)

    def state(self, seq: int, sandboxes: Sequence[SandboxLine] = ()) -> None:
        state = State(1, "1.0", f"start {self._starts}", START + timedelta(seconds=seq))
        self.send(state, *sandboxes, Ready(seq))

    def let_all_read(self) -> None:
        """Let everybody connect."""
        self.run_dir.chmod(0o755)
        (self.run_dir / EVENTS).chmod(0o666)

    def send(self, *lines: Line) -> None:
        assert self._reader is not None
        self._reader.sendall(b"".join(map(encoded, lines)))

    def write(self, *events: Event) -> None:
        history = History(str(self.state_dir), Events(1000), SILENCE)
        history.write(events)
        history.close()
        assert not history.lost

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "watcher", "--config", str(self.config), "events", *words]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Watching:
    """`watcher events`, in front of a terminal or not; `host`: on that one."""

    def __init__(
        self,
        command: list[str],
        *,
        terminal: bool = False,
        host: Host | None = None,
        env: Mapping[str, str] = {},
    ) -> None:
        self.output, theirs = pty.openpty() if terminal else os.pipe()
        self._errors, errors = os.pipe()
        self._host = host
        if host is None:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=errors, text=True,
                env={**os.environ, **env},
            )  # fmt: skip
        else:
            env = {**host.watcher_env, **env}
            self.process = host.popen(command, env=env, stdout=theirs, stderr=errors)
        os.close(theirs)
        os.close(errors)
        self._parts = {self.output: b"", self._errors: b""}

    def line(self) -> str:
        """Its next line."""
        return self._line(self.output)

    def said(self) -> str:
        """The next line of its standard error."""
        return self._line(self._errors)

    def numbers(self, count: int) -> list[int | str]:
        """The numbers of its next so many lines of JSON; `missed n` for what is lost."""
        found: list[int | str] = []
        for _ in range(count):
            match _decode(self.line()):
                case Event(seq=seq, unset=()):
                    found.append(seq)
                case other:
                    found.append(f"missed {other.count}")
        return found

    def ends(self, number: signal.Signals | None = None) -> int:
        """Its exit status, once it has ended, after a signal if any. It says nothing more."""
        if number is not None:
            pid = self.process.pid if self._host is None else children(self.process.pid)[0]
            os.kill(pid, number)
        status = self.process.wait(PATIENCE)
        assert self._rest(self._errors) == b""
        return status

    def _line(self, file: int) -> str:
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self._parts[file]:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([file], [], [], left)[0], self._parts
            part = os.read(file, 1 << 16)
            assert part, f"{self.process.wait()}: {self._rest(self._errors)!r}"
            self._parts[file] += part
        line, _, self._parts[file] = self._parts[file].partition(b"\n")
        return line.decode().removesuffix("\r")

    def _rest(self, file: int) -> bytes:
        rest = self._parts[file]
        with suppress(OSError):  # that of a terminal is an error (EIO)
            while part := os.read(file, 1 << 16):
                rest += part
        return rest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._host is None:
            self.process.kill()
            self.process.wait()
        else:
            end(self.process)
        for file in self._parts:
            with suppress(OSError):
                os.close(file)


def sandbox(*containers: ContainerPart) -> SandboxLine:
    return SandboxLine("sandbox/1", containers[0].id, 1, containers, ())


def numbered(numbers: Iterable[int]) -> list[Event]:
    return [event(number) for number in numbers]
