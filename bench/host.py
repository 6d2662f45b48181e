"""Throwaway hosts: a process in network, mount and process namespaces of its own.

Each contender has a host of its own, so that none pays for another's rules. They are measured in
turns. A host and everything on it ends with the process that made it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, Self

_UNSHARE: Final = (
    "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"
)  # fmt: skip
_SETUP: Final = """
mount -t tmpfs tmpfs /run
mount -t sysfs sysfs "$1/sys"
mount --rbind /sys/fs/cgroup "$1/sys/fs/cgroup"
mount --move "$1/sys" /sys
ip link set lo up
shift
"$@"
"""
# The shell stays: as the first process of the namespace it reaps orphans.


class Host:
    """A throwaway host with a contender, whose methods this process calls.

    Args:
        kind: the contender, a key of :data:`bench.worker.CONTENDERS`.
        base: a directory of this run; the host has a directory of its own in it.
        options: further arguments of the contender's class; `tree` is the checkout whose program it
            is, where that is not this one.
    """

    def __init__(self, kind: str, base: Path, **options: Any) -> None:
        self.kind = kind
        self._directory = base / f"{kind}-{len(list(base.iterdir()))}"
        self._directory.mkdir()
        (self._directory / "sys").mkdir()
        with (self._directory / "log").open("w") as log:
            self._process = subprocess.Popen(
                [
                    *_UNSHARE, "sh", "-ec", _SETUP, "host", str(self._directory),
                    sys.executable, "-m", "bench.worker", kind, str(base), str(self._directory),
                    json.dumps(options),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
                cwd=Path(__file__).resolve().parent.parent,
                env=_environment(),
            )  # fmt: skip
        self._read()

    @property
    def proc(self) -> Path:
        """`/proc` of the host, as this process sees it; its process 1 has the host's network."""
        unshare = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return Path(f"/proc/{unshare.read_text().split()[0]}/root/proc")

    def call(self, verb: str, *args: Any) -> Any:
        """Call the contender's method `verb` with `args`, and return its result."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, *args]) + "\n")
        return self._read()

    def close(self) -> None:
        """End the host and everything that runs on it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            log = (self._directory / "log").read_text()[-2000:]
            raise RuntimeError(f"the host of {self.kind} has ended:\n{log}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.kind}: {answer['error']}")
        return answer["result"]


def _environment() -> dict[str, str]:
    """This process's environment, but compiled modules are kept, as for an installed program."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
