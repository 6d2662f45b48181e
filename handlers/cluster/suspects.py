"""What events of the kernel have contradicted since it was last looked at.

A route or an entry that has gone, or beside which there is another one, is known by its event. So
it can be put right by itself, and nothing else has to be looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from handlers.kernel.rtnl.block_routes import BlockRoute, RouteKey
from handlers.kernel.rtnl.entries import Entry, EntryKey

MOST: Final = 256
"""After more events than that, everything is looked at."""


class Found[K, T]:
    """Routes or entries.

    Attributes:
        others: by the key of each that may be wrong: what is there in place of what is wanted, or
            beside it.
        events: how many events there were that contradicted what is wanted.
    """

    def __init__(self) -> None:
        self.others: dict[K, list[T]] = {}
        self.events = 0

    def missing(self, key: K) -> bool:
        """What is wanted is there no more."""
        self.others.setdefault(key, [])
        self.events += 1
        return True

    def there(self, key: K, other: T) -> bool:
        """Something else is there."""
        self.others.setdefault(key, []).append(other)
        self.events += 1
        return True

    def came_back(self, key: K, beside: Callable[[T], bool]) -> bool:
        """What is wanted is there, in place of others but for those that may be `beside` it."""
        left = list(filter(beside, self.others.pop(key, ())))
        if left:
            self.others[key] = left
        return False

    def went(self, key: K, other: T, *, wanted: bool) -> bool:
        """Something else is there no more; `wanted`: something should be there."""
        left = self.others.get(key, [])
        if other in left:
            left.remove(other)
            if not left and not wanted:
                del self.others[key]
        return False


class Suspects:
    """See the module's docstring.

    Attributes:
        everything: whether everything has to be looked at.
        ways: whether other hosts may be reached another way than before.
        routes: routes to blocks.
        entries: entries of VXLAN devices.
    """

    def __init__(self, *, everything: bool = False) -> None:
        self.everything = everything
        self.ways = False
        self.routes: Found[RouteKey, BlockRoute] = Found()
        self.entries: Found[EntryKey, Entry] = Found()

    def few(self) -> bool:
        """Whether what may be wrong is known, and little."""
        some = self.ways or self.routes.others or self.entries.others
        many = self.routes.events + self.entries.events > MOST
        return bool(some) and not many and not self.everything
