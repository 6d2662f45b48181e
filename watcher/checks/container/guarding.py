"""What the guard has dropped of what the container sent, and filters of others on its links."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from handlers.guard import link as guard
from handlers.kernel.rtnl import traffic_control
from watcher.checks.check import Finding, fail, ok, warn

if TYPE_CHECKING:
    from watcher.checks.container.gathered import Gathered
    from watcher.model.sandbox import Interface


def findings(gathered: Gathered) -> Iterator[Finding]:
    """A line for each interface that is guarded."""
    for interface in gathered.sandbox.interfaces:
        index = gathered.netlink.index(interface.host_name)
        facts = gathered.drivers[interface.network].guarded(interface)
        if not index or facts is None:
            continue
        wrong = guard.wrong(gathered.netlink, index, facts)
        if wrong:
            yield fail(f"{interface.host_name}: {wrong}", "run `watcher sync`")
            continue
        yield from _dropped(gathered, interface, index)


def _dropped(gathered: Gathered, interface: Interface, index: int) -> Iterator[Finding]:
    """How many frames its filters have dropped since the link was made."""
    body = gathered.netlink.get(traffic_control.ingress_of(index))
    drops = 0 if body is None else traffic_control.read_drops(body)
    name = interface.name
    if any(guard.of_others(gathered.netlink, index)):
        yield warn(
            f"another program's filter sees what comes from {name}, and may drop it",
            f"see `tc -s filter show dev {interface.host_name} ingress`",
        )
    if drops:
        yield warn(
            f"the guard has dropped {drops} frames that it sent by {name}, since they came from"
            " another address or MAC than its own: usually of a bridge, VPN or virtual machine"
            " inside, or of an address that a program added",
            "masquerade inside, ask for the address by io.watcher.ip, or set guard = false for"
            f" network {interface.network}",
        )
    else:
        yield ok(f"the guard has dropped nothing that it sent by {name}")
