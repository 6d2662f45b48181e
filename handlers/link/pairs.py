"""Reads a sandbox's veth pairs: whether both ends are there, and what is wrong with them."""

from __future__ import annotations

from handlers.bandwidth import shapers
from handlers.bandwidth.rates import rates_of
from handlers.context import Context
from handlers.guard import link as guard
from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink
from handlers.link import ours, reshaping, sandbox_end, surplus
from watcher.model.sandbox import Interface, Sandbox


class Pairs:
    """Reads pairs, and changes nothing."""

    def __init__(self, context: Context) -> None:
        self._netlink = context.netlink
        self._drivers = context.drivers

    def find(self, name: str) -> rtnl.Link | None:
        """The link of the host that has that name, if any."""
        return ours.find(self._netlink, name)

    def ends_at(self, link: rtnl.Link, netns: int, index: int) -> bool:
        """Whether `link` leads to interface `index` of the namespace `netns` (a descriptor)."""
        return ours.leads_to(link, ours.number_of(self._netlink, netns), index)

    def renamed(
        self, sandbox: Sandbox, interface: Interface, netns: int, inside: Netlink
    ) -> rtnl.Link | None:
        """The host end of `interface` if somebody has renamed it."""
        end = ours.find(inside, interface.name)
        if end is None:
            return None
        link = ours.behind(self._netlink, end, ours.number_of(self._netlink, netns), sandbox.id)
        return link if link is not None and link.name != interface.host_name else None

    def dying(self, interface: Interface, netns: int, inside: Netlink) -> rtnl.Link | None:
        """The host end of a doomed pair whose other end has the name of `interface`, if any.

        The process that doomed it may be another one, or have been killed.
        """
        end = ours.find(inside, interface.name)
        body = self._netlink.get(rtnl.link_at(end.peer)) if end is not None and end.peer else None
        link = None if body is None else rtnl.read_link(body)
        if link is None or end is None or link.group != rtnl.DOOMED:
            return None
        return link if self.ends_at(link, netns, end.index) else None

    def wrong(
        self,
        sandbox: Sandbox,
        interface: Interface,
        link: rtnl.Link | None,
        netns: int,
        inside: Netlink,
    ) -> str:
        """What is wrong with either end of a pair; empty if nothing is.

        `link` is the host end, if it exists; `netns` is a descriptor of the namespace, and `inside`
        a socket in it.
        """
        driver = self._drivers[interface.network]
        wrong = self._wrong_host_end(sandbox, link, interface)
        end = sandbox_end.look(inside, interface)
        if end is not None and link is None:
            renamed = self.renamed(sandbox, interface, netns, inside)
            wrong = wrong if renamed is None else f"the link was called {renamed.name}"
        leads = link is not None and end is not None and self.ends_at(link, netns, end.index)
        if link is not None and end is not None and not leads:
            wrong = f"{interface.name} was not its other end"
        wrong = wrong or sandbox_end.missing(inside, sandbox, interface, self._drivers, end)
        if end is None or not leads:
            return wrong
        more = surplus.surplus(end.addresses, interface, driver.network)
        old = () if wrong else reshaping.outdated(end.addresses, interface, driver)
        name = interface.name
        all_ = wrong, surplus.described(name, more), reshaping.described(name, old)
        return "; ".join(filter(None, all_))

    def _wrong_host_end(
        self, sandbox: Sandbox, link: rtnl.Link | None, interface: Interface
    ) -> str:
        if link is None:
            return "the link was missing"
        if not link.up:
            return "the link was down"
        driver = self._drivers[interface.network]
        rates = rates_of(sandbox, driver.network)
        return (
            guard.wrong(self._netlink, link.index, driver.guarded(interface))
            or shapers.wrong(self._netlink, link, rates, sandbox.id)
            or driver.wrong(self._netlink, link, interface)
        )
