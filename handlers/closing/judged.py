"""The networks whose packets are judged: where sandboxes are held to lists, and where it is closed.

All that comes from such a network gets the mark, or is rejected. So the rules of nftables judge a
network before it is closed, and for as long as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from handlers.closing import plan
from handlers.kernel.netlink import Netlink
from handlers.networks.driver import Driver
from handlers.networks.held import held_interfaces
from watcher.model.sandbox import Sandbox


def judged(sandbox: Sandbox, drivers: Mapping[str, Driver]) -> list[Driver]:
    """The drivers of those networks of `sandbox` in which it is held to a list, of any direction.

    In all others, nothing is asked of its lists.
    """
    limits = sandbox.limits
    limited = limits.forced or limits.ingress is not None
    of_all = [drivers[interface.network] for interface in sandbox.interfaces]
    return of_all if limited else [driver for driver in of_all if driver.network.policed]


def entered(sandbox: Sandbox, drivers: Mapping[str, Driver]) -> list[Driver]:
    """Those in which it is held to a list of sources: only what has the mark may enter them."""
    held = held_interfaces("ingress", sandbox, drivers)
    return [drivers[interface.network] for interface, _ in held]


def closed(netlink: Netlink, drivers: Iterable[Driver]) -> Iterator[Driver]:
    """Those `drivers` whose network is closed now, whether or not it has to be."""
    there = [rule for version in (4, 6) for rule in plan.ours(plan.listed(netlink, version))]
    interfaces = {rule.iif for rule in there if rule.unmarked}
    sources = {rule.source for rule in there}
    for driver in drivers:
        if driver.master in interfaces or not sources.isdisjoint(driver.network.subnets):
            yield driver
