"""What the container may receive and send, and what was dropped for the sake of that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from handlers.bandwidth import shapers
from handlers.bandwidth.rates import rates_of
from handlers.kernel.rtnl import shaping
from handlers.kernel.rtnl.traffic_control import read_drops
from handlers.link import ours
from watcher.checks.check import Finding, fail, ok
from watcher.model.naming import shaper_of
from watcher.model.policy.rates import rate_text

if TYPE_CHECKING:
    from watcher.checks.container.gathered import Gathered


def findings(gathered: Gathered) -> Iterator[Finding]:
    """A line for each direction of each interface that is held to a rate."""
    sandbox = gathered.sandbox
    for interface in sandbox.interfaces:
        link = ours.find(gathered.netlink, interface.host_name)
        rates = rates_of(sandbox, gathered.drivers[interface.network].network)
        if link is None or not link.up:  # which another line tells; the kernel says nothing of it
            continue
        wrong = shapers.wrong(gathered.netlink, link, rates, sandbox.id)
        if wrong:
            yield fail(f"{interface.host_name}: {wrong}", "run `watcher sync`")
            continue
        for does, bits, name in (
            ("receive", rates.receive, interface.host_name),
            ("send", rates.send, shaper_of(interface.host_name)),
        ):
            if bits is not None:
                yield ok(
                    f"it may {does} {rate_text(bits)} a second by {interface.name};"
                    f" {_dropped(gathered, name)} packets beyond that were dropped"
                )


def _dropped(gathered: Gathered, name: str) -> int:
    """What the bucket of the link `name` has dropped."""
    body = gathered.netlink.get(shaping.qdisc_of(gathered.netlink.index(name)))
    return 0 if body is None else read_drops(body)
