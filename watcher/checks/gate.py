"""Whether runc can be held until a container has its network, and what is lost where it is not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from handlers import mounts
from watcher.checks.finding import Finding, fail, ok, warn
from watcher.checks.kernel import gate_error
from watcher.errors import quoted

if TYPE_CHECKING:
    from watcher.config import Config

LOST: Final = (
    "a container's first instructions may run before it has its network, and a request that cannot"
    " be met does not stop it from starting"
)


def findings(config: Config) -> Iterator[Finding]:
    """One line for the gate as a whole, and one for each root that it cannot hold."""
    mode = config.gate.mode
    if mode == "off":
        yield warn(
            "gate", f'mode = "off" in [gate]: {LOST}', 'set mode = "auto", unless that is meant'
        )
        return
    tell = fail if mode == "required" else warn
    error = gate_error()
    if error:
        yield tell(
            "gate",
            f"the kernel has no gate for this process: {error}; {LOST}",
            "give it CAP_SYS_ADMIN outside of any user namespace, and a kernel with"
            " CONFIG_FANOTIFY_ACCESS_PERMISSIONS",
        )
        return
    below = [(root.path, point) for root in config.roots if (point := _mounted_below(root.path))]
    for path, point in below:
        yield tell(
            "gate",
            f"root {quoted(path)} cannot be held, for {quoted(point)} is mounted below it; {LOST}",
            "unmount that, or choose another root",
        )
    if not below:
        yield ok("gate", "runc can be held until a container has its network")


def _mounted_below(path: str) -> str:
    """A mount point below `path`, where that is not one itself; empty if there is none."""
    real = os.path.realpath(path)
    if mounts.is_mount_point(real):
        return ""
    return next((m.point for m in mounts.mounts() if m.point.startswith(f"{real}/")), "")
