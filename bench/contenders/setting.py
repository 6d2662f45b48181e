"""How this program is set up on a throwaway host, and what its containers look like to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.contenders.contender import FIRST_PORT, name_of
from watcher.containers import proc

ROOT: Final = "/run/runc"


def write_config(directory: Path, mode: str = "bridge", more: Sequence[str] = ()) -> Path:
    """Write `watcher.toml` with a network of that `mode` and `more` keys into `directory`."""
    file = directory / "watcher.toml"
    file.write_text(
        f'state_dir = "{directory}/state"\nrun_dir = "/run/watcher"\n'
        f'[[root]]\npath = "{ROOT}"\n\n[network.default]\nmode = "{mode}"\n'
        + "".join(f"{line}\n" for line in more)
    )
    return file


def annotations_of(number: int, ports: str = "") -> dict[str, str]:
    """What sandbox `number` asks for: a published port."""
    return {"io.watcher.ports": ports or f"{FIRST_PORT + number}:80"}


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
