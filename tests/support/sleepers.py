"""Many containers of which nothing is real but what the watcher looks at.

`sleepers.py ROOT COUNT PORT`: that many processes that sleep, each in a network namespace of its
own, and the `state.json` of each as runc writes it, in the root: `c0`, `c1`, and so on, of which
number `n` publishes its port 80 as PORT and `n`. A real container takes a hundred times as long.
Prints `ready`. At the end of its standard input they all end, as containers that nobody deletes.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def sleeper(unneeded: int, ended: int) -> int:
    """The pid of one more, which sleeps until nobody has the other end of the pipe `ended`."""
    os.unshare(os.CLONE_NEWNET)  # what is forked is in it from the start
    pid = os.fork()
    if pid == 0:
        os.close(unneeded)
        os.read(ended, 1)
        os._exit(0)
    return pid


def save(root: Path, name: str, pid: int, ports: str) -> None:
    start = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19])
    state = {
        "id": name,
        "init_process_pid": pid,
        "init_process_start": start,
        "namespace_paths": {"NEWNET": f"/proc/{pid}/ns/net"},
        "config": {
            "namespaces": [{"type": "NEWNET", "path": ""}],
            "labels": [f"io.watcher.ports={ports}", f"bundle=/bundles/{name}"],
        },
    }
    (root / name).mkdir(0o711)
    (root / name / "state.json").write_text(json.dumps(state))


def main(root: Path, count: int, port: int) -> None:
    root.mkdir(0o711, exist_ok=True)
    ended, end = os.pipe()
    pids = []
    for number in range(count):
        pids.append(sleeper(end, ended))
        save(root, f"c{number}", pids[-1], f"{port + number}:80")
    print("ready", flush=True)  # noqa: T201
    sys.stdin.read()
    os.close(end)
    for pid in pids:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
