"""Who this host is in the cluster: its name, and the address by which others reach it."""

from __future__ import annotations

import os
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from watcher.config.clusters import can_be_reached
from watcher.config.ula import MACHINE_ID
from watcher.containers import proc

if TYPE_CHECKING:
    from watcher.config.settings import Cluster
    from watcher.model.address import Address


def host_name(settings: Cluster) -> str:
    """This host's name in the cluster."""
    return settings.host or os.uname().nodename.lower()[:63]


def own_address(settings: Cluster) -> Address | None:
    """What the other hosts reach this one by; `None` if it is in no cluster, or has no address.

    By default it is the one from which the default route leaves.
    """
    if not settings.etcd:
        return None
    if settings.address:
        return ip_address(settings.address)
    from handlers.kernel.uplink import uplink_address

    address = uplink_address()
    return address if address is not None and can_be_reached(address) else None


@cache
def machine() -> str:
    """What tells this machine from another of the same name; empty if it has no identity.

    It is read once: as a process has told the others first, so it does until its end.
    """
    try:
        return MACHINE_ID.read_text(encoding="ascii", errors="replace").strip()[:64]
    except OSError:
        return ""


@cache
def boot() -> str:
    """What tells this start of the machine, and this network namespace, from others."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        started = ""
    return f"{started} {proc.own_netns()}"
