"""Published ports that a process of the host listens on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from watcher.checks.check import Finding, Subject, ok, warn
from watcher.containers.sockets import holders
from watcher.model.errors import WatcherError, about
from watcher.reconcile import taken
from watcher.store.reading import read_store

_SHOWN: Final = 20
"""The most containers that have a line each."""


def findings(subject: Subject) -> Iterator[Finding]:
    """Each container with such a port; nothing where nothing is published."""
    try:
        with read_store(subject.config) as store:
            sandboxes = [sandbox for sandbox in store.sandboxes() if sandbox.ports]
    except WatcherError:  # the check of the leases tells
        return
    if not sandboxes:
        return
    found, complete = taken.find(sandboxes, subject.networks)
    shown = list(found.values())[:_SHOWN]
    names = holders({one.listener.inode for one in shown})
    for one in shown:
        error = one.error(names.get(one.listener.inode, ""))
        what = about(one.id, error).removesuffix(f"; {error.remedy}")
        yield warn(what, error.remedy)
    if len(found) > len(shown):
        more = f"ports of {len(found) - len(shown)} more containers are taken by processes"
        yield warn(f"{more} of the host", "see `watcher ls`")
    if not complete:
        yield warn(
            f"more than {taken.AT_ONCE} sockets listen on this host, and not all were compared"
            " with the published ports",
            "see `ss -lntu` for whose they are",
        )
    elif not found:
        yield ok("no process of the host listens on a published port")
