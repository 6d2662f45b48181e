"""What hosts of this process could have left on the machine that the tests run on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.host.cgroups import CGROUPS


def remains() -> list[str]:
    """A line for each link, mount, process, table, cgroup and file that could be of a host."""
    mine = f"watcher-test-{os.getpid()}-"
    links = [path.name for path in Path("/sys/class/net").iterdir()]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    processes = list(_command_lines())
    ruleset = subprocess.run(
        ["nft", "list", "tables"], capture_output=True, text=True, check=True
    ).stdout
    return [
        *(f"link {name}" for name in links if name == "netns0" or name.startswith("netnsv")),
        *(f"mount {line}" for line in mounts if mine in line),
        *(f"process {pid} {line}" for pid, line in processes if mine in line),
        *(f"nftables {line}" for line in ruleset.splitlines() if line.endswith(" watcher")),
        *(f"cgroup {path}" for path in (*CGROUPS.glob(f"{mine}*"), *CGROUPS.glob(f"*/{mine}*"))),
        *(f"directory {path}" for path in Path("/tmp").glob(f"{mine}*")),
        *(
            f"{path}"
            for directory in ("/run/runc", "/run/netns", "/run/watcher", "/var/lib/watcher")
            for path in (Path(directory), *Path(directory).glob("*"))
            if path.exists()
        ),
    ]


def _command_lines() -> Iterator[tuple[str, str]]:
    """Pid, and directory with command line, of each process; one may end at any time."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            directory = (path / "cwd").readlink()
        except OSError:
            continue
        yield path.name, f"{directory} {text}"
