"""The watches of the hosts that are not real: `bench/watches.c`, in a few processes."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

from bench.cluster_size.cluster import KEYS, PORT, in_watches


class Watches:
    """The processes.

    Args:
        program: the compiled program.
        hosts: how many watches there are.
        count: in how many processes.
    """

    def __init__(self, program: Path, hosts: int, count: int) -> None:
        first, end = KEYS.all, KEYS.all[:-1] + "0"
        words = [base64.b64encode(key.encode()).decode() for key in (first, end)]
        each = [hosts // count + (n < hosts % count) for n in range(count)]
        self._processes = [
            subprocess.Popen(
                [str(program), str(n), str(PORT), *words, in_watches()],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            )
            for n in each
        ]  # fmt: skip
        self.hosts = hosts
        self.seen: dict[str, list[float]] = {}
        """When each mark came, in seconds by the monotonic clock, at as many hosts as it did."""
        self.unread = 0
        """How many of them had something to read when they were asked: are the readers too slow?"""

    def pids(self) -> list[int]:
        """Their pids."""
        return [process.pid for process in self._processes]

    def ask(self) -> tuple[int, int]:
        """The bytes and the pieces so far; notes when marks came."""
        total = pieces = self.unread = 0
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("\n")
        for process in self._processes:
            assert process.stdout is not None
            of_it = [int(word) for word in process.stdout.readline().split()]
            total, pieces, self.unread = (
                total + of_it[0], pieces + of_it[1], self.unread + of_it[2]
            )  # fmt: skip
            while line := process.stdout.readline().rstrip("\n"):
                name, *times = line.split(" ")
                self.seen.setdefault(name, []).extend(int(one) / 1e6 for one in times)
        return total, pieces

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            process.kill()
            process.communicate()
