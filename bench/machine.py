"""Describes the machine, and the versions of everything that takes part."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Final

_PACKAGES: Final = (
    "runc", "netavark", "aardvark-dns", "dnsmasq-base", "containernetworking-plugins", "nftables",
    "iptables", "etcd-server",
)  # fmt: skip


def describe() -> dict[str, str]:
    """The properties of the machine, in the order in which they are shown."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "processor": f"{_model()}, {os.cpu_count()} cores",
        "memory": f"{int(memory.group(1)) / (1 << 20):.0f} GiB" if memory else "?",
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "date": time.strftime("%Y-%m-%d"),
    }


def _model() -> str:
    found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found.group(1) if found else platform.machine()


def _version(package: str) -> str:
    """The version of a Debian package."""
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Version}", package],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout or "not installed"
