"""Python's garbage collector, so that no question waits for it.

A collection of everything takes 20 ms and more with thousands of containers, and one of the last
20,000 objects still 10 ms. Nearly nothing here is in cycles. So new objects are collected as they
become many, those that outlive it are left out from then on (`gc.freeze`), and everything is
collected only while nobody asks.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

YOUNG: Final = 2000
"""New objects at which they are collected: as many as Python itself allows; 0.2 ms."""
TURNS: Final = 16
"""Turns after which they are collected in any case. Python counts each object that ends as one new
object less, also one that was left out: while containers come and go, it would never count many."""

_WHOLE: Final = 300.0
"""Seconds between two looks whether everything can be collected."""
_QUIET: Final = 5.0
"""Nobody asks if nothing was collected for so many seconds."""


class Garbage:
    """Collects from its making on, in the whole process."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._turns = 0
        self._left_out = False
        self._last = loop.time()
        gc.disable()
        gc.freeze()
        self._timer = loop.call_later(_WHOLE, self._collect_all)

    def stop(self) -> None:
        """Leave it to Python again."""
        self._timer.cancel()
        gc.unfreeze()
        gc.enable()

    def turn(self) -> None:
        """Collect what is due; called after questions were answered."""
        self._turns += 1
        if self._turns >= TURNS or gc.get_count()[0] >= YOUNG:
            self.collect()

    def collect(self) -> None:
        """Collect what is new; called after what has made many objects, or may have."""
        self._turns = 0
        gc.collect(0)
        gc.freeze()
        self._left_out = True
        self._last = self._loop.time()

    def _collect_all(self) -> None:
        pause = _WHOLE
        if self._left_out and self._loop.time() < self._last + _QUIET:
            pause = _QUIET
        elif self._left_out:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._left_out = False
        self._timer = self._loop.call_later(pause, self._collect_all)
