"""What each runtime's files say of a container: one module for each runtime.

A root needs no key that names its runtime: the files in a container's directory tell it.
"""

from __future__ import annotations

from typing import Final

from watcher.containers.runtimes.crun import CRUN
from watcher.containers.runtimes.runc import RUNC
from watcher.containers.runtimes.runtime import Runtime

RUNTIMES: Final[tuple[Runtime, ...]] = (RUNC, CRUN)
"""All that are known; an entry is looked at in this order, so the most frequent one is first."""

STATES: Final = frozenset(runtime.state for runtime in RUNTIMES)
"""The files that say that a container is complete."""

SAVES: Final = tuple(runtime.save for runtime in RUNTIMES)
"""How the names of the files begin that each runtime renames to such a file."""

__all__ = ["CRUN", "RUNC", "RUNTIMES", "SAVES", "STATES", "Runtime"]
