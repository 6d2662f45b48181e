"""What a process of a container sees in some of its directories: the program, and how to ask it."""

from __future__ import annotations

import json
import os
import stat
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.host import Host

type Seen = dict[str, str]
"""By path: the target of a link, the content of a file, the names in a directory, or an error."""

_MOST: int = 1 << 16


def seen_inside(host: Host, pid: int, *paths: str) -> Seen:
    """All that is at and below `paths` in the namespaces of process `pid` of a host."""
    done = host.command(sys.executable, __file__, str(pid), *paths)
    seen: Seen = json.loads(done.stdout)
    return seen


def _enter(pid: int) -> None:
    """Enter the namespaces and the root of a process; this one's child is in its pid namespace."""
    descriptors = {name: os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in _KINDS}
    root = os.open(f"/proc/{pid}/root", os.O_RDONLY)
    for name, kind in _KINDS.items():
        os.setns(descriptors[name], kind)
        os.close(descriptors[name])
    os.fchdir(root)
    os.chroot(".")
    os.close(root)


_KINDS = {
    "pid": os.CLONE_NEWPID,
    "net": os.CLONE_NEWNET,
    "cgroup": os.CLONE_NEWCGROUP,
    "mnt": os.CLONE_NEWNS,
}


def _look(path: str, seen: Seen) -> None:
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            seen[path] = f"-> {os.readlink(path)}"  # noqa: PTH115
        elif stat.S_ISDIR(mode):
            names = sorted(os.listdir(path))  # noqa: PTH208
            seen[path] = " ".join(names)
            for name in names:
                _look(f"{path}/{name}", seen)
        else:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                text = b""
                while len(text) < _MOST and (more := os.read(descriptor, _MOST)):
                    text += more
                seen[path] = text.decode(errors="replace")
            finally:
                os.close(descriptor)
    except OSError as error:
        seen[path] = error.strerror or ""


def _main() -> None:
    _enter(int(sys.argv[1]))
    if os.fork():
        os.wait()
        return
    seen: Seen = {}
    for path in sys.argv[2:]:
        _look(path, seen)
    print(json.dumps(seen), flush=True)  # noqa: T201


if __name__ == "__main__":
    _main()
