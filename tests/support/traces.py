"""What the init of a container has, to be compared before and after a move."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import Host


def namespaces(host: Host, pid: int) -> set[int]:
    """The network namespaces of all threads of a process of `host`."""
    tasks = host.seen(Path(f"/proc/{pid}/task"))
    return {(task / "ns/net").stat().st_ino for task in tasks.iterdir()}


def traces(host: Host, pid: int) -> dict[str, Any]:
    """What a process has: its descriptors, its memory, and what its threads block and may do."""
    process = host.seen(Path(f"/proc/{pid}"))
    kept = ("SigBlk", "SigIgn", "SigCgt", "TracerPid", "CapEff", "NoNewPrivs", "Seccomp")
    return {
        "descriptors": {fd.name: str(fd.readlink()) for fd in (process / "fd").iterdir()},
        "memory": [line.split()[:5] for line in (process / "maps").read_text().splitlines()],
        "threads": {
            task.name: [
                line
                for line in (task / "status").read_text().splitlines()
                if line.split(":")[0] in kept
            ]
            for task in (process / "task").iterdir()
        },
        "mounts": (process / "mountinfo").read_text().splitlines(),
        "call": (process / "syscall").read_text(),
    }


def at_rest(host: Host, pid: int) -> dict[str, Any]:
    """What a process has once it waits."""

    def rests() -> dict[str, Any]:
        before = traces(host, pid)
        assert before == traces(host, pid)
        assert before["call"] != "running\n"
        # Go blocks all signals of a thread that begins (`newosproc` in its runtime).
        assert all("SigBlk:\t" + "0" * 16 in of for of in before["threads"].values()), before
        return before

    return eventually(rests)


def is_as_before(host: Host, pid: int, before: dict[str, object]) -> None:
    """Waits until a process has again what it had."""

    def same() -> bool:
        after = traces(host, pid)
        changed = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
        assert not changed, changed
        return True

    eventually(same)
