"""Unique local IPv6 subnets (RFC 4193) that stay the same without being stored."""

from __future__ import annotations

import os
from hashlib import sha256
from ipaddress import IPv6Network
from pathlib import Path
from typing import Final

MACHINE_ID: Final = Path("/etc/machine-id")
"""The host's own identity (machine-id(5))."""


def unique_local_subnet(network: str) -> IPv6Network:
    """Derive the /64 of `network` on this host.

    The 40-bit global id, after `fd`, is the start of the SHA-256 of the machine id, a NUL and the
    network's name; the subnet id is 0. In all likelihood no other host or network has the same.
    """
    global_id = sha256(f"{_identity()}\0{network}".encode(errors="replace")).digest()[:5]
    return IPv6Network((b"\xfd" + global_id + bytes(10), 64))


def _identity() -> str:
    """Return the machine id, or the host's name if there is none (yet)."""
    try:
        identity = MACHINE_ID.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        identity = ""
    return identity if identity not in ("", "uninitialized") else os.uname().nodename
