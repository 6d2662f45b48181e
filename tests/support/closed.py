"""The rules of ip-rule(8) that close networks, as the kernel has them; no process is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.closing import plan
from handlers.kernel.netlink import Netlink
from tests.support.traffic import entered

if TYPE_CHECKING:
    from handlers.kernel.rtnl.rules import Rule
    from tests.support.host import Host


def rules(host: Host, version: int) -> list[Rule]:
    """All rules of an IP version, in order."""
    with entered(host.here.netns), Netlink() as netlink:
        return plan.listed(netlink, version)


def closed(host: Host) -> set[str]:
    """The links from which nothing without the mark passes, by IPv4."""
    return {rule.iif for rule in plan.ours(rules(host, 4)) if rule.unmarked and rule.iif}
