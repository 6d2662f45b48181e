"""This program's service and an imitation of runc's save: how long the gate holds runc."""

from __future__ import annotations

import json
import os
from pathlib import Path

from bench.contenders import setting
from bench.contenders.commands import Commands
from bench.contenders.contender import Contender, Times, name_of
from bench.contenders.traces import wait_until_gone
from bench.native import Lines


class Gate(Contender):
    """A service with its gate; `attach` is the open(2) by which runc saves.

    Args:
        mode: of its network: `bridge` or `routed`.
    """

    def __init__(self, base: Path, directory: Path, mode: str = "bridge") -> None:
        super().__init__(base, directory)
        Path(setting.ROOT).mkdir(mode=0o700)
        self._commands = Commands(directory, setting.write_config(directory, mode))
        self._commands.start()
        self._savers: dict[int, Lines] = {}
        self._kept: list[int] = []
        self._filled = 0

    def fill(self, count: int) -> None:
        """Make the sandboxes 0 to `count` with their network, and restart the service."""
        self._commands.stop()
        for number in range(count):
            setting.add_to_root(number, self._sleepers.new(), setting.annotations_of(number))
        self._commands.run("sync")
        self._commands.start()
        self._filled = count

    def close(self) -> None:
        """Stop the service too."""
        for saver in self._savers.values():
            saver.finish()
        self._commands.close()
        super().close()

    def prepare(self, number: int) -> None:
        """Write a bundle, because the gate reads the container's request there."""
        bundle = self.directory / f"bundle-{number}"
        bundle.mkdir(exist_ok=True)
        spec = {
            "annotations": setting.annotations_of(number),
            "linux": {"namespaces": [{"type": "network"}]},
        }
        (bundle / "config.json").write_text(json.dumps(spec))

    def attach(self, number: int) -> Times:
        """From the save to the gate's answer.

        The namespace is kept, as for all contenders.
        """
        bundle = self.directory / f"bundle-{number}"
        ports = setting.annotations_of(number)["io.watcher.ports"]
        saver = Lines(
            str(self.programs / "saver"), setting.ROOT, str(bundle), name_of(number), ports
        )
        self._savers[number] = saver
        took, pid = map(int, saver.read().split())
        self._kept.append(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        return {"all": took * 1e-9}

    def detach(self, number: int) -> Times:
        """End the container; not measured."""
        left = self._filled + len(self._savers) - 1
        self._savers.pop(number).finish()
        wait_until_gone(left)
        return {"all": 0.0}

    def discard(self, number: int) -> None:
        """Nothing: the namespace went with its container."""
