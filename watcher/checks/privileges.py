"""The capabilities of this process, against those that the work takes. Source: capabilities(7)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from watcher.checks.finding import Finding, fail, ok

NEEDED: Final = (
    (12, "CAP_NET_ADMIN", "links, addresses, routes and nftables"),
    (21, "CAP_SYS_ADMIN", "containers' namespaces, pins and the gate"),
    (19, "CAP_SYS_PTRACE", "/proc/<pid>/ns/net of containers"),
)
"""Number, name, and what for."""

READ_ANY: Final = ((1, "CAP_DAC_OVERRIDE"), (2, "CAP_DAC_READ_SEARCH"))
"""Either of them reads a `config.json` that belongs to another user."""


def findings() -> Iterator[Finding]:
    """Each capability that is missing, by name."""
    has = effective()
    missing = [(name, what) for bit, name, what in NEEDED if not has >> bit & 1]
    if not any(has >> bit & 1 for bit, _ in READ_ANY):
        missing.append((" or ".join(name for _, name in READ_ANY), "bundles of other users"))
    for name, what in missing:
        yield fail(
            "privileges",
            f"{name} is missing, which {what} need",
            "run as root, or add it to CapabilityBoundingSet= of the service",
        )
    if not missing:
        yield ok("privileges", "this process has all capabilities that are needed")


def may_administer_networks() -> bool:
    """Whether the kernel lets this process see and change links and rules."""
    return bool(effective() >> NEEDED[0][0] & 1)


def effective() -> int:
    """The effective capabilities of this process, a bit each."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
