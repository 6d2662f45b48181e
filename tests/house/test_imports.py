"""Imports go down the floors of the house only, and `handlers` knows nothing of what decides."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from tests.support.paths import REPOSITORY

FLOORS: Final = (
    "watcher.model",
    "handlers.kernel",
    "handlers.handler",
    "handlers.settings",
    "handlers.renaming",
    "handlers.bandwidth",
    "handlers.guard",
    "handlers.networks",
    "handlers.context",
    "handlers.copies",
    "handlers.host_side",
    "handlers.closing",
    "handlers.cluster",
    "handlers.firewall",
    "handlers.link",
    "handlers.root_mounts",
    "handlers.unpinning",
    "handlers.pin",
    "handlers.translations",
    "handlers.port_changes",
    "handlers.successors",
    "handlers.conntrack",
    "handlers.moving",
    "handlers.resolv_conf",
    "handlers.host",
    "watcher.log",
    "watcher.config",
    "watcher.facts",
    "watcher.containers",
    "watcher.locks",
    "watcher.store",
    "watcher.feed",
    "watcher.events",
    "watcher.cluster.protocol",
    "watcher.reconcile",
    "watcher.clustering",
    "watcher.answers",
    "watcher.gate",
    "watcher.service",
    "watcher.observe",
    "watcher.cluster.etcd",
    "watcher.cluster",
    "watcher.names.settings",
    "watcher.names.counts",
    "watcher.names.wire",
    "watcher.names.opening",
    "watcher.names.zone",
    "watcher.names.upstream",
    "watcher.names.waiting",
    "watcher.names.answers",
    "watcher.names.events",
    "watcher.names.hosts",
    "watcher.names.transport",
    "watcher.names",
    "watcher.checks",
    "watcher.commands",
    "watcher.cli",
    "watcher.__main__",
)
"""Each may import what stands before it; docs/architecture.md draws them.

A room is one floor, unless rooms in it have floors of their own.
"""

FACES: Final = {
    "handlers": ("watcher.model",),
    "watcher": ("handlers.host", "handlers.kernel", "handlers.moving", "handlers.resolv_conf"),
    "watcher.checks": ("handlers",),
}
"""What each package sees of the other; the checks try real handlers."""


def modules() -> dict[str, Path]:
    """Every module of the program."""
    found = {}
    for top in ("watcher", "handlers"):
        for path in sorted((REPOSITORY / top).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES: Final = modules()


@cache
def nodes(name: str) -> list[ast.AST]:
    """What the source of a module consists of."""
    return list(ast.walk(ast.parse(MODULES[name].read_text())))


def imports(name: str) -> Iterator[str]:
    """What the module `name` imports of the program, wherever in it."""
    for node in nodes(name):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def is_in(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def floor(name: str) -> int:
    """How high the module `name` is; those that are in no room, as `watcher` itself, are lowest."""
    rooms = [room for room in FLOORS if is_in(name, room)]
    return FLOORS.index(max(rooms, key=len)) if rooms else -1


def test_imports_go_down_only() -> None:
    up = [(name, o) for name in MODULES for o in imports(name) if floor(o) > floor(name)]
    assert not up, "\n".join(f"{name} imports {other}, which is above it" for name, other in up)


def test_the_packages_see_only_each_others_faces() -> None:
    hidden = [
        (name, other) for name in MODULES for other in imports(name) if is_hidden(name, other)
    ]
    assert not hidden, "\n".join(f"{name} imports {other}" for name, other in hidden)


def is_hidden(name: str, other: str) -> bool:
    """Whether `name` and `other` are in different packages, and `other` is no face of its own."""
    if name.partition(".")[0] == other.partition(".")[0]:
        return False
    faces = next(faces for room, faces in reversed(FACES.items()) if is_in(name, room))
    return not any(is_in(other, face) for face in faces)


def test_every_module_has_a_floor() -> None:
    assert {name for name in MODULES if floor(name) < 0} == {"watcher", "handlers"}


def needed(name: str) -> set[str]:
    """All modules of the program that a module needs, itself included."""
    found, new = set[str](), {name}
    while new:
        found |= new
        new = {other for one in new for other in imports(one)} - found
    return found


def others(name: str) -> Iterator[str]:
    """What a module imports that is not of the program, by the name before the first dot."""
    for node in nodes(name):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_the_service_needs_no_extra() -> None:
    extras = {"aiohttp", "dns", "prometheus_client"}
    used = {other for name in MODULES for other in others(name)}
    assert extras <= used
    found = [(name, o) for name in needed("watcher.commands.run") for o in others(name)]
    assert not [(name, other) for name, other in found if other in extras]
