"""Replaces the tables of an earlier version, whose rules were the guard, once links have another.

It comes after the links, while the firewall itself comes before them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from functools import partial

from handlers.context import Context
from handlers.firewall.handler import FirewallHandler
from handlers.firewall.ruleset import OLD_TABLE
from handlers.guard import link as guard
from handlers.handler import Difference, Handler, apply
from handlers.kernel.nft import Nft
from watcher.model.repair import Repair
from watcher.model.sandbox import Sandbox


class OldTablesHandler(Handler):
    """Takes away the table `bridge watcher`, and makes that of today."""

    def __init__(self, context: Context) -> None:
        self._nft = Nft()
        self._context = context

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Replace the tables; they stay while a link has no other guard."""
        return apply(self._differences(sandboxes), dry_run=dry_run)

    def _differences(self, sandboxes: Sequence[Sandbox]) -> Iterator[Difference]:
        if self._nft.listing(*OLD_TABLE) is not None:
            yield Difference(
                Repair("made the nftables table", "", "those of an earlier version were there"),
                partial(self._replace, sandboxes),
                alone=True,
            )

    def _replace(self, sandboxes: Sequence[Sandbox]) -> None:
        netlink = self._context.netlink
        for sandbox in sandboxes:
            for interface in sandbox.interfaces:
                facts = self._context.drivers[interface.network].guarded(interface)
                index = netlink.index(interface.host_name)
                if facts is not None and index and guard.wrong(netlink, index, facts):
                    raise OSError(
                        errno.EBUSY,
                        f"{interface.host_name} is not guarded by a program on it; until all are,"
                        " the tables of the earlier version stay",
                    )
        FirewallHandler(self._context).replace()
