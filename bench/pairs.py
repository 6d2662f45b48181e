"""Two throwaway hosts on one link, whose sandboxes exchange packets."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

from bench.contenders.across import PORT
from bench.contenders.process import output
from bench.host import Host


class Pair:
    """Two hosts with the same contender; the client is in the sandbox of the first.

    Args:
        kind: the contender, as :class:`Host` has it.
        base: the directory of this run.
        options: of both contenders.
    """

    def __init__(self, kind: str, base: Path, **options: Any) -> None:
        self._program = str(base / "packets")
        self._core: Final = str(max(os.sched_getaffinity(0)))
        with ExitStack() as opened:
            self.hosts = [
                opened.enter_context(Host(kind, base, number=number, **options))
                for number in (0, 1)
            ]
            first, second = (host.proc / "1/ns/net" for host in self.hosts)
            pair = f"link add uplink type veth peer name uplink netns {second}"
            output("nsenter", f"--net={first}", "ip", *pair.split())
            found = [host.call("connect") for host in self.hosts]
            self._addresses = {int(version): text for version, text in found[1].items()}
            self.sandboxes = [host.proc / str(host.call("pid")) / "ns/net" for host in self.hosts]
            self._client, self._server = map(str, self.sandboxes)
            self._opened = opened.pop_all()

    def burst(self, version: int, kind: str, milliseconds: int) -> float:
        """Send packets across; the units of `kind` per second of processor time.

        Args:
            version: of the IP of the sandboxes.
            kind: as `bench/packets.c` says.
            milliseconds: the length.
        """
        answer = output(
            self._program, self._core, self._server, self._client, kind, str(PORT),
            self._addresses[version], str(PORT), str(milliseconds),
        )  # fmt: skip
        count, nanoseconds = map(int, answer.split())
        return count / nanoseconds * 1e9

    def close(self) -> None:
        """End both hosts."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
