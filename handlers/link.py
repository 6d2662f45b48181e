"""Links: a sandbox's veth pairs, their addresses and routes.

What is made here is told by its interface group (:data:`handlers.rtnl.OURS`), which the kernel sets
as it makes the pair; a name alone says nothing of who made it.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from handlers import inner, outer, policyroute, rtnl
from handlers.handler import Difference, closed, without
from handlers.namespace import Home, NamespaceGone, opened, opened_by
from handlers.netlink import Netlink, NetlinkError
from handlers.reaper import Reaper
from watcher.config import Network
from watcher.model import Address, Interface, Member, Repair, Sandbox

ALIAS: Final = "watcher "
"""Begins the alias of a host end; the sandbox's id follows, for whoever reads `ip link`."""

HOST_NAME: Final = re.compile(r"netnsv\d+-\d+")
"""The name of a host end."""


class LinkTaken(OSError):
    """An interface that is not ours has the name that is needed."""


@dataclass(frozen=True, slots=True)
class Remnant:
    """What a namespace has of a sandbox that the lease store does not know (any more).

    Attributes:
        id: the sandbox's id.
        pid: the pid in the names of its links.
        addresses: of each interface, in order.
    """

    id: str
    pid: int
    addresses: tuple[tuple[Address, ...], ...]

    def by_network(self, networks: Sequence[Network]) -> dict[str, tuple[Address, ...]]:
        """The addresses by the name of the network that the interface of that number is in."""
        return {n.name: a for n, a in zip(networks, self.addresses, strict=False)}


