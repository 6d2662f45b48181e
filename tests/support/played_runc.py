"""Plays what runc 1.3 and later do with files and processes as they create a container.

`played_runc.py ROOT ID BUNDLE`: the directory, `exec.fifo`, the early save without a pid, init in
its namespaces, the save with its pid; then init's program, which here is to print `started`. Each
save is a new file `state-<random>`, renamed to `state.json`. As with runc's mount thread, the first
thread is by then in another directory than the one that saves. Prints what it has done. With a last
word `user`, init makes itself a user namespace as well.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
from pathlib import Path


def say(word: str) -> None:
    print(word, flush=True)  # noqa: T201


def save(directory: Path, state: dict[str, object]) -> None:
    temporary = directory / f"state-{secrets.randbelow(1 << 32)}"
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.write(fd, json.dumps(state).encode())
    os.close(fd)
    temporary.rename(directory / "state.json")


def init(go: int, done: int, kinds: int) -> None:
    """The process `runc init`: into its namespace when told, its program when told."""
    os.read(go, 1)
    os.unshare(kinds)
    os.write(done, b"x")
    if os.read(go, 1):
        say("started")


def play(root: Path, id_: str, bundle: Path, kinds: int) -> int:
    os.chdir(bundle)
    spec = json.loads(Path("config.json").read_text())
    labels = [f"{key}={value}" for key, value in spec.get("annotations", {}).items()]
    config = {
        "labels": [*labels, f"bundle={bundle}"],
        "namespaces": [{"type": "NEWNET", "path": ""}],
    }
    directory = root / id_
    directory.mkdir(0o711)
    os.mkfifo(directory / "exec.fifo", 0o622)
    early = {"id": id_, "init_process_pid": 0, "init_process_start": 0, "config": config}
    go_read, go = os.pipe()
    done, done_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        init(go_read, done_write, kinds)
        os._exit(0)
    os.close(go_read)
    save(directory, early)
    say("saved early")
    os.write(go, b"x")
    os.read(done, 1)
    start = int(Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2].split()[19])
    failed: list[bool] = []

    def save_late() -> None:
        """In a thread of its own, for the first one leaves the bundle as runc's mount thread."""
        os.unshare(os.CLONE_FS)
        moved.set()
        left.wait()
        try:
            save(directory, {**early, "init_process_pid": child, "init_process_start": start})
        except PermissionError:
            failed.append(True)

    moved, left = threading.Event(), threading.Event()
    thread = threading.Thread(target=save_late)
    thread.start()
    moved.wait()
    os.chdir("/")
    left.set()
    thread.join()
    if not failed:
        say("saved")
        os.write(go, b"x")
    os.close(go)
    os.waitpid(child, 0)
    for path in (*directory.iterdir(), directory):
        path.rmdir() if path.is_dir() else path.unlink()
    return int(bool(failed))


if __name__ == "__main__":
    user = os.CLONE_NEWUSER if sys.argv[4:] == ["user"] else 0
    sys.exit(play(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), os.CLONE_NEWNET | user))
