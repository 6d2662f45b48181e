"""The rules of ip-rule(8) that close networks: made, repaired, removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from handlers.closing import plan
from handlers.closing.arp import Arp
from handlers.closing.judged import entered, judged
from handlers.context import Context
from handlers.handler import Difference, Handler, apply
from handlers.kernel.netlink import Netlink
from handlers.kernel.rule_changes import RuleChanges
from handlers.networks.driver import Driver
from watcher.model.network import Network
from watcher.model.repair import Repair
from watcher.model.sandbox import Sandbox

_VERSIONS: Final = (4, 6)


class ClosingHandler(Handler):
    """Owns the rules that have our protocol.

    A network is closed for the first of its sandboxes that is held to a list. After the last one
    has gone, it stays closed until a sync or :meth:`rest`, as another often follows soon.
    """

    def __init__(self, context: Context) -> None:
        self._netlink = context.netlink
        self._drivers = context.drivers
        self._mark = context.firewall.mark if context.firewall.closed else 0
        self._arp = Arp(context.notes)
        self._closed: dict[str, Driver] = {}
        """The networks that are closed, by name, unless anybody has changed a rule since."""
        self._entered: dict[str, Driver] = {}
        """Those of them that only what has the mark may enter."""
        self._changes: RuleChanges | None = None
        self._sandboxes = context.sandboxes
        self.may_open = False
        """Whether a sandbox has gone that may have been the last one in a closed network."""

    def appear(self, sandbox: Sandbox) -> None:
        """Close the networks in which `sandbox` is held to a list.

        Raises:
            OSError: the kernel has no such rules, or another program's rule is in the way.
        """
        needed = self._needed([sandbox])
        if not needed:
            return
        if self._changes is None:
            self._changes = RuleChanges()
        if self._changes.any():
            self._forget()
        to = _by_name(entered(sandbox, self._drivers))
        if _has(self._closed, needed) and _has(self._entered, to):
            return
        for version in _VERSIONS:
            wanted = plan.wanted(version, needed.values(), self._mark, to.values())
            if not wanted:
                continue
            there = plan.listed(self._netlink, version, needed=True)
            if version == 4:  # the table first: without it nobody finds the gateway
                closed = {rule.iif for rule in (*plan.ours(there), *wanted)}
                apply(self._arp.differences(closed - {"", "lo"}, self._mark), dry_run=False)
            self._carry_out(plan.steps(there, wanted, exactly=False))
        self._closed |= needed
        self._entered |= to

    def vanish(self, before: Sandbox, after: Sandbox | None) -> None:  # noqa: ARG002
        """Remember that :meth:`rest` has something to look at."""
        self.may_open = self.may_open or bool(self._needed([before]))

    def rest(self) -> None:
        """Open the networks in which no sandbox is held to a list any more.

        Raises:
            OSError: the kernel refused.
        """
        self.may_open = False
        sandboxes = list(self._sandboxes())
        if self._closed.keys() != self._needed(sandboxes).keys():
            self.sync(sandboxes, dry_run=False)

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Make the rules exactly those that the networks of `sandboxes` need."""
        if not dry_run:
            self._forget()
        to = (driver for sandbox in sandboxes for driver in entered(sandbox, self._drivers))
        return apply(
            self._differences(self._needed(sandboxes), _by_name(to) if self._mark else {}),
            dry_run=dry_run,
        )

    def remove(self, networks: Iterable[Network]) -> list[str]:  # noqa: ARG002
        """Remove all rules of ours; the kernel's own stay."""
        self._forget()
        return [repair.what for repair in apply(self._differences({}, {}), dry_run=False)]

    def _forget(self) -> None:
        """Look again at what is closed."""
        self._closed.clear()
        self._entered.clear()

    def _carry_out(self, requests: Iterable[bytes]) -> None:
        """Send one request after the other: what is removed is there again before."""
        for request in requests:
            self._netlink.send([request])

    def _needed(self, sandboxes: Iterable[Sandbox]) -> dict[str, Driver]:
        """The networks to close, by name."""
        if not self._mark:
            return {}
        return {d.network.name: d for one in sandboxes for d in judged(one, self._drivers)}

    def _differences(
        self, needed: Mapping[str, Driver], to: Mapping[str, Driver]
    ) -> Iterator[Difference]:
        drivers = [needed[name] for name in sorted(needed)]
        entered_by = [to[name] for name in sorted(to)]
        if drivers:
            yield from self._arp.differences(_bridges(drivers), self._mark)
        for version in _VERSIONS:
            wanted = plan.wanted(version, drivers, self._mark, entered_by)
            there = plan.listed(self._netlink, version, needed=bool(wanted))
            requests = plan.steps(there, wanted, exactly=True)
            if requests:
                more = any(rule not in there for rule in wanted)
                what = "made" if more else "arranged" if wanted else "removed"
                why = "they were not as they should be" if wanted else "no sandbox needs them"
                yield Difference(
                    Repair(f"{what} IPv{version} rules of `ip rule`", "", why),
                    partial(self._carry_out, requests),
                )
        if not drivers:
            yield from self._arp.differences((), self._mark)


def _by_name(drivers: Iterable[Driver]) -> dict[str, Driver]:
    return {driver.network.name: driver for driver in drivers}


def _has(there: Mapping[str, Driver], needed: Mapping[str, Driver]) -> bool:
    """Whether all that is `needed` is there, and of the present configuration."""
    return all(there.get(name) is driver for name, driver in needed.items())


def _bridges(drivers: Iterable[Driver]) -> set[str]:
    """The bridges of those `drivers` whose sandboxes find the gateway by ARP."""
    return {d.master for d in drivers if d.master and d.network.subnet_of(4) is not None}


def missing(
    netlink: Netlink, drivers: Iterable[Driver], mark: int, to: Iterable[Driver] = ()
) -> list[str]:
    """What is not closed of the networks of `drivers`: bridges and subnets.

    `to` are those that only what has the mark may enter.
    """
    networks, targets, found = list(drivers), list(to), []
    for version in _VERSIONS:
        wanted = plan.wanted(version, networks, mark, targets)
        there = plan.listed(netlink, version)
        if plan.steps(there, wanted, exactly=False):
            lacking = [rule for rule in wanted if rule not in there and rule.target == 0]
            found += [str(rule.source or rule.to or rule.iif) for rule in lacking or wanted]
    return sorted(set(found))
