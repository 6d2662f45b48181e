"""Python's garbage collector, so that no question waits for it.

A collection of everything takes 20 ms and more with thousands of containers. Nearly nothing here is
in cycles. So new objects are collected as they become many, those that outlive it are left out from
then on (`gc.freeze`), and everything is collected only while nobody asks.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

YOUNG: Final = 2000
"""New objects at which they are collected: as many as Python itself allows; 0.2 ms."""
_OLDER: Final = 10
"""So many such collections, and what is left is collected once more and then left out."""
_WHOLE: Final = 300.0
"""Seconds between two looks whether everything can be collected."""
_QUIET: Final = 5.0
"""Nobody asks if nothing was new for so many seconds."""


class Garbage:
    """Collects from its making on, in the whole process."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._collections = 0
        self._frozen = 0
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
        """Collect what is due; called after whatever may have made objects."""
        if gc.get_count()[0] >= YOUNG:
            self._last = self._loop.time()
            self._collections += 1
            if self._collections % _OLDER:
                gc.collect(0)
            else:
                gc.collect(1)
                gc.freeze()
                self._frozen += 1

    def _collect_all(self) -> None:
        pause = _WHOLE
        if self._frozen:
            if self._loop.time() < self._last + _QUIET:
                pause = _QUIET
            else:
                gc.unfreeze()
                gc.collect()
                gc.freeze()
                self._frozen = 0
        self._timer = self._loop.call_later(pause, self._collect_all)
