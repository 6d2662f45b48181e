"""The floor: the C program that sends the messages and does nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.contenders import setting
from bench.contenders.contender import FIRST_PORT, Contender, Times, address_of, mac_of, name_of
from bench.contenders.process import output
from bench.native import Lines
from handlers import rtnl
from handlers.netlink import Netlink
from handlers.ruleset import base as ruleset
from watcher.config import Network

_ATTACH: Final = ("all", "pin", "link", "inside", "nft")
_DETACH: Final = ("all", "nft", "link", "pin", "dellink")
_NANO: Final = 1e-9


class Floor(Contender):
    """Bridge and rules are made beforehand, as they are for the program's second sandbox.

    Args:
        sandboxes: how many there are to be at once, more or less; there is a bridge for each
            thousand of them, and a process of the C program for each bridge.
    """

    def __init__(self, base: Path, directory: Path, sandboxes: int = 1) -> None:
        super().__init__(base, directory)
        pins = Path("/run/netns")
        pins.mkdir()
        output("mount", "--bind", str(pins), str(pins))
        output("mount", "--make-shared", str(pins))
        self._programs = [
            Lines(str(base / "floor"), _make_bridge(number), str(pins))
            for number in range(setting.networks_for(sandboxes))
        ]
        rules = directory / "rules"
        rules.write_text(ruleset([Network()]))
        self._programs[0].ask("nft", str(rules))

    def close(self) -> None:
        """End the program too."""
        for program in self._programs:
            program.close()
        super().close()

    def fill(self, count: int) -> None:
        """The sandboxes 0 to `count`, with their network."""
        for number in range(count):
            self.prepare(number)
            self.attach(number)

    def attach(self, number: int) -> Times:
        """As the program does it, without anything around it."""
        words = (name_of(number), address_of(number), "16", mac_of(number))
        return self._ask(_ATTACH, "attach", number, *words)

    def detach(self, number: int) -> Times:
        """As the program does it: cut off (`all`), and until the kernel's `dellink` is done too."""
        words = (name_of(number), address_of(number), mac_of(number))
        times = self._ask(_DETACH, "detach", number, *words)
        return {**times, "gone": times["all"] + times["dellink"]}

    def _ask(self, steps: tuple[str, ...], verb: str, number: int, *words: str) -> Times:
        port = str(FIRST_PORT + number)
        program = self._programs[number % len(self._programs)]
        answer = program.ask(verb, str(self.pids[number]), *words, port)
        return {step: int(word) * _NANO for step, word in zip(steps, answer.split(), strict=True)}


def _make_bridge(number: int) -> str:
    """Make the bridge of that number as the program makes it, with an address; its name."""
    name = f"more{number}" if number else Network().bridge
    with Netlink() as netlink:
        netlink.send([rtnl.bridge(name, mac=f"02:42:ac:13:{number:02x}:01", mtu=1500)])
    gateway = f"10.{number}.0.1/16" if number else "172.19.0.1/16"
    output("ip", "addr", "add", gateway, "dev", name)
    return name
