"""Which runtime each root belongs to, or that it is no state directory at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from watcher.checks.check import Finding, Subject, ok, warn
from watcher.containers import roots
from watcher.containers.files import Unreadable
from watcher.containers.present import present
from watcher.model.errors import quoted

_SHOWN: Final = 3
"""Names in a message."""


def findings(subject: Subject) -> Iterator[Finding]:
    """For each root, the runtimes of its containers, or that it is no root at all."""
    for root in present(subject.config.roots):
        try:
            found = roots.contents(root.path)
        except Unreadable:
            continue  # the check of directories reports that
        yield from _of_root(root.path, found)


def _of_root(path: str, found: roots.Contents) -> Iterator[Finding]:
    for runtime in found.runtimes:
        promise = f": {runtime.promise}" if runtime.promise else ""
        yield ok(f"root {quoted(path)} has containers of {runtime.name}{promise}")
    if found.others and not found.runtimes:
        names = ", ".join(map(quoted, found.others[:_SHOWN]))
        more = ", …" if len(found.others) > _SHOWN else ""
        yield warn(
            f"root {quoted(path)} is no state directory of runc or crun: it has {names}{more}",
            "set the path of the directory that has one subdirectory per container, such as"
            " /run/docker/runtime-runc/moby",
        )
