"""This program as a user starts it: command lines, and the service."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import watcher

CHECKOUT: Final = Path(watcher.__file__).resolve().parent.parent
"""Where the program is imported from."""

PROBE: Final = Path(__file__).resolve().parent.parent / "probe"
"""What times the steps of the service's loop, where that is asked for."""

_PATIENCE: Final = 120.0
"""Seconds within which the service has to be ready."""


class Commands:
    """Runs `watcher` on this host.

    Args:
        directory: a directory for logs and the service's socket.
        config: its `watcher.toml`.
    """

    def __init__(self, directory: Path, config: Path) -> None:
        self._directory = directory
        self.words = (sys.executable, "-m", "watcher", "--config", str(config))
        self._service: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """Stop the service, if it runs."""
        if self._service is not None:
            self.stop()

    def run(self, *words: str) -> float:
        """Run a command line, and return its seconds."""
        return _seconds(*self.words, *words)

    def interpreter(self) -> float:
        """Seconds of an interpreter that does nothing."""
        return _seconds(sys.executable, "-c", "pass")

    def start(self) -> float:
        """Start the service, and return the seconds until it is ready."""
        path = "\0bench-" + str(self._directory)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            manager.settimeout(_PATIENCE)
            environment = {
                **os.environ, "PYTHONPATH": f"{CHECKOUT}:{PROBE}", "NOTIFY_SOCKET": "@" + path[1:]
            }  # fmt: skip
            with (self._directory / "service.log").open("ab") as log:
                begin = time.perf_counter()
                self._service = subprocess.Popen(
                    [*self.words, "--log-format", "json", "run"],
                    stdout=log, stderr=log, env=environment, cwd=CHECKOUT,
                )  # fmt: skip
            while manager.recv(1024) != b"READY=1":
                pass
            return time.perf_counter() - begin

    def stop(self) -> None:
        """SIGTERM to the service, and wait for its end."""
        assert self._service is not None
        self._service.send_signal(signal.SIGTERM)
        self._service.wait(_PATIENCE)
        self._service = None

    @property
    def pid(self) -> int:
        """The service's pid."""
        assert self._service is not None
        return self._service.pid

    def usage(self) -> dict[str, float]:
        """Resident bytes, seconds of processor time and voluntary switches of the service.

        Of its threads, those that have ended are in the time, but not in the switches.
        """
        assert self._service is not None
        process = Path("/proc", str(self._service.pid))
        return {
            "resident": resident_of(self._service.pid),
            "runtime": run_time_of(self._service.pid),
            "switches": sum(
                _number((task / "status").read_text(), "voluntary_ctxt_switches")
                for task in (process / "task").iterdir()
            ),
        }


def resident_of(pid: int) -> int:
    """The bytes of a process that are in memory."""
    return _number(Path(f"/proc/{pid}/status").read_text(), "VmRSS") * 1024


def run_time_of(pid: int) -> float:
    """Seconds that all threads of a process were on a processor, to the nanosecond.

    Python has no clock_getcpuclockid(3): this is what it returns (`include/linux/posix-timers.h`).
    """
    return time.clock_gettime(~pid << 3 | 2)


def _number(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    assert found is not None
    return int(found.group(1))


def _seconds(*argv: str) -> float:
    begin = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    took = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"{argv} exits {done.returncode}: {done.stderr}{done.stdout[-500:]}")
    return took
