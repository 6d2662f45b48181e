"""Waiting for what comes to hold, and for what must not come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 20.0
"""Seconds after which a condition that holds at all has come to hold, even on a slow machine."""
LATENCY_FREE_NO: Final = 0.4
"""Seconds to wait for a packet that must not arrive."""


def eventually[T](condition: Callable[[], T], timeout: float = PATIENCE, *, what: str = "") -> T:
    """Waits until `condition` returns something true, and returns that.

    A condition that raises `AssertionError`, `LookupError` or `OSError` does not hold yet.

    Raises:
        AssertionError: after `timeout` seconds, with the last that `condition` said.
    """
    deadline = time.monotonic() + timeout
    pause = 0.005
    while True:
        error: Exception | None = None
        value: T | None = None
        try:
            value = condition()
        except (AssertionError, LookupError, OSError) as raised:
            error = raised
        if value:
            return value
        if time.monotonic() > deadline:
            name = what or getattr(condition, "__name__", "the condition")
            raise AssertionError(
                f"{name} does not hold after {timeout} s: {error or value!r}"
            ) from error
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
