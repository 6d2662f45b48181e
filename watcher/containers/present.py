"""The roots that exist now: those of the configuration, and all that its patterns match.

Whoever goes through the roots takes them from here: `[[root]]` may have a pattern
(:mod:`watcher.config.patterns`), and directories come and go.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from handlers.kernel import rootpath
from watcher.config.patterns import directory_of, is_pattern, matches, root_of
from watcher.containers.files import Unreadable
from watcher.model.errors import message_of, quoted

if TYPE_CHECKING:
    from watcher.config.settings import Root


def present(roots: Iterable[Root], also: Iterable[str] = ()) -> tuple[Root, ...]:
    """The roots that `roots` of the configuration stand for, in that order.

    A root without a pattern is one even if it is missing. A directory that several match belongs to
    the one with its very path, or else to the first.

    Args:
        roots: of the configuration.
        also: paths of roots that may have been removed, and are wanted as far as `roots` match.
    """
    roots = tuple(roots)
    found = {root.path: root for root in roots if not is_pattern(root.path)}
    if len(found) == len(roots):
        return roots
    listed: list[Root] = []
    for root in roots:
        if not is_pattern(root.path):
            listed.append(root)
            continue
        with suppress(Unreadable):
            for path in matched(root.path):
                if path not in found and (one := root_of(roots, path)):
                    found[path] = one
                    listed.append(one)
    for path in also:
        if path not in found and (one := root_of(roots, path)):
            found[path] = one
            listed.append(one)
    return tuple(listed)


def matched(pattern: str) -> list[str]:
    """The paths of the directories that the path `pattern` matches, sorted; links do not count.

    Raises:
        Unreadable: others than root may make directories there, or it cannot be listed.
    """
    above = directory_of(pattern)
    try:
        with rootpath.opened(above) as directory:
            refuse_others(above, directory)
            here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
            try:
                with os.scandir(here) as entries:
                    paths = [
                        f"{above}/{entry.name}"
                        for entry in entries
                        if entry.is_dir(follow_symlinks=False) and entry.name.isprintable()
                    ]
            finally:
                os.close(here)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Unreadable(
            f"root {quoted(pattern)} is left alone: {message_of(error)}",
            "see what stands at that path, or set another",
        ) from error
    return sorted(path for path in paths if matches(pattern, path))


def refuse_others(above: str, directory: int) -> None:
    """Raise Unreadable if others than root may make directories in the open `directory`.

    `above` is its path.
    """
    status = os.fstat(directory)
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise Unreadable(
            f"others than root may make directories in {quoted(above)}, and each would be a root",
            "name each root by its path",
        )
