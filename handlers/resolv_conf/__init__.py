"""`/etc/resolv.conf` of containers: a file of the host for each network, mounted in each of them.

A thread that may block, and has a table of descriptors and a file system context of its own, places
it: it enters the mount namespace of a container for a moment.
"""

from __future__ import annotations

from handlers.resolv_conf.files import DIRECTORY, ResolvConf, has_any, remove_all, write
from handlers.resolv_conf.placing import CannotPlace, Gone, Outcome, place

__all__ = [
    "DIRECTORY", "CannotPlace", "Gone", "Outcome", "ResolvConf", "has_any", "place",
    "remove_all", "write",
]  # fmt: skip
