"""A container, as its runtime and `/proc` tell of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Status(StrEnum):
    """A container's status, as `watcher ls` shows it (docs/reference.md)."""

    ATTACHED = "attached"
    SHARED = "shared"
    WAITING = "waiting"
    FAILED = "failed"
    IGNORED = "ignored"
    EXITED = "exited"


class Namespace(StrEnum):
    """Whose network namespace a container's configuration names."""

    OWN = "own"
    JOINED = "joined"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Process:
    """A process for certain: a pid alone is reused.

    Attributes:
        pid: process id in the host's pid namespace.
        start: start time in clock ticks since boot, field 22 of `/proc/<pid>/stat` (proc(5)).
    """

    pid: int
    start: int


@dataclass(frozen=True, slots=True)
class Container:
    """One entry of a root, as runc and `/proc` tell of it.

    Attributes:
        root: the runc state directory that it is in.
        id: its name in that root.
        init: its first process.
        bundle: the directory of its `config.json`; empty if unknown.
        labels: its annotations.
        namespace: whose network namespace its configuration asks for.
        joined: the namespace path in its configuration; empty unless `namespace` is JOINED.
        user_namespace: whether its configuration asks for a user namespace, its own or another's.
        netns: inode number of its network namespace on nsfs; `None` once its init has ended.
    """

    root: str
    id: str
    init: Process
    bundle: str
    labels: Mapping[str, str] = field(hash=False)
    namespace: Namespace
    joined: str
    netns: int | None
    user_namespace: bool = False

    @property
    def alive(self) -> bool:
        """Whether its init runs."""
        return self.netns is not None

    @property
    def has_own_netns(self) -> bool:
        """Whether its configuration asks for a network namespace of its own."""
        return self.namespace is Namespace.OWN
