"""Whether networks with lists stay closed while there are no nftables rules."""

from __future__ import annotations

from collections.abc import Iterator

from handlers.closing.handler import missing
from handlers.closing.judged import entered, judged
from handlers.kernel.netlink import Netlink
from handlers.networks import drivers_of
from watcher.checks.check import Finding, Subject, ok, warn
from watcher.model.errors import WatcherError
from watcher.store.reading import read_store


def findings(subject: Subject) -> Iterator[Finding]:
    """Which of them are not closed; nothing where no container is held to a list."""
    try:
        with read_store(subject.config) as store:
            sandboxes = store.sandboxes()
    except WatcherError:  # the check of the leases tells
        return
    drivers = drivers_of(subject.networks)
    held = {d.network.name: d for sandbox in sandboxes for d in judged(sandbox, drivers)}
    if not held:
        return
    shown = ", ".join(sorted(held))
    if not subject.config.firewall.closed:
        yield ok(
            f"containers of {shown} would reach everything without rules of nftables",
            "if they are not to, set closed = true in [firewall]",
        )
        return
    to = {d.network.name: d for sandbox in sandboxes for d in entered(sandbox, drivers)}
    with Netlink() as netlink:
        lacking = missing(netlink, held.values(), subject.config.firewall.mark, to.values())
    if lacking:
        yield warn(
            f"{', '.join(lacking)} would be open without rules of nftables: a rule of `ip rule` is"
            " missing",
            "run `watcher sync`; if systemd-networkd removes such rules, set"
            " ManageForeignRoutingPolicyRules=no in networkd.conf",
        )
    else:
        yield ok(f"without rules of nftables, nothing would leave {shown}")
