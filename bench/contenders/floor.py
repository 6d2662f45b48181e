"""The floor: the C program that sends the messages and does nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from bench.contenders.contender import FIRST_PORT, Contender, Times, address_of, mac_of, name_of
from bench.contenders.process import output
from bench.native import Lines
from handlers.firewall.ruleset import Parts
from handlers.firewall.ruleset import base as ruleset
from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink
from handlers.networks import driver_of
from watcher.model.network import Network, gateways

_ATTACH: Final = ("all", "pin", "link", "guard", "inside", "nft")
_DETACH: Final = ("all", "nft", "link", "pin", "dellink")
_NANO: Final = 1e-9


class Floor(Contender):
    """Bridge and rules exist beforehand, as for the program's second sandbox.

    Args:
        mode: of the network: `bridge` or `routed`.
    """

    def __init__(
        self, base: Path, directory: Path, mode: Literal["bridge", "routed"] = "bridge"
    ) -> None:
        super().__init__(base, directory)
        pins = Path("/run/netns")
        pins.mkdir()
        output("mount", "--bind", str(pins), str(pins))
        output("mount", "--make-shared", str(pins))
        network = Network(mode=mode)
        _make_bridge(network)
        self._prefix = "32" if mode == "routed" else "16"
        bridge = [] if mode == "routed" else [network.bridge]
        self._program = Lines(str(base / "floor"), str(pins), *bridge)
        rules = directory / "rules"
        rules.write_text(ruleset([driver_of(network)], Parts(frozenset(), mark=1)))
        self._program.ask("nft", str(rules))

    def close(self) -> None:
        """End the program too."""
        self._program.close()
        super().close()

    def fill(self, count: int) -> None:
        """The sandboxes 0 to `count`, with their network."""
        for number in range(count):
            self.prepare(number)
            self.attach(number)

    def attach(self, number: int) -> Times:
        """As the program does it, without anything around it."""
        words = (name_of(number), address_of(number), self._prefix, mac_of(number))
        return self._ask(_ATTACH, "attach", number, *words)

    def detach(self, number: int) -> Times:
        """As the program does it: cut off (`all`), and until the kernel's `dellink` is done too."""
        times = self._ask(_DETACH, "detach", number, name_of(number))
        return {**times, "gone": times["all"] + times["dellink"]}

    def _ask(self, steps: tuple[str, ...], verb: str, number: int, *words: str) -> Times:
        port = str(FIRST_PORT + number)
        answer = self._program.ask(verb, str(self.pids[number]), *words, port)
        return {step: int(word) * _NANO for step, word in zip(steps, answer.split(), strict=True)}


def _make_bridge(network: Network) -> None:
    """Make the bridge of `network` as the program makes it, with its address."""
    with Netlink() as netlink:
        netlink.send([rtnl.bridge(network.bridge, mac="02:42:ac:13:00:01", mtu=1500)])
    for address in gateways(network):
        output("ip", "addr", "add", str(address), "dev", network.bridge)
