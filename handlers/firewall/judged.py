"""The networks whose packets are judged, because sandboxes there are held to lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from handlers.networks.driver import Driver
from watcher.model.sandbox import Sandbox


def judged(sandbox: Sandbox, drivers: Mapping[str, Driver]) -> Iterator[Driver]:
    """The drivers of those networks of `sandbox` in which it is held to a list.

    All that comes from such a network gets the mark, or is rejected: only what is marked is routed.
    """
    limits = sandbox.limits
    limited = limits.forced or limits.ingress is not None
    for interface in sandbox.interfaces:
        driver = drivers[interface.network]
        if limited or driver.network.policed:
            yield driver
