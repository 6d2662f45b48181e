"""This program on a host with `[cluster]` and a clustered network, among many hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.contenders import registered
from bench.contenders.process import output
from bench.contenders.program import Program

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ADDRESS: Final = "192.0.2.1"


class InCluster(Program):
    """As :class:`Program`; its sandboxes are in a clustered network.

    Args:
        hosts: how many other hosts there are, each with a block of each family.
    """

    def __init__(self, base: Path, directory: Path, hosts: int) -> None:
        self._hosts = hosts
        output("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "far")
        for words in (
            "link set uplink up",
            "link set far up",
            f"addr add {_ADDRESS}/24 dev uplink",
        ):
            output("ip", *words.split())
        super().__init__(base, directory, "routed")
        self.run("sync")

    def keys(self) -> Sequence[str]:
        """A clustered network."""
        return registered.keys(0, _ADDRESS)

    def fill_store(self, config: Path) -> None:
        """The blocks of all hosts."""
        others = {number: f"192.0.2.{1 + number}" for number in range(1, 1 + self._hosts)}
        registered.fill(config, 0, others)
