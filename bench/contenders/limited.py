"""A host for packets whose server may receive and send only so many bits a second."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from bench.contenders.contender import FIRST_PORT
from bench.contenders.packets import Packets, connected
from bench.contenders.process import output

_INNER: Final = 80
_PROGRAM: Final = "shaped"


class Limited(Packets):
    """This program, with the container number 0 limited.

    Args:
        bits: what that may receive and send, in bits a second.
        mode: that of its network.
    """

    def __init__(self, base: Path, directory: Path, *, bits: int, mode: str) -> None:
        self._bits, self._mode = bits, mode
        super().__init__(base, directory)
        self._shaped = str(base / _PROGRAM)
        limited, near, far = (f"/proc/{self.pids[number]}/ns/net" for number in range(3))
        to, by = self.addresses(0), self.addresses(1)
        self._flows: dict[str, tuple[str, str, str, int]] = {
            "from a neighbour": (limited, near, to[4], _INNER),
            "to a neighbour": (near, limited, by[4], _INNER),
            "from a neighbour, IPv6": (limited, near, to[6], _INNER),
            "to a neighbour, IPv6": (near, limited, by[6], _INNER),
            "from beyond, published port": (limited, far, "192.0.2.2", FIRST_PORT),
            "to the machine beyond": (far, limited, "192.0.2.1", _INNER),
            "to the host": ("/proc/self/ns/net", limited, "172.19.0.1", _INNER),
        }

    def connect(self) -> None:
        """By the parts of this program in this process."""
        rate = f"{self._bits // 10**6}M"
        asked = {"io.watcher.ingress-bandwidth": rate, "io.watcher.egress-bandwidth": rate}
        connected(self, mode=self._mode, more={0: asked})

    def flow(self, path: str, kind: str, warm: int, milliseconds: int) -> dict[str, Any]:
        """Send as much as goes along `path`.

        Returns how that compares with the limit, and how long a probe takes then, in seconds.
        """
        server, client, address, port = self._flows[path]
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        words = output(
            self._shaped, server, client, kind, str(_INNER), address, str(port),
            str(self._bits), str(warm), str(milliseconds),
        ).split()  # fmt: skip
        size, nanoseconds, answered, lost, median, longest = map(int, words)
        return {
            "ratio": size * 8e9 / nanoseconds / self._bits,
            "median": median * 1e-6,
            "longest": longest * 1e-6,
            "answered": answered,
            "lost": lost,
        }