class LinkHandler:
    """Owns the links named `netnsv*` that carry our mark, and their other ends."""

    def __init__(self, netlink: Netlink, home: Home, networks: Mapping[str, Network]) -> None:
        self._netlink = netlink
        self._home = home
        self._networks = networks
        self._reaper = Reaper()
        self._to_reap = False

    def close(self) -> None:
        """Wait until what vanished is gone."""
        self._reaper.close()

    def appear(self, sandbox: Sandbox) -> None:
        """Make the veth pairs, addresses and routes of `sandbox`.

        Raises:
            LinkTaken: one of the names is somebody else's.
            NamespaceGone: it has ended meanwhile.
        """
        if not sandbox.interfaces:
            return
        with opened(sandbox) as netns:
            for interface in sandbox.interfaces:
                self._attach(sandbox, interface, netns)

    def vanish(self, sandbox: Sandbox, leaving: Sequence[Member]) -> None:
        """Cut off the veth pairs of `sandbox` when nobody is left in it, for :meth:`reap`."""
        if without(sandbox, leaving) is not None:
            return
        for interface in sandbox.interfaces:
            link = self._find(interface.host_name)
            if link is not None and link.ours:
                self._cut_off(link)

    def reap(self) -> None:
        """Have the links deleted that were cut off, if any, while the work goes on."""
        if self._to_reap:
            self._to_reap = False
            self._reaper.reap()

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Delete links of sandboxes that are gone; put right what is missing of the others."""
        return closed(self._differences(sandboxes), dry_run=dry_run)

    def mend(self, sandbox: Sandbox) -> list[Repair]:
        """Put right what is missing of the links of one `sandbox`; what it was."""
        there = {
            link.name: link
            for interface in sandbox.interfaces
            if (link := self._find(interface.host_name)) is not None and link.ours
        }
        try:
            return closed(self._of_sandbox(sandbox, there, self._routes([sandbox])), dry_run=False)
        except NamespaceGone:
            return []  # it ends just now, which is an event of its own

    def remnant(self, pid: int, netns: int) -> Remnant | None:
        """What the namespace `netns` of process `pid` has of ours; `None` if nothing.

        Raises:
            NamespaceGone: it has ended meanwhile.
        """
        found: dict[str, tuple[Address, ...]] = {}
        alias = ""
        with opened_by((pid,), netns) as descriptor, self._home.left_for(descriptor):
            inside = Netlink()
        with inside:
            for link in map(rtnl.read_link, inside.dump(rtnl.links("veth"))):
                outer = self._outer(link)
                if outer is not None:
                    bodies = inside.dump(rtnl.addresses(link.index))
                    found[outer.name] = tuple(a.ip for a in rtnl.read_addresses(bodies))
                    alias = _sandbox_id(outer)
        if not found or not alias:
            return None
        first = min(found)
        return Remnant(alias, int(first.partition("-")[2]), tuple(found[n] for n in sorted(found)))

    def _outer(self, link: rtnl.Link) -> rtnl.Link | None:
        """The host end of `link`, which is inside; `None` if the pair is not ours."""
        if not link.ours or not link.peer:
            return None
        body = self._netlink.get(rtnl.link_at(link.peer))
        outer = None if body is None else rtnl.read_link(body)
        return outer if outer and outer.ours and HOST_NAME.fullmatch(outer.name) else None

    def _attach(
        self, sandbox: Sandbox, interface: Interface, netns: int, *, mend: bool = False
    ) -> None:
        network = self._networks[interface.network]
        try:
            outer.make(self._netlink, interface, network, netns, alias=_alias(sandbox))
        except NetlinkError as error:
            if error.errno != errno.EEXIST:
                raise
            self._adopt(sandbox, interface, netns)
        with self._home.left_for(netns):
            inside = Netlink()
            inner.set_up(interface, network)
        with inside:
            index = inside.index(interface.name)
            inside.send(inner.requests(sandbox, interface, self._networks, index, mend=mend))
            if len(sandbox.interfaces) > 1:
                inside.send(policyroute.missing(inside, interface, network, index))
        # The host end was up before there was a carrier; and the bridge, if that is its only port.
        self._netlink.see_carrier(interface.host_name)
        if network.mode == "bridge":
            self._netlink.see_carrier(network.bridge)

    def _adopt(self, sandbox: Sandbox, interface: Interface, netns: int) -> None:
        """Put right a pair that is there already, or make it anew if it is another's old one."""
        network = self._networks[interface.network]
        self._reaper.wait()  # it may be one that is being deleted just now
        link = self._find(interface.host_name)
        with self._home.left_for(netns):
            inside = Netlink()
        with inside:
            there = inside.index(interface.name) > 0
        if link is None and there:
            raise LinkTaken(
                errno.EEXIST,
                f"the container has an interface {interface.name} that is not ours already;"
                " remove the hook that makes it, or set io.watcher.network = none",
            )
        if link is not None and link.group != rtnl.DOOMED and not link.ours:
            raise LinkTaken(
                errno.EEXIST, f"a link {interface.host_name} that is not ours is in the way"
            )
        if link is not None and link.ours and there:
            adopted = outer.adopted(self._netlink, interface, network, alias=_alias(sandbox))
            self._netlink.send(adopted)
            return
        if link is not None:
            self._delete(link)
            self._reaper.wait()
        outer.make(self._netlink, interface, network, netns, alias=_alias(sandbox))

    def _find(self, name: str) -> rtnl.Link | None:
        body = self._netlink.get(rtnl.link(name))
        return None if body is None else rtnl.read_link(body)

    def _delete(self, link: rtnl.Link) -> None:
        """Cut `link` off at once, and have it deleted soon."""
        self._cut_off(link)
        self.reap()

    def _cut_off(self, link: rtnl.Link) -> None:
        self._to_reap = True
        try:
            self._netlink.send([rtnl.doomed(link.index)])
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise

    def _differences(self, sandboxes: Sequence[Sandbox]) -> Iterator[Difference]:
        self._reaper.wait()
        links = list(map(rtnl.read_link, self._netlink.dump(rtnl.links("veth"))))
        there = {link.name: link for link in links if link.ours and HOST_NAME.fullmatch(link.name)}
        for link in links:
            if link.group == rtnl.DOOMED:  # somebody was killed before it was deleted
                yield Difference(
                    Repair(f"deleted veth {link.name}", _sandbox_id(link), "its sandbox is gone"),
                    lambda link=link: self._delete(link),  # type: ignore[misc]
                )
        needed = {i.host_name for sandbox in sandboxes for i in sandbox.interfaces}
        for name in sorted(there.keys() - needed):
            yield Difference(
                Repair(f"deleted veth {name}", _sandbox_id(there[name]), "its sandbox is gone"),
                lambda link=there[name]: self._delete(link),  # type: ignore[misc]
            )
        routes = self._routes(sandboxes)
        for sandbox in sandboxes:
            try:
                yield from self._of_sandbox(sandbox, there, routes)
            except NamespaceGone:
                continue  # it ends just now, which is an event of its own

    def _of_sandbox(
        self, sandbox: Sandbox, there: Mapping[str, rtnl.Link], routes: Container[rtnl.Route]
    ) -> Iterator[Difference]:
        with opened(sandbox) as netns:
            with self._home.left_for(netns):
                inside = Netlink()
            with inside:
                for interface in sandbox.interfaces:
                    network = self._networks[interface.network]
                    link = there.get(interface.host_name)
                    wrong = outer.wrong(self._netlink, link, interface, network, routes)
                    wrong = wrong or inner.missing(inside, sandbox, interface, self._networks)
                    if wrong:
                        yield Difference(
                            Repair(f"attached {interface.host_name}", sandbox.id, wrong),
                            self._repairer(sandbox, interface),
                        )

    def _routes(self, sandboxes: Iterable[Sandbox]) -> set[rtnl.Route]:
        """The host's routes, where any of `sandboxes` is in a routed network."""
        used = {i.network for sandbox in sandboxes for i in sandbox.interfaces}
        if not any(self._networks[name].mode == "routed" for name in used):
            return set()
        families = (socket.AF_INET, socket.AF_INET6)
        found = (self._netlink.dump(rtnl.routes(family)) for family in families)
        return {
            replace(route, metric=0, source=None)
            for bodies in found
            for route in rtnl.read_routes(bodies)
        }

    def _repairer(self, sandbox: Sandbox, interface: Interface) -> Callable[[], None]:
        def repair() -> None:
            with opened(sandbox) as netns:
                self._attach(sandbox, interface, netns, mend=True)

        return repair


def _alias(sandbox: Sandbox) -> str:
    return ALIAS + sandbox.id


def _sandbox_id(link: rtnl.Link) -> str:
    return link.alias.removeprefix(ALIAS)
