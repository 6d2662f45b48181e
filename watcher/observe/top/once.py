"""`watcher top` where no terminal is: one table, as of `top -b -n 1`."""

from __future__ import annotations

import time
from operator import attrgetter

from watcher.observe.top.columns import Column, columns
from watcher.observe.top.rates import Row, rows
from watcher.observe.top.sampler import sample
from watcher.observe.top.text import fitted
from watcher.observe.top.view import DELAY, SORTS


def once(run_dir: str) -> tuple[list[str], list[list[str]]]:
    """The titles and the rows of the traffic of some seconds, the most first.

    Raises:
        WatcherError: nobody serves the socket, or it may not be opened.
    """
    before = sample(run_dir)
    time.sleep(DELAY)
    now = sample(run_dir)
    found = sorted(rows(now, before), key=attrgetter("container", "key"))
    found.sort(key=SORTS["T"].key, reverse=True)
    shown = columns(bits=True)
    return [column.title for column in shown], [_cells(shown, row) for row in found]


def _cells(shown: tuple[Column, ...], row: Row) -> list[str]:
    return [fitted(column.cell(row), column.most).rstrip() for column in shown]
