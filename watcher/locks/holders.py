"""Which process holds a file's lock. Sources: proc_locks(5), proc_pid_status(5)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from msgspec import Struct

from watcher.model.errors import quoted

_KILLED = 1 << (signal.SIGKILL - 1)
"""The bit of SIGKILL in the signal masks of `/proc/<pid>/status`."""


class Holder(Struct, frozen=True):
    """A process that holds a lock.

    Attributes:
        pid: its pid.
        command: its command line, or its name if it no longer has a command line.
        stopped: whether it was stopped, as by Ctrl-Z.
        cannot_end: whether it was killed but still waits in the kernel.
    """

    pid: int
    command: str
    stopped: bool
    cannot_end: bool

    def __str__(self) -> str:
        state = ", stopped" if self.stopped else ""
        if self.cannot_end:
            state = ", killed, but waiting in the kernel for a file system"
        return f"process {self.pid} ({quoted(self.command)}{state})"

    @property
    def remedy(self) -> str:
        """What to do about it, as an imperative."""
        if self.cannot_end:
            return "see to the file system that does not answer"
        if self.stopped:
            return f"`kill -CONT {self.pid}` lets it go on, `kill -KILL {self.pid}` ends it"
        return "wait until it is done, or end it"


def holder_of(descriptor: int) -> Holder | None:
    """The holder of the flock(2) on the file of `descriptor`; `None` if there is none, or unknown.

    A process in another pid namespace is unknown.
    """
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
        # "1: FLOCK  ADVISORY  WRITE 1234 00:1a:567 0 EOF"; a waiter has "->" before FLOCK
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5] == device and (pid := int(fields[4])) > 0:
            return _seen(pid)
    return None


def _seen(pid: int) -> Holder | None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state, name, _ = _status(Path(f"/proc/{pid}"))
        threads = [_status(path) for path in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:  # it has ended
        return None
    command = b" ".join(words[_first(words) :]).decode("utf-8", "replace").strip() or name
    dying = all(state in "ZX" or killed for state, _, killed in threads)
    return Holder(pid, command, state in "Tt", dying)


def _first(words: list[bytes]) -> int:
    """The index of the first word of a command line that is not an interpreter."""
    return 1 if len(words) > 2 and b"python" in words[0] else 0


def _status(process: Path) -> tuple[str, str, bool]:
    """State and name of a process or thread, and whether a SIGKILL is pending."""
    lines = (process / "status").read_text("utf-8", "replace").splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return fields["State"][0], fields["Name"], bool(pending & _KILLED)
