"""What a container is called."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from watcher.config.patterns import root_of
from watcher.model.naming import RESERVED_NAMES, is_allowed_name, short_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watcher.config.settings import Root
    from watcher.feed.lines import ContainerPart

_ID: Final = re.compile(r"[a-z0-9_+-]{1,63}(\.[a-z0-9_+-]{1,63})*")
"""An id that can be asked for: one that runc takes, in labels of DNS.

See `validateID` in runc's `libcontainer/factory_linux.go`.
"""

_LONGEST: Final = 180
"""Characters of an id that leave room for the network and the domain in a name of 253."""

_ROOTS_AT_MOST: Final = 1024


def can_be_asked_for(name: str) -> bool:
    """Whether `name`, an id or a name of a container in lower case, can be a name of DNS."""
    return name not in RESERVED_NAMES and len(name) <= _LONGEST and _ID.fullmatch(name) is not None


class Naming:
    """Tells what containers are called, as far as the limits of their root in `roots` allow it."""

    def __init__(self, roots: Sequence[Root]) -> None:
        self._roots = roots
        self._patterns: dict[str, tuple[str, ...] | None] = {}

    def names_of(self, part: ContainerPart) -> list[bytes]:
        """What the container is called, in lower case; the first is what people call it.

        Its names were checked when it was attached. An id is chosen by whoever starts the
        container, and so is a name only if the limits of its root allow it.
        """
        ids = dict.fromkeys((short_id(part.id).lower(), part.id.lower()))
        usable = [id_.encode() for id_ in ids if self._may_be(part.root, id_)]
        return [name.encode() for name in part.names] + usable

    def _may_be(self, root: str, id_: str) -> bool:
        if not can_be_asked_for(id_):
            return False
        patterns = self._of(root)
        return patterns is not None and (not patterns or is_allowed_name(id_, patterns))

    def _of(self, root: str) -> tuple[str, ...] | None:
        """What containers of `root` may be called, all if empty; `None` if it is no root.

        It is looked up once for each.
        """
        if root not in self._patterns:
            if len(self._patterns) >= _ROOTS_AT_MOST:
                self._patterns.clear()
            found = root_of(self._roots, root)
            self._patterns[root] = None if found is None else found.limits.names
        return self._patterns[root]
