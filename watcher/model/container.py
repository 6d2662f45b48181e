"""A container, as its runtime and `/proc` describe it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct


class Status(StrEnum):
    """A container's status, as `watcher ls` shows it (docs/reference.md)."""

    ATTACHED = "attached"
    SHARED = "shared"
    WAITING = "waiting"
    FAILED = "failed"
    IGNORED = "ignored"
    EXITED = "exited"


class Namespace(StrEnum):
    """The kind of network namespace in a container's configuration."""

    OWN = "own"
    JOINED = "joined"
    HOST = "host"


class Process(Struct, frozen=True):
    """A process, identified by pid and start time because pids are reused.

    Attributes:
        pid: process id in the host's pid namespace.
        start: start time in clock ticks since boot, field 22 of `/proc/<pid>/stat` (proc(5)).
    """

    pid: int
    start: int


class Container(Struct, frozen=True):
    """One entry of a root, as runc and `/proc` describe it.

    Attributes:
        root: the runc state directory that has it.
        id: its name in that root.
        init: its first process.
        bundle: the directory of its `config.json`; empty if unknown.
        annotations: its annotations.
        namespace: the kind of network namespace in its configuration.
        joined: the namespace path in its configuration; empty unless `namespace` is JOINED.
        user_namespace: whether its configuration has a user namespace, new or joined, or its
            runtime is in one, being that of another user than root.
        netns: inode number of its network namespace on nsfs; `None` once its init has ended.
        settings: the `net.*` settings in `linux.sysctl` of its configuration, by name, as written.
            Its runtime wrote them into the namespace that it made or joined.
        hostname: that in its configuration, as written; empty without one.
    """

    root: str
    id: str
    init: Process
    bundle: str
    annotations: Mapping[str, str]
    namespace: Namespace
    joined: str
    netns: int | None
    user_namespace: bool = False
    settings: tuple[tuple[str, str], ...] = ()
    hostname: str = ""

    @property
    def alive(self) -> bool:
        """Whether its init runs."""
        return self.netns is not None

    @property
    def has_own_netns(self) -> bool:
        """Whether its configuration has a network namespace of its own."""
        return self.namespace is Namespace.OWN
