"""Links: a sandbox's veth pairs, their addresses and routes.

Only the host end shows that a pair is ours (:mod:`handlers.link.ours`): it has our interface group
(`rtnl.OURS`), which the kernel sets when it makes the pair. Anybody could choose its name, and the
container can change anything inside the sandbox.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from typing import Final

from handlers.bandwidth import shapers
from handlers.bandwidth.rates import rates_of
from handlers.context import Context
from handlers.handler import Difference, Handler, appear_each, apply, unknown
from handlers.kernel import rtnl, sysctl
from handlers.kernel.foreign_names import index_of
from handlers.kernel.namespace import NamespaceGone, open_by_pid, open_namespace
from handlers.kernel.netlink import MOST, Netlink, NetlinkError
from handlers.link import announce, ours, reshaping, sandbox_end, surplus, sysctls
from handlers.link.leftovers import leftovers, remove
from handlers.link.orphans import orphans
from handlers.link.pairs import Pairs
from handlers.networks.driver import Driver
from handlers.renaming import rename
from watcher.model.alias import alias_of
from watcher.model.errors import WatcherError
from watcher.model.naming import shaped_by
from watcher.model.orphan import Orphan
from watcher.model.repair import Repair
from watcher.model.sandbox import Interface, Sandbox

_NO_IPV6: Final = "ipv6/conf/default/disable_ipv6"


class LinkTaken(OSError):
    """An interface that is not ours has the name that is needed."""


class LinkHandler(Handler):
    """Owns the links named `netnsv*` with our mark, and their other ends."""

    def __init__(self, context: Context) -> None:
        self._netlink = context.netlink
        self._home = context.home
        self._namespaces = context.namespaces
        self._drivers = context.drivers
        self._pairs = Pairs(context)
        self.reaper = context.reaper
        self._announcer = announce.Announcer()

    def appear(self, sandbox: Sandbox) -> None:
        """Make the veth pairs, addresses and routes of `sandbox`.

        Raises:
            LinkTaken, NameTaken: an interface that is not ours has one of the names.
            NoGuard: the kernel cannot guard a link.
            NoShaper: it cannot hold one to a rate.
            NamespaceGone: the namespace has ended meanwhile.
            InvalidRequest: a kernel setting that it asks for cannot be set.
        """
        self._appear(sandbox, frozenset())

    def appear_all(self, sandboxes: Mapping[int, Sandbox]) -> dict[int, WatcherError | OSError]:
        """Make the pairs of all `sandboxes` first: the kernel waits once for all of them."""
        if len(sandboxes) == 1:
            return super().appear_all(sandboxes)
        begun = self._begin(sandboxes.values())
        return appear_each(sandboxes, lambda sandbox: self._appear(sandbox, begun))

    def _begin(self, sandboxes: Iterable[Sandbox]) -> set[str]:
        """Begin the pairs of `sandboxes`; returns the names of those that only need an end."""
        begun = set()
        for sandbox in sandboxes:
            # Whatever is wrong is found again, and told, when the sandbox's turn comes.
            with suppress(WatcherError, OSError), open_namespace(sandbox) as netns:
                for interface in sandbox.interfaces:
                    self._drivers[interface.network].begin(self._netlink, interface, netns)
                    begun.add(interface.host_name)
        return begun

    def _appear(self, sandbox: Sandbox, begun: Set[str]) -> None:
        if not sandbox.interfaces:
            return
        netns = self._namespaces.of(sandbox)
        for interface in sandbox.interfaces:
            self._attach(sandbox, interface, netns, begun=interface.host_name in begun)

    def vanish(self, before: Sandbox, after: Sandbox | None) -> None:
        """Doom the veth pairs that are no longer needed; the reaper deletes them."""
        kept = () if after is None else after.interfaces
        for interface in before.interfaces:
            if interface in kept:
                continue
            for link in ours.host_end_and_shaper(self._netlink, interface.host_name):
                if ours.is_of(link, before.id):
                    self.reaper.doom(self._netlink, link.index)

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Delete links of vanished sandboxes; repair those of the others."""
        if not dry_run:
            self._announcer.remember_all(sandboxes, self._drivers)
        return apply(self._differences(sandboxes), dry_run=dry_run)

    def mend(self, sandbox: Sandbox) -> list[Repair]:
        """Repair the links of one `sandbox`; returns what was wrong."""
        there = {
            link.name: link
            for interface in sandbox.interfaces
            if (link := self._pairs.find(interface.host_name)) is not None and link.ours
        }
        return apply(self._of_sandbox(sandbox, there), dry_run=False)

    def remember(self, sandbox: Sandbox) -> None:
        """Remember that the neighbours of `sandbox` know its addresses, by another process."""
        for interface in sandbox.interfaces:
            if self._drivers[interface.network].master:
                self._announcer.remember(sandbox, interface)

    def orphans(self, pid: int, netns: int, *, own: bool) -> list[Orphan]:
        """The orphans in the namespace of process `pid` (:mod:`handlers.link.orphans`).

        `netns` is its inode number. With `own`, only look for what was made for this process.

        Raises:
            NamespaceGone: the namespace has ended meanwhile.
        """
        names = [f"netnsv{n}-{pid}" for n in range(len(self._drivers))] if own else None
        if names is not None and not any(map(self._netlink.index, names)):
            return []
        with open_by_pid((pid,), netns) as descriptor:
            return orphans(self._netlink, self._home, descriptor, names)

    def has_ipv6(self, pid: int, netns: int) -> bool:
        """Whether a new interface in the namespace of process `pid` would have IPv6.

        `netns` is its inode number.

        Raises:
            NamespaceGone: the namespace has ended meanwhile.
        """
        with self._home.left_for(self._namespaces.by_pid((pid,), netns)):
            return sysctl.get(_NO_IPV6) == "0"

    def _attach(
        self,
        sandbox: Sandbox,
        interface: Interface,
        netns: int,
        *,
        begun: bool = False,
        mend: bool = False,
    ) -> None:
        driver = self._drivers[interface.network]
        master = driver.master
        comes_to_others = len(sandbox.members) > 1 and not (begun or mend)
        if comes_to_others and self._is_right(sandbox, interface, netns):
            return
        self._make(sandbox, interface, netns, begun=begun)
        news = self._announcer.is_news(sandbox, interface, driver)
        with self._home.left_for(netns):
            inside = Netlink(most=MOST)
            sandbox_end.set_up(interface, driver)
            if news:  # first, as the container may want it otherwise
                announce.prepare(interface)
            refused = sysctls.write(inside, sandbox, interface)
        with inside:
            if refused is not None and not mend:
                raise refused
            index = inside.index(interface.name)
            if mend:  # first: the kernel removes secondary addresses together with their primary
                self._clear(inside, index, interface, driver)
            sandbox_end.configure(inside, sandbox, interface, self._drivers, index, mend=mend)
            # The host end went up before it had a carrier, and so did a bridge with no other port.
            self._netlink.see_carrier(interface.host_name)
            if master:
                self._netlink.see_carrier(master)
            if news:
                announce.announce(inside, index, interface)
        if master:
            self._announcer.remember(sandbox, interface, news=news)
        if refused is not None:  # what else was wrong is repaired
            raise OSError(errno.EINVAL, str(refused))

    def _make(self, sandbox: Sandbox, interface: Interface, netns: int, *, begun: bool) -> None:
        """Make a pair, or its second half if it has `begun`; one that is there is adopted."""
        driver, name = self._drivers[interface.network], interface.host_name
        rates = rates_of(sandbox, driver.network)
        try:
            if not begun:
                driver.make_pair(self._netlink, interface, netns)
            if rates.limited:
                shapers.put(self._netlink, name, rates, sandbox.id)
            driver.finish(self._netlink, interface, alias=alias_of(sandbox.id))
        except NetlinkError as error:
            if error.errno != errno.EEXIST:
                raise
            self._adopt(sandbox, interface, netns)
            shapers.put_back(self._netlink, name, rates, sandbox.id)

    def _is_right(self, sandbox: Sandbox, interface: Interface, netns: int) -> bool:
        """Whether a pair has all that it is to have, and neighbours have heard of it.

        To look takes a third of the time of making it anew, and leaves a network in use alone.
        """
        link = self._pairs.find(interface.host_name)
        if link is None or not link.ours or link.alias != alias_of(sandbox.id):
            return False
        if self._announcer.is_news(sandbox, interface, self._drivers[interface.network]):
            return False
        with self._home.left_for(netns):
            inside = Netlink(most=MOST)
        with inside:
            return not self._pairs.wrong(sandbox, interface, link, netns, inside)

    def _adopt(self, sandbox: Sandbox, interface: Interface, netns: int) -> None:
        """Repair an existing pair, or replace a stale one."""
        driver = self._drivers[interface.network]
        alias = alias_of(sandbox.id)
        self.reaper.wait()  # the reaper may be deleting it
        with self._home.left_for(netns):
            inside = Netlink(most=MOST)
        with inside:
            index = index_of(inside, interface.name)
            dying = self._pairs.dying(interface, netns, inside)
            renamed = self._pairs.renamed(sandbox, interface, netns, inside)
        if dying is not None:
            self._delete(dying)
            self.reaper.wait()
            index = 0
        if renamed is not None:
            rename(self._netlink, renamed, interface.host_name)
        link = self._pairs.find(interface.host_name)
        ends_there = link is not None and self._pairs.ends_at(link, netns, index)
        if index and not ends_there:
            raise _taken_inside(interface)
        if link is not None and link.group != rtnl.DOOMED and not link.ours:
            raise LinkTaken(
                errno.EEXIST, f"a link {interface.host_name} that is not ours is in the way"
            )
        if link is not None and link.ours and not ours.is_of(link, sandbox.id):
            raise LinkTaken(
                errno.EEXIST,
                f"link {interface.host_name} is that of sandbox {ours.sandbox_id(link)},"
                " which has outlived the process of that number; start the container again",
            )
        if link is not None and link.ours and ends_there:
            driver.adopt(self._netlink, interface, alias=alias)
            return
        if link is not None:
            self._delete(link)
            self.reaper.wait()
        driver.make(self._netlink, interface, netns, alias=alias)

    def _clear(self, inside: Netlink, index: int, interface: Interface, driver: Driver) -> None:
        """Remove the addresses of `interface` that have no lease, or are as they were before."""
        there = rtnl.read_packed(inside.dump(rtnl.addresses(index)))
        reshaping.reshape(inside, index, interface, reshaping.outdated(there, interface, driver))
        for address in surplus.surplus(there, interface, driver.network):
            gone = rtnl.no_address(index, address)  # perhaps already, with its primary
            inside.send_unless_done(gone, errno.EADDRNOTAVAIL)

    def _delete(self, link: rtnl.Link) -> None:
        """Cut `link` off at once, and have the reaper delete it soon."""
        self.reaper.doom(self._netlink, link.index)
        self.reaper.reap()

    def _differences(self, sandboxes: Sequence[Sandbox]) -> Iterator[Difference]:
        self.reaper.wait()
        every = list(map(rtnl.read_link, self._netlink.dump(rtnl.links())))
        links = [link for link in every if link.kind == "veth"]
        there = {link.name: link for link in links if ours.is_host_end(link)}
        for link in every:
            if link.group == rtnl.DOOMED:  # a process was killed before it deleted this link
                yield Difference(_deleted(link), lambda link=link: self._delete(link))  # type: ignore[misc]
        needed = {i.host_name for sandbox in sandboxes for i in sandbox.interfaces}
        living = {alias_of(sandbox.id) for sandbox in sandboxes}
        renamed = [one for one in links if ours.is_renamed(one) and one.alias not in living]
        left = [
            one
            for one in filter(shapers.is_shaper, every)
            if shaped_by(one.name) not in needed and one.alias not in living
        ]
        for link in [there[name] for name in sorted(there.keys() - needed)] + renamed + left:
            yield Difference(_deleted(link), lambda link=link: self._delete(link))  # type: ignore[misc]
        for sandbox in sandboxes:
            yield from self._of_sandbox(sandbox, there)

    def _of_sandbox(self, sandbox: Sandbox, there: Mapping[str, rtnl.Link]) -> Iterator[Difference]:
        """What is wrong with the links of one sandbox, or why that is unknown."""
        last = sandbox.interfaces[0] if sandbox.interfaces else None
        try:
            with open_namespace(sandbox) as netns:
                with self._home.left_for(netns):
                    inside = Netlink(most=MOST)
                with inside:
                    for interface in sandbox.interfaces:
                        last = interface
                        link = there.get(interface.host_name)
                        wrong = self._pairs.wrong(sandbox, interface, link, netns, inside)
                        if wrong:
                            repair = _repair(sandbox, interface, wrong)
                            yield Difference(repair, self._repairer(sandbox, interface), alone=True)
                    if sandbox.kept:
                        yield from self._leftovers(sandbox, inside)
        except NamespaceGone:
            return  # its init ends right now, which is an event of its own
        except OSError as error:
            yield unknown(_repair(sandbox, last, "it cannot be looked at"), error)

    def _leftovers(self, sandbox: Sandbox, inside: Netlink) -> Iterator[Difference]:
        """What `sandbox` has needed only for an interface that came or went."""
        requests = leftovers(inside, sandbox, self._drivers)
        if requests:
            first = sandbox.interfaces[0] if sandbox.interfaces else None
            repair = _repair(sandbox, first, "a route or rule was left of another interface")
            yield Difference(repair, lambda: remove(inside, requests), alone=True)

    def _repairer(self, sandbox: Sandbox, interface: Interface) -> Callable[[], None]:
        def repair() -> None:
            with suppress(NamespaceGone), open_namespace(sandbox) as netns:
                self._attach(sandbox, interface, netns, mend=True)

        return repair


def _deleted(link: rtnl.Link) -> Repair:
    return Repair(f"deleted {link.kind} {link.name}", ours.sandbox_id(link), "its sandbox is gone")


def _repair(sandbox: Sandbox, interface: Interface | None, why: str) -> Repair:
    """The repair of a link of `sandbox`, or of its namespace if it has none."""
    if interface is None:
        return Repair("removed routing rules", sandbox.id, why)
    name = interface.host_name
    return Repair(f"attached {name}", sandbox.id, why, link=name)


def _taken_inside(interface: Interface) -> LinkTaken:
    remedy = "remove the hook that makes it, or set io.watcher.network = none"
    if interface.member is not None:
        remedy = "remove that, or choose another name with --interface"
    return LinkTaken(
        errno.EEXIST,
        f"the container has an interface {interface.name} that is not ours already; {remedy}",
    )
