"""Failure points: `watcher`, killed just before or just after the Nth of its writes.

Started on a host in place of `watcher`. It imports the program, puts a point before and one after
every write to the kernel, to the lease store and to the file system and every request of ptrace(2),
and then forks a `watcher` for
each line of standard input, so that each starts in milliseconds. The program itself knows nothing
of it. Where one write follows another, the point after the first and the one before the second are
the same: the host is.

A line is JSON: `{"args": [...], "at": 3, "after": "READY=1"}` runs `watcher ARGS` and kills it at
its third point behind the notification `READY=1`; without `at` it only counts; `{"signal": 15}`
sends it a signal; `{"raze": {...}}` removes all that any has made. On standard output each point is
a line `point NAME`, the end of a run one `ended STATUS`, and that of a razing `razed`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import handlers
import handlers.closing.plan
import handlers.host
import handlers.kernel.fanotify
import handlers.kernel.mounts
import handlers.kernel.netlink
import handlers.kernel.nft
import handlers.kernel.ptrace.requests
import handlers.kernel.sysctl
import handlers.root_mounts
import watcher
import watcher.cli
import watcher.service.systemd
from tests.support import kernel
from tests.support.warm import import_all

COMMIT: Final = "COMMIT"
BEGIN: Final = "BEGIN IMMEDIATE"
_PRAGMAS: Final = ("PRAGMA journal_mode", "PRAGMA wal_checkpoint")


class Points:
    """Counts the points of one run, and ends it, or another process, at one of them.

    Args:
        at: at which one, from 1; `None` to only count.
        after: from which notification of the service manager on; empty: from the start.
        victim: the process to end there; 0: the run itself.
    """

    def __init__(self, at: int | None, after: str, victim: int) -> None:
        self._at = at
        self._victim = victim
        self._after = after
        self._count = 0
        self._between = False
        self._lock = threading.RLock()

    def reach(self, name: str) -> None:
        """A point: the end, if it is the one."""
        with self._lock:
            between, self._between = self._between, name.startswith("after ")
            if between and not self._between:
                return
            if not self._after:
                self._count += 1
                if self._count == self._at:
                    end(self._victim or os.getpid())
            os.write(1, f"point {name}\n".encode())
            if name == f"after notify {self._after}":
                self._after, self._between = "", False

    @contextlib.contextmanager
    def around(self, name: str) -> Iterator[None]:
        """A point before and one after what is done in it, however that ends."""
        self.reach(f"before {name}")
        try:
            yield
        finally:
            self.reach(f"after {name}")

    def wrap(self, where: Any, name: str, *, when: Callable[..., str] | None = None) -> None:
        """Put the points around the function `name` of `where`; `when` tells what it is called.

        Calls for which `when` says nothing have none.
        """
        function = getattr(where, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            called = name if when is None else when(*args, **kwargs)
            if not called:
                return function(*args, **kwargs)
            with self.around(called):
                return function(*args, **kwargs)

        setattr(where, name, wrapped)


def end(pid: int) -> None:
    """Kills a process, and waits until it has ended."""
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([pidfd], [], [])
    os.close(pidfd)


def instrument(points: Points) -> None:
    """Puts points around every write of the program."""
    points.wrap(handlers.kernel.netlink.Netlink, "send", when=lambda *_: "netlink")
    points.wrap(handlers.kernel.nft.Nft, "run", when=lambda *_: "nft")
    points.wrap(handlers.kernel.mounts, "_mount", when=lambda *_: "mount")
    points.wrap(handlers.kernel.mounts, "unmount", when=lambda *_, **__: "unmount")
    points.wrap(handlers.kernel.mounts, "unmount_at", when=lambda *_: "unmount")
    points.wrap(handlers.kernel.mounts, "bind_itself", when=lambda *_: "mount")
    points.wrap(handlers.kernel.sysctl, "put", when=lambda name, _: f"sysctl {name}")
    points.wrap(handlers.kernel.fanotify.FanotifyGroup, "answer", when=lambda *_, **__: "answer")
    points.wrap(handlers.kernel.fanotify.FanotifyGroup, "mark", when=lambda *_, **__: "mark")
    points.wrap(handlers.kernel.ptrace.requests, "_request", when=lambda *_: "ptrace")
    points.wrap(handlers.kernel.ptrace.requests.Waits, "wait", when=lambda *_: "wait")
    points.wrap(watcher.service.systemd, "notify", when=lambda word: f"notify {word}")
    for name in ("mkdir", "rmdir", "unlink", "rename", "utime"):
        points.wrap(os, name, when=lambda *_, name=name, **__: name)
    points.wrap(
        os, "open", when=lambda _, flags, *__, **___: "create" if flags & os.O_CREAT else ""
    )

    class Connection(sqlite3.Connection):
        """A connection with points around its transactions that write."""

        writing = False

        def execute(self, statement: str, *args: Any) -> sqlite3.Cursor:
            written = self.writing and statement == COMMIT
            if statement in (BEGIN, "BEGIN", "ROLLBACK", COMMIT):
                self.writing = statement == BEGIN
            if not written and not statement.startswith(_PRAGMAS):
                return super().execute(statement, *args)
            with points.around(statement):
                return super().execute(statement, *args)

    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **kwargs: connect(  # type: ignore[assignment]
        *args, factory=Connection, **kwargs
    )


def run(request: dict[str, Any]) -> int:
    """Forks a `watcher`; its pid."""
    pid = os.fork()
    if pid:
        return pid
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    sys.stdout = open(request.get("stdout", os.devnull), "w")  # noqa: PTH123, SIM115
    log = os.open(request["stderr"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    instrument(Points(request.get("at"), request.get("after", ""), request.get("victim", 0)))
    try:
        watcher.cli.main(request["args"])
    except SystemExit as ending:
        sys.stdout.flush()
        os._exit(int(ending.code or 0))
    except BaseException:  # noqa: BLE001 (it is not ours to go on with)
        sys.excepthook(*sys.exc_info())
    os._exit(70)


def raze(made: dict[str, Any]) -> None:
    """Nothing of the watcher is on the host, as before its first start.

    Args:
        made: `group`, that of its links; `pins`, where its pins are; and more `directories`.
    """
    with Path("/proc/self/ns/net").open("rb") as netns:
        kernel.delete_group(netns.fileno(), made["group"])
    with handlers.kernel.netlink.Netlink() as netlink:
        for version in (4, 6):
            there = handlers.closing.plan.listed(netlink, version)
            for request in handlers.closing.plan.steps(there, [], exactly=True):
                netlink.send([request])
    handlers.kernel.nft.Nft().run("destroy table inet watcher\ndestroy table arp watcher")
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(points):
        if point.startswith(made["pins"]):
            handlers.kernel.mounts.unmount(point, lazy=True)
    for directory in (made["pins"], *made["directories"]):
        shutil.rmtree(directory, ignore_errors=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")


def serve() -> None:
    """Carries out line after line, until there are no more."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    buffer = b""
    pids: dict[int, int] = {}
    while True:
        for descriptor, _ in poll.poll():
            if descriptor != 0:
                poll.unregister(descriptor)
                _, status = os.waitpid(pids.pop(descriptor), 0)
                os.close(descriptor)
                os.write(1, b"ended %d\n" % os.waitstatus_to_exitcode(status))
                continue
            data = os.read(0, 1 << 16)
            if not data:
                for pid in pids.values():
                    os.kill(pid, signal.SIGKILL)
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                request = json.loads(line)
                if "raze" in request:
                    raze(request["raze"])
                    os.write(1, b"razed\n")
                    continue
                if "signal" in request:
                    for pid in pids.values():
                        os.kill(pid, request["signal"])
                    continue
                pid = run(request)
                pidfd = os.pidfd_open(pid)
                pids[pidfd] = pid
                poll.register(pidfd, select.POLLIN)


if __name__ == "__main__":
    import_all()
    serve()
