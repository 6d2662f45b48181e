"""Which rules close networks, and in which steps they are made.

The kernel puts a new rule behind those of the same priority. So its own first rule, which looks up
the host's addresses, is made anew behind ours before the first one is removed: there is always one,
and what a kill leaves is recognised. Source: `net/core/fib_rules.c` (`fib_nl_newrule`,
`rule_find`, which takes what a request does not say for anything).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from handlers.kernel.netlink import Netlink, NetlinkError
from handlers.kernel.rtnl import rules
from handlers.kernel.rtnl.numbers import RT_TABLE_LOCAL
from handlers.kernel.rtnl.rules import Rule
from handlers.networks.driver import Driver

PROTOCOL: Final = 119
"""The protocol of our rules ("w"), by which they are recognised; `/etc/iproute2/rt_protos` has no
such number."""

_AFTER: Final = 1
"""The priority at which packets of the host go on."""


def wanted(
    version: int, drivers: Iterable[Driver], mark: int, entered: Iterable[Driver] = ()
) -> list[Rule]:
    """The rules that close the networks of `drivers`, in order.

    What has none of the bits `mark` is dropped: from all of them, and to those that are `entered`
    by sources of a list only.
    """
    own = Rule(version, 0, rules.BLACKHOLE, unmarked=mark, protocol=PROTOCOL)
    there = [driver for driver in drivers if driver.network.subnet_of(version) is not None]
    bridges = [replace(own, iif=driver.master) for driver in there if driver.master]
    routed = [driver.network.subnet_of(version) for driver in there if not driver.master]
    subnets = [replace(own, source=subnet) for subnet in routed]
    targets = [driver.network.subnet_of(version) for driver in entered]
    subnets += [replace(own, to=subnet) for subnet in targets if subnet is not None]
    if not subnets:
        return bridges
    host = Rule(version, 0, rules.GOTO, target=_AFTER, iif="lo", protocol=PROTOCOL)
    goes_on = replace(host, priority=_AFTER, action=rules.TO_TABLE, target=0, table=RT_TABLE_LOCAL)
    return [goes_on, host, *subnets, *bridges]


def listed(netlink: Netlink, version: int, *, needed: bool = False) -> list[Rule]:
    """All rules of an IP version, in order; none if the kernel has none, unless they are `needed`.

    Raises:
        OSError: the kernel has none, and some are `needed`.
    """
    try:
        return rules.read_rules(netlink.dump(rules.rules(version)))
    except NetlinkError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
            raise
        if not needed:
            return []
        raise OSError(
            errno.ENOPKG,
            f"the kernel has no IPv{version} policy routing, by which a network with lists stays"
            " closed while nftables rules are missing; set closed = false in [firewall] to do"
            " without",
        ) from error


def ours(there: Iterable[Rule]) -> list[Rule]:
    """Our rules among those `there`, in order."""
    return [rule for rule in there if rule.protocol == PROTOCOL]


def steps(there: Sequence[Rule], wanted: Sequence[Rule], *, exactly: bool) -> list[bytes]:
    """The requests after which `wanted` are in force; with `exactly`, no other rules of ours.

    `there` are all rules of an IP version.

    Raises:
        OSError: another program's rule is in the way.
    """
    plan = _Plan(there)
    if not plan.locals():  # somebody has moved it behind ours
        wanted = [_without_lookup(rule) if rule.priority else rule for rule in wanted]
    for rule in wanted:
        if rule not in plan.rules:
            plan.add(rule)
    for rule in plan.sources_before_the_hosts():
        plan.add(rule)
        plan.drop(rule)
    if plan.ours() and plan.locals():
        if plan.last_of_ours() > plan.last_local():
            plan.add(plan.locals()[-1])
        while len(plan.locals()) > 1:
            plan.drop(plan.locals()[0])
    for rule in reversed(plan.ours()):  # those that drop go before the one that lets the host by
        if plan.rules.count(rule) > 1 or (exactly and rule not in wanted):
            plan.drop(rule)
    return plan.requests


class _Plan:
    """Requests, and all rules as they are after them."""

    def __init__(self, there: Sequence[Rule]) -> None:
        self.rules = list(there)
        self.requests: list[bytes] = []

    def add(self, rule: Rule) -> None:
        """Make a rule."""
        self.rules.insert(sum(one.priority <= rule.priority for one in self.rules), rule)
        self.requests.append(rules.rule(rule))

    def drop(self, rule: Rule) -> None:
        """Remove the first rule that is `rule`.

        Raises:
            OSError: the kernel would remove another one.
        """
        if next(one for one in self.rules if _may_be(one, rule)) != rule:
            raise OSError(
                errno.EBUSY,
                f"another program has a rule of priority {rule.priority} before that of this"
                " program; give it another priority, or set closed = false in [firewall]",
            )
        self.rules.remove(rule)
        self.requests.append(rules.no_rule(rule))

    def ours(self) -> list[Rule]:
        """Our rules, in order."""
        return ours(self.rules)

    def locals(self) -> list[Rule]:
        """The kernel's own rule, which may have been made again."""
        return [rule for rule in self.rules if _is_local(rule)]

    def last_of_ours(self) -> int:
        """The place of the last rule of ours that is to be before the kernel's; -1 if none is."""
        places = (n for n, rule in enumerate(self.rules) if rule.protocol == PROTOCOL)
        return max((n for n in places if not self.rules[n].priority), default=-1)

    def last_local(self) -> int:
        """The place of the last of these."""
        return max(number for number, rule in enumerate(self.rules) if _is_local(rule))

    def sources_before_the_hosts(self) -> list[Rule]:
        """Our rules that would drop packets of the host, as those are let by too late."""
        own = self.ours()
        host = next((n for n, rule in enumerate(own) if rule.action == rules.GOTO), 0)
        return [rule for rule in own[:host] if rule.source is not None or rule.to is not None]


def _is_local(rule: Rule) -> bool:
    """Whether it is the kernel's own rule, by which a packet to the host is recognised as such."""
    own = Rule(rule.version, 0, rules.TO_TABLE, table=RT_TABLE_LOCAL, protocol=rule.protocol)
    return rule == own and rule.protocol != PROTOCOL


def _without_lookup(rule: Rule) -> Rule:
    return replace(rule, action=rules.NOP, table=0)


def _may_be(one: Rule, asked: Rule) -> bool:
    """Whether the kernel takes `one` for `asked`, which says nothing of what is empty in it."""
    return one.priority == asked.priority and all(
        getattr(asked, name) in (getattr(one, name), 0, "", None)
        for name in ("action", "table", "iif", "source", "to", "unmarked")
    )
