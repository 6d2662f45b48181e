"""Finds what CONTAINER stands for: an id, a name, or a beginning of an id, in this order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from watcher.config.patterns import may_call
from watcher.model.errors import WatcherError, quoted, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from watcher.config.settings import Config

_LISTED: Final = 10
"""The most containers that an error lists."""


class Called(Protocol):
    """Anything with an id and names."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def names(self) -> Sequence[str]:
        """Its names, in lower case."""


class Listed(Called, Protocol):
    """A container of a root."""

    @property
    def root(self) -> str:
        """The root's path."""


def look_up[T: Listed](config: Config, text: str, things: Iterable[T]) -> T:
    """The container that `text` stands for, of the roots of `config`.

    Raises:
        WatcherError: there is none, or several.
    """
    may = may_call(config.roots, text)
    found = find(text, things, lambda thing: may(thing.root))
    if found is None:
        roots = ", ".join(root.path for root in config.roots)
        what = f"there is no container {quoted(text)} in {roots}"
        raise WatcherError(what, "see `watcher ls`")
    return found


def find[T: Called](text: str, things: Iterable[T], may_have: Callable[[T], bool]) -> T | None:
    """The one of `things` that `text` stands for; `None` if there is none.

    If several have it as their id, in several roots, it is the first of these. An id counts before
    a name only for those that `may_have` it as a name.

    Raises:
        WatcherError: it is the name of several, or a beginning of several ids.
    """
    things = list(things)
    same = [thing for thing in things if thing.id == text]
    first = next(filter(may_have, same), None)
    if first is not None or not text:
        return first
    name = text.lower()
    called = [thing for thing in things if name in thing.names]
    if called:
        return _only(text, called, "is the name of", "name one of them by its id")
    if same:
        return same[0]
    begun = [thing for thing in things if thing.id.startswith(text)]
    return _only(text, begun, "is the beginning of", "write more of the id") if begun else None


def _only[T: Called](text: str, found: Sequence[T], how: str, remedy: str) -> T:
    if len(found) == 1:
        return found[0]
    ids = ", ".join(shortened(id_) for id_ in sorted(thing.id for thing in found)[:_LISTED])
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    raise WatcherError(f"{quoted(text)} {how} {len(found)} containers: {ids}{more}", remedy)
