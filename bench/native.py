"""The small C programs of the benchmark, compiled on the machine that uses them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final, Self

SOURCES: Final = Path(__file__).resolve().parent
_OPTIONS: Final = {"floor": ["-lnftables"], "first": ["-static"]}


def compile_all(into: Path) -> None:
    """Compile every C program of this directory into the directory `into`."""
    for source in sorted(SOURCES.glob("*.c")):
        target = into / source.stem
        options = _OPTIONS.get(source.stem, [])
        subprocess.run(
            ["gcc", "-O2", "-Wall", "-Wextra", "-o", str(target), str(source), *options],
            check=True,
        )


class Lines:
    """A program that answers each input line with an output line.

    Args:
        argv: the program and its arguments.
    """

    def __init__(self, *argv: str) -> None:
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    def read(self) -> str:
        """Read its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"{self._process.args!r} has ended")
        return line

    def ask(self, *words: str) -> str:
        """Send the line of `words`, and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words) + "\n")
        return self.read()

    def finish(self) -> None:
        """Close its standard input, and wait for its end."""
        self._process.communicate()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Sleepers(Lines):
    """Sleeping processes, each in a network namespace of its own; they end with this program."""

    def __init__(self, programs: Path) -> None:
        super().__init__(str(programs / "sleepers"))

    def new(self) -> int:
        """Start one more, and return its pid."""
        return int(self.ask("new"))

    def end(self, pid: int) -> None:
        """Kill and reap it."""
        assert self.ask("end", str(pid)) == "ok"
