"""How this program is set up on a throwaway host, and what its containers look like to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from bench.contenders.contender import FIRST_PORT, name_of
from watcher import proc

ROOT: Final = "/run/runc"
BRIDGE_HOLDS: Final = 1000
"""Sandboxes a bridge: it takes 1,023 ports, and some are for those that are measured."""


def networks_for(sandboxes: int) -> int:
    """How many networks it takes for so many sandboxes."""
    return max(1, -(-sandboxes // BRIDGE_HOLDS))


def network_of(number: int, networks: int) -> str:
    """The network that sandbox `number` is in: each gets as many."""
    return f"more{number % networks}" if number % networks else "default"


def write_config(directory: Path, networks: int) -> Path:
    """Write `watcher.toml` with so many networks into `directory`."""
    more = "".join(
        f'\n[network.more{n}]\nbridge = "more{n}"\nsubnets = ["10.{n}.0.0/16"]\n'
        for n in range(1, networks)
    )
    file = directory / "watcher.toml"
    file.write_text(
        f'state_dir = "{directory}/state"\nrun_dir = "/run/watcher"\n'
        f'[[root]]\npath = "{ROOT}"\n\n[network.default]\n{more}'
    )
    return file


def annotations_of(number: int, networks: int = 1, ports: str = "") -> dict[str, str]:
    """What sandbox `number` asks for: a published port, and a network where there are several."""
    asked = {"io.watcher.ports": ports or f"{FIRST_PORT + number}:80"}
    if networks > 1:
        asked["io.watcher.network"] = network_of(number, networks)
    return asked


def add_to_root(number: int, pid: int, asked: dict[str, str]) -> None:
    """Make the entry of container `number` in the root, as runc writes it where it is read."""
    directory = Path(ROOT, name_of(number))
    directory.mkdir()
    state: dict[str, Any] = {
        "id": name_of(number),
        "init_process_pid": pid,
        "init_process_start": proc.start_time(pid),
        "namespace_paths": {"NEWNET": f"/proc/{pid}/ns/net"},
        "config": {
            "namespaces": [{"type": "NEWNET", "path": ""}],
            "labels": [*(f"{k}={v}" for k, v in asked.items()), f"bundle=/run/{number}"],
        },
    }
    (directory / "state.json").write_text(json.dumps(state))


def remove_from_root(number: int) -> None:
    """Remove that entry, as `runc delete` does."""
    directory = Path(ROOT, name_of(number))
    (directory / "state.json").unlink()
    directory.rmdir()
