"""`watcher names` of this program, as its unit starts it, but as root."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final, Self

from bench.contenders.commands import CHECKOUT, PROBE

_PATIENCE: Final = 30.0
_STEPS: Final = "ddd"


class NameService:
    """The process, from now until it is closed.

    Args:
        directory: a directory for its log.
        config: the `watcher.toml`.
        timed: whether the steps of its loop are timed, which costs it a little.
    """

    def __init__(self, directory: Path, config: Path, *, timed: bool = False) -> None:
        words = (sys.executable, "-m", "watcher", "--config", str(config), "names")
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        self._steps = directory / "names-steps"
        if timed:
            self._steps.write_bytes(bytes(struct.calcsize(_STEPS)))
            environment["PYTHONPATH"] += f":{PROBE}"
            environment["BENCH_LONGEST_STEP"] = str(self._steps)
        with (directory / "names.log").open("ab") as log:
            # A session has its share of the processors (sched(7), autogroup), as a unit has.
            self._process = subprocess.Popen(
                words, stdout=log, stderr=log, env=environment, cwd=CHECKOUT, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    def longest_step(self) -> tuple[float, float]:
        """The loop's longest step in seconds, and that by processor time, since it was asked."""
        with self._steps.open("r+b") as file:
            longest, work, _ = struct.unpack(_STEPS, file.read())
            file.seek(0)
            file.write(bytes(struct.calcsize(_STEPS)))
        return longest, work

    def close(self) -> None:
        """Terminate it, and wait."""
        self._process.terminate()
        self._process.wait(_PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
