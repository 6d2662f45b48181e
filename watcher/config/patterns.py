"""Roots by pattern: `path` of `[[root]]` may end in one; each directory that it matches is a root.

A pattern is the last part of a path. It has `*`, `?` and `[…]` as fnmatch(3) knows them, and a
name's leading dot has to be written (glob(7)). No part before it has any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from watcher.model.naming import is_allowed_name

if TYPE_CHECKING:
    from watcher.config.settings import Root

_SPECIAL: Final = frozenset("*?[")


def is_pattern(path: str) -> bool:
    """Whether a part of `path` is a pattern."""
    return not _SPECIAL.isdisjoint(path)


def directory_of(pattern: str) -> str:
    """The directory whose directories the path `pattern` matches."""
    return pattern.rpartition("/")[0]


def matches(pattern: str, path: str) -> bool:
    """Whether the path `pattern` matches `path`."""
    above, _, wanted = pattern.rpartition("/")
    directory, _, name = path.rpartition("/")
    if above != directory or (name.startswith(".") and not wanted.startswith(".")):
        return False
    return fnmatchcase(name, wanted)


def is_complete(pattern: str) -> bool:
    """Whether each `[` in `pattern` has its `]`; fnmatch takes another for itself."""
    at = pattern.find("[")
    while at >= 0:
        first = at + (2 if pattern[at + 1 : at + 2] == "!" else 1)
        end = pattern.find("]", first + 1)
        if end < 0:
            return False
        at = pattern.find("[", end)
    return True


def root_of(roots: Iterable[Root], path: str) -> Root | None:
    """The root at `path`: that with this very path, or else of the first pattern that matches.

    Its :attr:`Root.path` is `path`. `None` if `path` is no root.
    """
    patterns = []
    for root in roots:
        if root.path == path:
            return root
        if is_pattern(root.path):
            patterns.append(root)
    for root in patterns:
        if matches(root.path, path):
            return replace(root, path=path)
    return None


def may_call(roots: Iterable[Root], text: str) -> Callable[[str], bool]:
    """Tells of a root, by its path, whether its limits let it call a container `text`."""
    name = text.lower()

    def may(path: str) -> bool:
        root = root_of(roots, path)
        return root is not None and is_allowed_name(name, root.limits.names)

    return may
