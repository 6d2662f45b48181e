"""What is asked of a runtime: the names of its files, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from watcher.model.container import Namespace, Process
from watcher.model.request import Sysctl


class Saved(Struct, frozen=True):
    """What a runtime has saved of a container.

    Attributes:
        init: its first process; `None` if it has none yet.
        bundle, annotations, namespace, joined, user_namespace, settings, hostname: as in
            :class:`watcher.model.container.Container`.
    """

    init: Process | None
    bundle: str
    annotations: Mapping[str, str]
    namespace: Namespace
    joined: str
    user_namespace: bool
    settings: tuple[Sysctl, ...] = ()
    hostname: str = ""


type Read = Callable[[bytes, int, str], Saved | None]
"""Reads the content of a state file in an open directory that is shown in errors as the text.

It returns `None` if the runtime is just deleting that container, and raises `Unreadable` if
the runtime did not write that.
"""


class Runtime(Struct, frozen=True):
    """A runtime, by the files in its root.

    Attributes:
        name: its program.
        state: the file in a container's directory that says that the container is complete.
        save: how the name of that file begins until the runtime renames it. The runtime's open(2)
            of it is what the gate holds.
        others: further files in the directory of a container, which may be there before `state`.
        beside: directories in the root that are no containers.
        read: reads `state`.
        promise: what the gate's hold gives that container, where it is less than all of it.
        unmovable: why a held init of it cannot be moved into another namespace; empty if it can.
    """

    name: str
    state: str
    save: str
    others: frozenset[str]
    beside: frozenset[str]
    read: Read
    promise: str = ""
    unmovable: str = ""
