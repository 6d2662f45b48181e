"""Real containers beside one that has its network: in a network of their own, or in that one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.contenders import setting
from bench.contenders.containers import Watched
from bench.contenders.contender import name_of
from bench.contenders.traces import wait_until_gone

_OTHER = 0
"""The number of the container that is there already; the others count from 1."""


class Beside(Watched):
    """With a network of their own, and nothing that they ask for."""

    def __init__(self, base: Path, directory: Path) -> None:
        super().__init__(base, directory)
        self.prepare(_OTHER)
        setting.add_to_root(_OTHER, self.pids[_OTHER], {})
        self._commands.run("sync")

    def more(self, number: int) -> dict[str, Any]:
        """Nothing."""
        del number
        return {}

    def clean_up(self, numbers: list[int]) -> None:
        """Wait until the service has removed their networks."""
        del numbers
        wait_until_gone(1)


class ByAnnotation(Beside):
    """In the other's network by `io.watcher.share`."""

    def more(self, number: int) -> dict[str, Any]:
        """The annotation."""
        del number
        return {"annotations": {"io.watcher.share": name_of(_OTHER)}}


class ByPath(Beside):
    """In the other's network because `config.json` names its namespace."""

    def more(self, number: int) -> dict[str, Any]:
        """The path."""
        del number
        linux = self._spec["linux"]
        others = [one for one in linux["namespaces"] if one["type"] != "network"]
        joined = {"type": "network", "path": f"/run/netns/{name_of(_OTHER)}"}
        return {"linux": linux | {"namespaces": [*others, joined]}}
