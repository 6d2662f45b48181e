"""Engines whose roots no `[[root]]` names, so that this program does not see their containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from watcher.checks.check import Finding, Subject, ok, warn
from watcher.config.patterns import root_of
from watcher.containers import roots
from watcher.containers.files import Unreadable
from watcher.model.container import Container
from watcher.model.errors import quoted
from watcher.model.keys import PREFIX

_ROOTS: Final = (
    ("Docker", "docker/runtime-*/*"),
    ("containerd", "containerd/runc/*"),
    ("runc, for example by Podman,", "runc"),
    ("crun, for example by Podman,", "crun"),
)
"""The default roots of engines, below `/run`; docs/engines.md has a recipe for each."""

_RUN: Final = Path("/run")


def findings(subject: Subject) -> Iterator[Finding]:
    """For each such root with containers: how many, and whether one asks for a network."""
    for engine, pattern in _ROOTS:
        for path in sorted(_RUN.glob(pattern)):
            if root_of(subject.config.roots, str(path)) is None and not path.is_symlink():
                yield from _of_root(engine, str(path))


def _of_root(engine: str, path: str) -> Iterator[Finding]:
    try:
        every = [one for _, one in roots.read_all(path, {}) if isinstance(one, Container)]
    except Unreadable:
        return  # it is no root
    running = [one for one in every if one.alive]
    if not running:
        return
    asking = [one.id for one in running if any(key.startswith(PREFIX) for key in one.annotations)]
    what = f"{engine} has {len(running)} running in {quoted(path)}, which no [[root]] names"
    remedy = f'add [[root]] with path = "{path}" and attach = "annotated" (docs/engines.md)'
    if asking:
        yield warn(f"{what}: {quoted(asking[0])} has annotations of {PREFIX} in vain", remedy)
    else:
        yield ok(f"{what}: they get nothing from here; to change that, {remedy}")
