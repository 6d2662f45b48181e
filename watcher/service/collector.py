"""Python's garbage collector, at the moments that this program chooses.

By itself it runs in the midst of whatever makes new objects, which is mostly a start that waits at
the gate: 0.3 ms each time, 3 to 5 ms one time in ten, and more with every sandbox. Nearly nothing
here is in cycles, so it is rarely needed. But what is left in them must not grow under constant
load either.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 2000
"""New objects at which the youngest are collected: as many as Python itself allows."""

OLDER: Final = 20
"""Collections of one generation at which the next one is collected as well."""


class Collector:
    """Collects when it is told to, from :meth:`begin` to :meth:`stop`, in the whole process."""

    def begin(self) -> None:
        """Stop Python's own collections."""
        gc.disable()

    def settle(self) -> None:
        """Leave out from now on all that there is: to go through it takes 20 ms and more each time.

        What is garbage by now stays. There is next to none, and to find it would take as long.
        """
        gc.freeze()

    def stop(self) -> None:
        """Leave it to Python again."""
        gc.enable()
        gc.unfreeze()

    def collect_due(self) -> None:
        """Collect what is due under constant load, as Python itself would have done before."""
        young, *older = gc.get_count()
        if young < YOUNG:
            return
        generation = 0
        while generation < len(older) and older[generation] >= OLDER:
            generation += 1
        gc.collect(generation)

    def collect_all(self) -> None:
        """Collect everything, while nobody waits."""
        gc.collect()
