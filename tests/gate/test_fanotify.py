"""The kernel's side of the gate: whoever opens a file below a root and is not a runc that saves."""

from __future__ import annotations

import errno
import json
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.gatekeeper import Gatekeeper
from tests.support.held import own_mount, runc
from tests.support.host import Host
from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

QUEUE = Path("/proc/sys/fs/fanotify/max_queued_events")

OPEN_MANY = """
import os, pathlib, sys
root = pathlib.Path(sys.argv[1])
for number in range(1000):
    path = root / ("file", "web/state.json", "web/sub/state-1", "state-2")[number % 4]
    os.close(os.open(path, os.O_RDWR))
"""

SAVE = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[2:]) if sys.argv[2:] else None
os.close(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_EXCL))
if child:
    child.kill()
    child.wait()
"""


@pytest.fixture
def root(host: Host) -> Path:
    """The root of `host`, a mount of its own, with a directory `web` and some files in it."""
    root = own_mount(host, host.root)
    (root / "web" / "sub").mkdir(parents=True)
    for name in ("file", "state-2", "web/state.json", "web/sub/state-1"):
        (root / name).write_text("")
    return root


@contextmanager
def short_queue() -> Iterator[None]:
    """For gates that begin meanwhile and take what the system gives, a queue of four events."""
    before = QUEUE.read_text()
    QUEUE.write_text("4")
    try:
        yield
    finally:
        QUEUE.write_text(before)


def test_a_thousand_opens_are_answered_while_a_runc_is_held(host: Host, root: Path) -> None:
    host.bundle("held", ["true"])
    with Gatekeeper(host, root) as gate, runc(host, "run", "held") as process:
        gate.held("held")
        host.command(sys.executable, "-c", OPEN_MANY, str(root))
        assert process.poll() is None

        assert gate.ask("allow", "held") is True
        assert process.wait(PATIENCE) == 0
        assert gate.end() == []


def test_the_gates_own_process_is_answered_too(host: Host, root: Path) -> None:
    state = {"init_process_pid": 0, "init_process_start": 0, "config": {}}
    (root / "web" / "state.json").write_text(json.dumps(state))
    with Gatekeeper(host, root) as gate:
        assert gate.ask("read", str(root), "web") is None


@pytest.mark.parametrize("child", [(), ("sleep", "1000")])
def test_a_process_that_is_no_runc_is_not_held(
    host: Host, root: Path, child: tuple[str, ...]
) -> None:
    with Gatekeeper(host, root) as gate:
        host.command(sys.executable, "-c", SAVE, str(root / "web" / "state-x"), *child)
        assert gate.end() == []


def test_a_process_of_another_pid_namespace_is_not_held(host: Host, root: Path) -> None:
    """It has no pid here, so nothing can be known of it."""
    with Gatekeeper(host, root, prefix=("unshare", "--pid", "--fork")) as gate:
        assert host.run_to_end("new", ["true"]).returncode == 0
        assert gate.end() == []


def test_without_the_capability_there_is_no_gate(host: Host, root: Path) -> None:
    prefix = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    with Gatekeeper(host, root, prefix=prefix) as gate:
        assert gate.first["event"] == "refused"
        assert gate.first["errno"] == errno.EPERM


def test_opens_beyond_the_queue_go_on_and_are_told_of(host: Host, root: Path) -> None:
    with short_queue():
        gate = Gatekeeper(host, root, options=("--limited",))
    with ExitStack() as cats:
        with gate.stopped():
            users = [cats.enter_context(host.popen(["cat", str(root / "file")])) for _ in range(12)]
            eventually(lambda: sum(user.poll() == 0 for user in users) == 8)
        gate.wait("overflow")
        assert [user.wait(PATIENCE) for user in users] == [0] * 12
        assert gate.ask("alive") is True


def test_a_gate_without_a_descriptor_left_goes_on(host: Host, root: Path) -> None:
    """The kernel denies the opens that it cannot hand over, and those alone."""
    with Gatekeeper(host, root) as gate:
        threads = host.seen(Path(f"/proc/{gate.pid}/task")).iterdir()
        tables = [
            {path.name: str(path.readlink()) for path in (t / "fd").iterdir()} for t in threads
        ]
        used = next({*map(int, t)} for t in tables if "anon_inode:[fanotify]" in t.values())
        free = min(set(range(len(used) + 1)) - used)
        host.command("prlimit", f"--pid={gate.pid}", f"--nofile={free}:1024")
        assert host.command("cat", str(root / "file"), check=False).returncode == 1
        assert "Too many open files" in gate.wait("failed")["error"]

        host.command("prlimit", f"--pid={gate.pid}", "--nofile=1024")
        host.command("cat", str(root / "file"))
        assert gate.end() == []
