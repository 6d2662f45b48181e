"""Who a host is in its cluster."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from tests.support.paths import REPOSITORY

SCRIPT: Final = """
import sys
from watcher.clustering import identity

first = identity.boot(), identity.machine()
assert first[0]
opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
assert (identity.boot(), identity.machine()) == first
print(*opened)
"""


def test_what_tells_machines_and_starts_apart_is_read_once() -> None:
    """It never changes for a process, and the service needs it at each change."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={"PYTHONPATH": str(REPOSITORY)}, text=True,
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    assert not done.stdout.split()
