"""The capabilities of this process and those that it needs. Source: capabilities(7)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from watcher.checks.check import Finding, Subject, fail, ok, warn

_BITS: Final = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
}

NEEDED: Final = {
    "CAP_NET_ADMIN": "links, addresses, routes and nftables",
    "CAP_SYS_ADMIN": "containers' namespaces, pins and the gate",
    "CAP_SYS_PTRACE": "/proc/<pid>/ns/net of containers",
}
"""The capabilities that the service needs, and what needs them."""

_REMEDY: Final = "run as root, or add it to CapabilityBoundingSet= of the service"

READ_ANY: Final = ("CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH")
"""Either one is enough to read a `config.json` that belongs to another user."""


PLACES: Final = "CAP_SYS_CHROOT"
"""What the service needs to mount `/etc/resolv.conf` in containers (setns(2))."""


def findings(subject: Subject) -> Iterator[Finding]:
    """Each missing capability."""
    missing = {name: what for name, what in NEEDED.items() if not has(name)}
    if not any(map(has, READ_ANY)):
        missing[" or ".join(READ_ANY)] = "bundles of other users"
    for name, what in missing.items():
        yield fail(f"{name} is missing, which {what} need", _REMEDY)
    if any(network.named for network in subject.networks.values()) and not has(PLACES):
        yield warn(f"{PLACES} is missing: containers get no /etc/resolv.conf", _REMEDY)
    elif not missing:
        yield ok("this process has all capabilities that are needed")


def has(capability: str) -> bool:
    """Whether this process has `capability` in effect."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _BITS[capability] & 1)
    return False
