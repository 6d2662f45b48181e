"""Drift: kernel events about changes to things that this program made.

:mod:`watcher.events.subscriptions` says which events arrive. Netlink does not report every
setting; :mod:`watcher.events.settings` watches the others. An event is only a hint, and at most it
causes a sync. Events about changes by this program itself arrive as well and are sorted out: a link
that the lease store does not know is ignored, and a change of nftables or of a guard names its
socket.

Events from sandboxes have a socket and a buffer of their own, and are read a few at a time. So a
container that causes more events than can be read does not hide events about the host.

Sources: rtnetlink(7), `include/uapi/linux/netconf.h`, `include/uapi/linux/netfilter/nf_tables.h`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from handlers.kernel import rtnl
from handlers.kernel.messages import attributes
from handlers.kernel.netlink import NETLINK_NETFILTER, RECEIVE, own_ports
from handlers.kernel.rtnl.numbers import (
    NETCONFA_FORWARDING,
    NETCONFA_IFINDEX,
    RTM_DELRULE,
    RTM_NEWNETCONF,
    RTM_NEWROUTE,
)
from handlers.kernel.rtnl.traffic_control import read_link_index
from watcher.events import subscriptions
from watcher.events.near_routes import is_near
from watcher.events.settings import SettingsWatch
from watcher.events.subscriptions import GUARD_EVENTS, receive
from watcher.model.naming import HOST_NAME, SHAPER_NAME, shaped_by

if TYPE_CHECKING:
    from watcher.events.subscriptions import Event
    from watcher.model.address import Subnet

_NFT: Final = 10 << 8
_NFT_NEWGEN: Final = _NFT | 15
_IFINDEX_ALL: Final = -1
_AT_ONCE: Final = 256
"""Messages to read in one go, some 2 ms; other work of the loop comes in between."""
_BREATH: Final = 0.005
"""Seconds until the next go, if one was not enough."""


class Drift:
    """Receives kernel events, and reports what another program may have changed.

    Args:
        loop: the event loop in whose thread it listens.
        bridges: the names of the bridges that should exist while sandboxes use them.
        local: those of them that `localhost` needs for published ports.
        subnets: those of all networks.
        overlapping: returns the indices of links with addresses or routes that overlap them.
        routes: called if such a link was lost, or if a route near `subnets` came or went.
        link: called with the host end of a link that may have changed.
        host: called with the part of the host that may have changed: `nftables`, a bridge's name,
            `forwarding`, `rules`; or `events`, if some were lost.
        lost: called if events of sandboxes were lost; any of them may have changed.
        failed: called with the error that ended it.

    Attributes:
        alive: whether it listens.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        bridges: Collection[str],
        local: Collection[str],
        subnets: Collection[Subnet],
        *,
        overlapping: Callable[[], Collection[int]],
        routes: Callable[[], None],
        link: Callable[[str], None],
        host: Callable[[str], None],
        lost: Callable[[], None],
        failed: Callable[[Exception], object],
    ) -> None:
        self.alive = True
        self._failed = failed
        self._loop = loop
        self._bridges = frozenset(bridges)
        self._local = frozenset(local)
        self._subnets = subnets
        self._overlapping = overlapping
        self._suspect_routes = routes
        self._suspect = link
        self._suspect_host = host
        self._lost = lost
        self._names: dict[int, set[str]] = {}
        """The host ends of the pairs whose sandbox ends are in the namespace of that id."""
        self._up: set[str | tuple[int, int]] = set()
        """Host ends, sandbox ends, and bridges that were up: down is wrong since.

        A sandbox end is given by its namespace and its index there. Host ends that were on a bridge
        are in it once more (:func:`_on_bridge`).
        """
        self._indices: dict[int, str] = {}
        """The names of host ends, of devices that shape what comes from them, and of bridges, by
        interface index: those that they should have."""
        self._touched = False
        self._own: dict[int, frozenset[int]] = {}
        """By protocol, the ports of this process's sockets, including that of libnftables."""
        self._buffer = bytearray(RECEIVE)
        own = subscriptions.of_host(subnets)
        self._inside = subscriptions.of_sandboxes(subnets)
        self._heard: dict[socket.socket, Callable[[Event], None]] = {
            own: self._of_host,
            self._inside: self._of_sandbox,
            subscriptions.of_settings(): self._of_setting,
            subscriptions.of_nftables(): self._of_nftables,
        }
        self._settings = SettingsWatch(
            loop, self._suspect_setting, lambda: host("events"), self._end
        )
        subscriptions.request_links(own)
        for heard in self._heard:
            loop.add_reader(heard, self._read, heard)

    def close(self) -> None:
        """Stop listening; a second call does nothing."""
        self.alive, heard_before, self._heard = False, self._heard, {}
        for heard in heard_before:
            self._loop.remove_reader(heard)
            heard.close()
        if heard_before:
            self._settings.close()

    def _read(self, heard: socket.socket) -> None:
        take = self._heard[heard]
        try:
            for _ in range(_AT_ONCE):
                for event in receive(heard, self._buffer):
                    take(event)
        except BlockingIOError:
            return
        except Exception as error:  # noqa: BLE001 (whatever it is, what else was heard is lost)
            if not (isinstance(error, OSError) and error.errno == errno.ENOBUFS):
                self._end(error)
                return
            if heard is self._inside:
                self._lost()
            else:
                self._suspect_host("events")
        self._loop.remove_reader(heard)
        self._loop.call_later(_BREATH, self._read_on, heard)

    def _end(self, error: Exception) -> None:
        self.close()
        self._failed(error)

    def _read_on(self, heard: socket.socket) -> None:
        if heard in self._heard:
            self._loop.add_reader(heard, self._read, heard)

    def _of_host(self, event: Event) -> None:
        kind, port, _, body = event
        if kind in (rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK):
            self._of_link(kind, body)
        elif kind == rtnl.RTM_DELADDR:
            name = self._indices.get(int.from_bytes(body[4:8], "little"), "")
            if name in self._bridges:
                self._suspect_host(name)
        elif kind in (RTM_NEWROUTE, rtnl.RTM_DELROUTE):
            self._of_route(kind, body)
        elif kind == RTM_DELRULE:
            if not self._is_own(socket.NETLINK_ROUTE, port):
                self._suspect_setting("rules")
        elif kind in GUARD_EVENTS:
            name = shaped_by(self._indices.get(read_link_index(body), ""))
            if HOST_NAME.fullmatch(name) and not self._is_own(socket.NETLINK_ROUTE, port):
                self._suspect(name)

    def _of_route(self, kind: int, body: memoryview) -> None:
        index = rtnl.read_route_index(body)
        name = self._indices.get(index, "")
        if HOST_NAME.fullmatch(name):
            if kind == rtnl.RTM_DELROUTE:
                self._suspect(name)
        elif kind == rtnl.RTM_DELROUTE:  # mostly to a sandbox whose link is being taken away
            if index in self._overlapping():
                self._suspect_routes()
        elif name not in self._bridges and is_near(body, self._subnets):
            self._suspect_routes()

    def _of_sandbox(self, event: Event) -> None:
        kind, _, namespace, body = event
        if namespace is None:  # the host's own, which arrives here as well
            return
        if kind in (rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK):
            link = rtnl.read_link(body)
            wrong = kind == rtnl.RTM_DELLINK or not link.up
            end = namespace, link.index
            if not (self._fell(end, wrong) if link.ours else wrong and link.name == "lo"):
                return
        names = self._names.get(namespace)
        if names:
            self._suspect(min(names))  # one stands for the whole sandbox

    def _of_setting(self, event: Event) -> None:
        kind, _, _, body = event
        if kind == RTM_NEWNETCONF and (index := _stops_forwarding(body)) is not None:
            name = self._indices.get(index, "")
            if index == _IFINDEX_ALL or name in self._bridges:
                self._suspect_setting("forwarding")

    def _suspect_setting(self, what: str) -> None:
        """Suspect a setting of the host; as long as there is no sandbox, nobody needs it."""
        if self._names:
            self._suspect_host(what)

    def _of_link(self, kind: int, body: memoryview) -> None:
        link = rtnl.read_link(body)
        if link.group == rtnl.DOOMED:
            self._forget(link)
            return
        before = self._indices.get(link.index, link.name)
        if before != link.name:  # somebody has renamed it
            self._settings.forget(before)
            self._suspect_link(before)
        wrong = kind == rtnl.RTM_DELLINK or not link.up
        if wrong and link.index in self._overlapping():  # its routes went without a word
            self._suspect_routes()
        if HOST_NAME.fullmatch(link.name):
            if link.peer_netns >= 0:
                self._note(link.peer_netns, link.name)
                self._fell((link.peer_netns, link.peer), wrong)
            fell = self._fell(link.name, wrong)
            if self._fell(_on_bridge(link.name), wrong or not link.master) or fell:
                self._suspect(link.name)
        elif SHAPER_NAME.fullmatch(link.name):
            if self._fell(link.name, wrong):
                self._suspect_link(link.name)
        elif link.name not in self._bridges:
            if kind == rtnl.RTM_DELLINK:
                self._indices.pop(link.index, None)
            return
        else:
            self._of_bridge(kind, link.name, wrong=wrong)
        if kind == rtnl.RTM_DELLINK:
            self._indices.pop(link.index, None)
        else:
            self._indices[link.index] = link.name

    def _of_bridge(self, kind: int, name: str, *, wrong: bool) -> None:
        if self._fell(name, wrong):
            self._suspect_host(name)
        if kind == rtnl.RTM_DELLINK:
            self._settings.forget(name)
        elif name in self._local:
            self._settings.watch(name)

    def _note(self, namespace: int, name: str) -> None:
        """Note a host end of a namespace, in place of those of one that had its number before."""
        names = self._names.setdefault(namespace, set())
        if names and _pid(name) != _pid(next(iter(names))):
            names.clear()
        names.add(name)

    def _suspect_link(self, name: str) -> None:
        """Suspect a host end, also by the device that shapes what comes from it, or a bridge."""
        if HOST_NAME.fullmatch(shaped_by(name)):
            self._suspect(shaped_by(name))
        else:
            self._suspect_host(name)

    def _forget(self, link: rtnl.Link) -> None:
        """Expect that a link, which this program is taking away, and its other end go."""
        name = self._indices.pop(link.index, link.name)
        names = self._names.get(link.peer_netns, set())
        names.discard(name)
        if not names:
            self._names.pop(link.peer_netns, None)
        self._up -= {name, _on_bridge(name), (link.peer_netns, link.peer)}

    def _fell(self, which: str | tuple[int, int], wrong: bool) -> bool:
        """Whether a link that was up is down now; a link that is being made was never up."""
        if not wrong:
            self._up.add(which)
        elif which in self._up:
            self._up.discard(which)
            return True
        return False

    def _of_nftables(self, event: Event) -> None:
        """The changes of a transaction come first, and then one event that ends it."""
        kind, port, _, body = event
        if kind == _NFT_NEWGEN:
            if self._touched and not self._is_own(NETLINK_NETFILTER, port):
                self._suspect_host("nftables")
            self._touched = False
        elif not self._touched and port not in self._own.get(NETLINK_NETFILTER, ()):
            self._touched = _table(body) == b"watcher"

    def _is_own(self, protocol: int, port: int) -> bool:
        """Whether a socket of this process has that port; libnftables opens new ones."""
        if port not in self._own.get(protocol, ()):
            with suppress(OSError):  # no descriptor left: rather look once too often
                self._own[protocol] = own_ports(protocol)
        return port in self._own.get(protocol, ())


def _pid(name: str) -> str:
    """The pid in the name of a host end, which all those of one sandbox have."""
    return name.partition("-")[2]


def _on_bridge(name: str) -> str:
    """What stands for the host end `name` as a port; those of routed networks have no bridge."""
    return f"{name} on its bridge"


def _stops_forwarding(body: memoryview) -> int | None:
    """The interface by which nothing is forwarded now, or all; `None` if it is another event."""
    values = dict(attributes(body, 4))
    index, forwarding = values.get(NETCONFA_IFINDEX), values.get(NETCONFA_FORWARDING)
    if index is None or forwarding is None or any(forwarding):
        return None
    return int.from_bytes(index, "little", signed=True)


def _table(body: memoryview) -> bytes:
    """The table of an nftables message: its first attribute after `nfgenmsg`."""
    for kind, value in attributes(body, 4):
        if kind == 1:
            return bytes(value).rstrip(b"\0")
    return b""
