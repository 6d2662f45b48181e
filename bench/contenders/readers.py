"""This program's service with readers of its events socket."""

from __future__ import annotations

import os
import signal
import struct
import time
from pathlib import Path
from typing import Final

from bench.contenders.commands import resident_of
from bench.contenders.containers import Watched
from bench.contenders.gate import Gate
from bench.native import Lines

_SOCKET: Final = "/run/watcher/events.sock"
_STEPS: Final = "ddd"
_OLD: Final = 10.5
"""Seconds from which on the service starts another broker at once after one that was killed."""


class _Readers:
    """Processes that read the socket of this host."""

    def __init__(self, base: Path) -> None:
        self._program = str(base / "readers")
        self._running: list[Lines] = []

    def connect(self, fast: int, slow: int = 0, never: int = 0) -> float:
        """Have so many more readers; the seconds until the fast ones have the whole state."""
        lines = Lines(self._program, _SOCKET, *map(str, (fast, slow, never)))
        self._running.append(lines)
        return _seconds(lines.read())

    def again(self) -> float:
        """Have the last fast ones connect anew; the seconds until they have the whole state."""
        return _seconds(self._running[-1].ask("more"))

    def close(self) -> None:
        """End them."""
        while self._running:
            self._running.pop().close()


class Read(Gate):
    """The gate's imitation of runc, beside readers.

    Args:
        mode: of its network.
        fast, slow, never: readers that read what comes, a kilobyte a second, and nothing.
        timed: whether the steps of the service's loop are timed, which costs it a little.
    """

    def __init__(
        self, base: Path, directory: Path, mode: str = "bridge",
        fast: int = 0, slow: int = 0, never: int = 0, *, timed: bool = False,
    ) -> None:  # fmt: skip
        self._steps = directory / "steps"
        if timed:
            self._steps.write_bytes(bytes(struct.calcsize(_STEPS)))
            os.environ["BENCH_LONGEST_STEP"] = str(self._steps)
        super().__init__(base, directory, mode)
        self._readers = _Readers(base)
        if fast + slow + never:
            self._readers.connect(fast, slow, never)

    def connect(self, fast: int, slow: int = 0, never: int = 0) -> float:
        """As of :class:`_Readers`."""
        took = self._readers.connect(fast, slow, never)
        self._connected = time.monotonic()
        return took

    def again(self) -> float:
        """As of :class:`_Readers`."""
        return self._readers.again()

    def disconnect(self) -> None:
        """End all readers."""
        self._readers.close()

    def resident(self) -> dict[str, float]:
        """The memory of the service and of the broker."""
        broker = self._broker()
        return {
            "service": resident_of(self._commands.pid),
            "broker": resident_of(broker) if broker else 0,
        }

    def end_broker(self) -> None:
        """Kill the broker, wait until the service has reaped it: the next gets the state anew."""
        broker = self._broker()
        assert broker
        time.sleep(max(0.0, self._connected + _OLD - time.monotonic()))
        os.kill(broker, signal.SIGKILL)
        while self._broker() == broker:
            time.sleep(0.01)

    def longest_step(self) -> dict[str, float]:
        """The loop's longest step in seconds, that by processor time, and the time of all.

        All of them since this was asked last.
        """
        with self._steps.open("r+b") as file:
            longest, work, total = struct.unpack(_STEPS, file.read())
            file.seek(0)
            file.write(bytes(struct.calcsize(_STEPS)))
        return {"longest": longest, "work": work, "total": total}

    def close(self) -> None:
        """End the readers, too."""
        self._readers.close()
        super().close()

    def _broker(self) -> int:
        """Its pid; 0 if there is none."""
        for task in Path(f"/proc/{self._commands.pid}/task").iterdir():
            for pid in (task / "children").read_text().split():
                if b"watcher.observe.broker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return int(pid)
        return 0


class RunRead(Watched):
    """Real containers, beside readers that read what comes."""

    def __init__(self, base: Path, directory: Path, fast: int = 0) -> None:
        super().__init__(base, directory)
        self._readers = _Readers(base)
        if fast:
            self._readers.connect(fast)

    def close(self) -> None:
        """End the readers, too."""
        self._readers.close()
        super().close()


def _seconds(line: str) -> float:
    return int(line.removeprefix("ready ")) * 1e-9
