"""Chooses events: by container, and by what `--filter` says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from watcher.model.errors import UsageError, WatcherError, quoted, shortened

if TYPE_CHECKING:
    from watcher.feed.lines import ContainerPart, Event

_LISTED: Final = 10

FIELDS: Final[dict[str, Callable[[Event], Iterable[str]]]] = {
    "kind": lambda event: (event.kind,),
    "cause": lambda event: (event.cause,),
    "annotation": lambda event: (event.annotation,),
    "verdict": lambda event: (event.verdict,),
    "root": lambda event: (container.root for container in event.containers),
    "container": lambda event: (
        called for container in event.containers for called in (container.id, *container.names)
    ),
    "sandbox": lambda event: (event.sandbox,),
    "network": lambda event: (event.network, *(i.network for i in event.interfaces)),
    "interface": lambda event: (
        name for interface in event.interfaces for name in (interface.name, interface.host_name)
    ),
    "address": lambda event: (
        event.address,
        *(address for i in event.interfaces for address in i.addresses),
    ),
    "mac": lambda event: (interface.mac for interface in event.interfaces),
    "port": lambda event: (
        port for ports in (event.ports, *(c.ports for c in event.containers)) for port in ports
    ),
    "host": lambda event: (event.host,),
    "block": lambda event: (event.block,),
}
"""What KEY of `--filter` may be, and which values of an event it stands for."""


class Selection:
    """The events that are to be shown.

    Args:
        filters: each `KEY=VALUE`; values of one key are alternatives, all keys must agree.
        container: an id, a name or the beginning of an id; `None` for all.

    Raises:
        UsageError: a filter is none, or the container is empty, with which each id begins.
    """

    def __init__(self, filters: Sequence[str] = (), container: str | None = None) -> None:
        if container == "":
            raise UsageError('--container "" is no container', "write an id or a name")
        self._values: dict[str, set[str]] = {}
        for filter_ in filters:
            key, value = _parsed(filter_)
            self._values.setdefault(key, set()).add(value)
        self._container = container
        self._name = None if container is None else container.lower()
        self._ids: set[str] = set()
        self._named: set[str] = set()

    @property
    def by_container(self) -> bool:
        """Whether it has to know of containers by :meth:`learn`, and then by :meth:`settle`."""
        return self._container is not None

    def learn(self, containers: Iterable[ContainerPart]) -> None:
        """Know of containers that there are, or were."""
        if self._container is not None:
            for container in containers:
                self._ids.add(container.id)
                if self._name in container.names:
                    self._named.add(container.id)

    def settle(self) -> None:
        """Choose what the container's word stands for among what is known; an id comes first.

        Raises:
            WatcherError: it is the beginning of several ids.
        """
        if self._container is None:
            return
        begun = sorted(id_ for id_ in self._ids if id_.startswith(self._container))
        if self._container in self._ids:
            self._named, self._name = {self._container}, None
        elif not self._named and begun:
            if len(begun) > 1:
                ids = ", ".join(shortened(id_) for id_ in begun[:_LISTED])
                more = f" and {len(begun) - _LISTED} more" if len(begun) > _LISTED else ""
                raise WatcherError(
                    f"--container {quoted(self._container)} is the beginning of the ids of"
                    f" {len(begun)} containers: {ids}{more}",
                    "write more of the id",
                )
            self._named, self._name = set(begun), None
        elif not self._named:  # it may be still to come
            self._named = {self._container}
        self._ids.clear()

    def has(self, event: Event) -> bool:
        """Whether `event` is to be shown."""
        return self._is_of_container(event) and all(
            not values.isdisjoint(FIELDS[key](event)) for key, values in self._values.items()
        )

    def _is_of_container(self, event: Event) -> bool:
        if self._container is None:
            return True
        for container in event.containers:
            if self._name in container.names:  # later events of it may not have its name
                self._named.add(container.id)
        ids = {container.id for container in event.containers} or {event.sandbox}
        return not ids.isdisjoint(self._named)


def _parsed(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not value:
        raise UsageError(f"--filter {quoted(text)} is no KEY=VALUE", "write e.g. kind=failed")
    if key not in FIELDS:
        raise UsageError(f"--filter {quoted(text)}: no event has the key {quoted(key)}",
                         _nearest(key, FIELDS))  # fmt: skip
    if key == "kind":
        from watcher.feed.events import KINDS

        if value not in KINDS:
            raise UsageError(
                f"--filter {quoted(text)}: there is no such kind", _nearest(value, KINDS)
            )
    return key, value


def _nearest(word: str, words: Iterable[str]) -> str:
    from difflib import get_close_matches

    words = list(words)
    word = word[:64].lower()
    begun = [other for other in words if len(word) > 2 and other.startswith(word)]
    near = begun or get_close_matches(word, words, n=1)
    return f'write "{near[0]}"' if near else f"write one of {', '.join(words)}"
