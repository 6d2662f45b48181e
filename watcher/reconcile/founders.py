"""Founders: containers that are left alone, and whose namespaces others may have joined.

A pod is one: its pause container has no annotation, and a member that has some asks for the network
of them all.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from handlers.kernel.namespace import Namespaces
from watcher.containers import roots
from watcher.containers.place import Place
from watcher.model.container import Container, Namespace
from watcher.model.keys import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable


type Name = tuple[str, str]
"""Root and id of a container."""


class Founder(Struct, frozen=True):
    """A live container whose runtime made the namespace that another container has joined.

    Attributes:
        container: the founder; it has no annotation of ours.
        other_link: as in :class:`Place`, a link that another program made there.
    """

    container: Container
    other_link: str


class Founders:
    """Finds founders at the same cost however many containers there are.

    It remembers which containers are left alone in which namespace, as a hint only.
    """

    def __init__(self) -> None:
        self._founders: dict[int, Name] = {}
        """By the inode number of the namespace."""
        self._joined: defaultdict[int, set[Name]] = defaultdict(set)
        """The others in a namespace."""
        self._namespaces: dict[Name, int] = {}

    @classmethod
    def among(cls, containers: Iterable[Container]) -> Self:
        """The founders among all `containers` that live."""
        founders = cls()
        founders.remember_only(containers)
        return founders

    def remember(self, container: Container) -> None:
        """Remember a `container` that is left alone, in a namespace other than the host's."""
        netns, name = container.netns, (container.root, container.id)
        if netns is None or container.namespace is Namespace.HOST:
            return
        self.forget(*name)
        self._namespaces[name] = netns
        if container.has_own_netns:
            self._founders[netns] = name
        else:
            self._joined[netns].add(name)

    def remember_only(self, containers: Iterable[Container]) -> None:
        """Remember `containers`, which are all that live and have no sandbox."""
        for forgotten in (self._founders, self._joined, self._namespaces):
            forgotten.clear()
        for container in containers:
            self.remember(container)

    def forget(self, root: str, id_: str) -> None:
        """Forget a container that has gone."""
        name = (root, id_)
        netns = self._namespaces.pop(name, None)
        if netns is None:
            return
        if self._founders.get(netns) == name:
            del self._founders[netns]
        joined = self._joined.get(netns, set())
        joined.discard(name)
        if not joined:
            self._joined.pop(netns, None)

    def joined(self, netns: int) -> list[Name]:
        """Root and id of the containers that have joined a namespace and were left alone."""
        return sorted(self._joined.get(netns, ()))

    def of(self, container: Container) -> Founder | None:
        """The founder of the namespace that `container` is in, as the kernel confirms it.

        Raises:
            Unreadable: its files cannot be read.
        """
        name = self._founders.get(container.netns or 0)
        if name is None or container.has_own_netns:
            return None
        found = roots.read(*name)
        if found is None or found.netns != container.netns or not _may_found(found):
            return None
        with Namespaces() as namespaces:
            place = Place.of(found, None, namespaces)
        return Founder(found, place.other_link) if place.of_runtime else None


def is_annotated(container: Container) -> bool:
    """Whether `container` has any annotation of ours."""
    return any(key.startswith(PREFIX) for key in container.annotations)


def _may_found(container: Container) -> bool:
    return container.has_own_netns and not is_annotated(container)
