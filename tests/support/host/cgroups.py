"""The cgroups of a host's containers."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from tests.support.waiting import eventually

CGROUPS: Final = Path("/sys/fs/cgroup")


def thaw(name: str) -> None:
    """Lets all that is frozen below the cgroup `name` go on."""
    for state in CGROUPS.glob(f"freezer/{name}/**/freezer.state"):
        state.write_text("THAWED")


def remove(name: str) -> None:
    """Removes the cgroup `name` of every hierarchy, once nobody is in it."""
    tops = [path for path in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")) if path.exists()]
    for top in tops:
        for directory, _, _ in os.walk(top, topdown=False):

            def removed(directory: str = directory) -> bool:
                with contextlib.suppress(FileNotFoundError):
                    Path(directory).rmdir()
                return True

            eventually(removed, what=f"an empty cgroup {directory}")
