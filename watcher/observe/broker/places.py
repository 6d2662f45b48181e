"""Who may read while many do: no user takes all places, and all users together not those of root.

Else one member of the group `watcher` with 4,096 connections would keep out everybody, root and the
metrics included.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Final

_SHARE: Final = 8
"""A user but root has one in so many of all places, and root has so many for itself."""


class Places:
    """The places of readers.

    Args:
        most: how many there are.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of_one = max(1, most // _SHARE)
        self._of_users = most - self._of_one
        self._root = os.geteuid()
        self._taken: Counter[int] = Counter()

    def take(self, user: int) -> bool:
        """Take a place for `user`; false if there is none."""
        if user != self._root and (
            self._taken[user] >= self._of_one
            or self._taken.total() - self._taken[self._root] >= self._of_users
        ):
            return False
        if self._taken.total() >= self._most:
            return False
        self._taken[user] += 1
        return True

    def give_back(self, user: int) -> None:
        """Give back the place of a reader of `user`."""
        self._taken[user] -= 1
        if not self._taken[user]:
            del self._taken[user]
