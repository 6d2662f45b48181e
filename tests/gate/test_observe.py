"""What a held container is, as its files tell it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from handlers.kernel import processes
from watcher.containers.runtimes import RUNC
from watcher.gate.hold import Hold
from watcher.gate.observe import observe
from watcher.model.container import Process


def save_early(root: Path, label: str) -> None:
    """Saves the container `web` as runc 1.3 and later do before it has an init."""
    (root / "web").mkdir(parents=True)
    config = {"labels": [f"io.watcher.ip={label}"], "namespaces": [{"type": "NEWNET"}]}
    state = {"init_process_pid": 0, "init_process_start": 0, "config": config}
    (root / "web" / "state.json").write_text(json.dumps(state))


def test_it_is_read_in_the_root_that_is_held_wherever_the_path_leads_by_now(tmp_path: Path) -> None:
    root, now = tmp_path / "root", time.monotonic()
    save_early(root, "172.19.0.2")
    start = processes.start_time(os.getpid())
    assert start is not None
    init = Process(os.getpid(), start)
    hold = Hold(str(root), "web", RUNC, os.getpid(), init, now, now + 60, lambda *_: True)
    opened = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        root.rename(tmp_path / "moved")
        save_early(root, "172.19.0.3")
        held = observe(hold, opened)
        by_path = observe(hold)
    finally:
        os.close(opened)
    assert (held.init, held.netns) == (init, Path("/proc/self/ns/net").stat().st_ino)
    assert held.annotations == {"io.watcher.ip": "172.19.0.2"}
    assert by_path.annotations == {"io.watcher.ip": "172.19.0.3"}
