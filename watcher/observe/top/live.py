"""`watcher top` on a terminal, until somebody ends it."""

from __future__ import annotations

import time
from typing import Final

from watcher.observe.top.sampler import Sampler, sample
from watcher.observe.top.terminal import Terminal
from watcher.observe.top.view import View

_FIRST: Final = 1.0
"""Seconds from the first picture to the second, so that there are rates soon."""

_PATIENCE: Final = 1.5
"""Seconds that a picture may take before the user is told."""


def live(run_dir: str) -> None:
    """Show the traffic until a key or a signal ends it.

    Raises:
        WatcherError: nobody serves the socket at the start, or it may not be opened; it is no
            terminal that text can be placed on.
    """
    view = View()
    view.take(sample(run_dir))
    with Terminal() as terminal:
        sampler = Sampler(run_dir, terminal.wake)
        asked, due = 0.0, time.monotonic() + _FIRST
        while True:
            height, width = terminal.size
            terminal.draw(view.screen(height, width, time.strftime("%H:%M:%S")))
            keys = terminal.wait(due)
            if keys is None:
                return
            delay = view.delay
            for key in keys:
                if not view.press(key):
                    return
            now = time.monotonic()
            if view.delay != delay:
                due = min(due, now + view.delay)
            found = sampler.take()
            if isinstance(found, str):
                view.message = f"{found}; waiting for it"
            elif found is not None:
                view.take(found)
            if now < due and " " not in keys:
                continue
            if not sampler.busy:
                sampler.ask()
                asked = now
            elif now - asked > _PATIENCE:
                view.message = f"the service has not answered for {now - asked:.0f} s"
            due = now + view.delay
