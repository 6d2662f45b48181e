"""Everything that acts on the host, in its order: what one needs comes before it.

This is what :mod:`watcher` sees of the handlers, beside the kernel bindings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Self

from handlers import root_mounts
from handlers.bridge import BridgeHandler
from handlers.conntrack import ConntrackHandler
from handlers.firewall.foreign import ForeignFirewallHandler
from handlers.firewall.handler import FirewallHandler
from handlers.handler import Handler, Notes
from handlers.kernel.namespace import Home
from handlers.kernel.netlink import Netlink
from handlers.kernel.nft import Nft
from handlers.kernel.uplink import settled
from handlers.link.handler import LinkHandler
from handlers.link.reaper import Reaper
from handlers.pin import PinHandler
from handlers.root_mounts import OpenRoot
from handlers.settings import Sysctl
from watcher.model.network import Network
from watcher.model.repair import Repair
from watcher.model.sandbox import Member, Sandbox

__all__ = ["ConntrackHandler", "Host", "OpenRoot", "Reaper", "root_mounts"]


class Host:
    """The handlers, opened once: sockets, nftables, and the host's own namespace.

    Attributes:
        networks: each network by its name.
        bridges, links, firewall, pins, conntrack, foreign: handlers, for what is more than three
            verbs.
    """

    def __init__(
        self,
        netns_dir: str,
        networks: Mapping[str, Network],
        notes: Notes,
        everybody: Callable[[], Iterable[Sandbox]],
        *,
        integrate: bool = False,
    ) -> None:
        with ExitStack() as opened:
            self.networks = networks = settled(networks)
            home = Home()
            opened.callback(home.close)
            netlink = opened.enter_context(Netlink())
            self.conntrack = ConntrackHandler(networks)
            self.bridges = BridgeHandler(netlink, networks, Sysctl(notes))
            self.links = LinkHandler(netlink, home, networks)
            opened.callback(self.links.close)
            self.firewall = FirewallHandler(Nft(), networks, notes, everybody)
            self.pins = PinHandler(netns_dir, netlink, notes, everybody)
            self.foreign = ForeignFirewallHandler(networks, notes, enabled=integrate)
            # A pin is told by what its namespace has, so sync comes to it before the links.
            self._handlers: tuple[Handler, ...] = (
                self.pins, self.bridges, self.links, self.firewall, self.conntrack,
                self.foreign,
            )  # fmt: skip
            self._opened = opened.pop_all()

    def configure(self, networks: Mapping[str, Network]) -> None:
        """Have every handler know `networks` from now on: all look them up in the same place.

        What is on the host is left as it is, for a sync.
        """
        known = settled(networks)
        self.networks.update(known)
        for name in self.networks.keys() - known.keys():
            del self.networks[name]

    def close(self) -> None:
        """Close what was opened; what was made stays."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def appear(self, sandbox: Sandbox, arriving: Sequence[Member]) -> None:
        """Make all that `sandbox` needs; if a step fails, take back what `arriving` brought.

        Raises:
            OSError: the kernel refused; the host is as it was.
        """
        with ExitStack() as undo:
            undo.callback(self.links.reap)
            for handler in self._handlers:
                undo.callback(handler.vanish, sandbox, arriving)
                handler.appear(sandbox)
            undo.pop_all()

    def vanish(self, sandbox: Sandbox, leaving: Sequence[Member]) -> None:
        """Take back what `sandbox` needs no more without `leaving`, last made first."""
        # Flows are due last both ways: one that ends before is made anew by who keeps sending.
        others = [h for h in reversed(self._handlers) if h is not self.conntrack]
        try:
            for handler in (*others, self.conntrack):
                handler.vanish(sandbox, leaving)
        finally:
            self.links.reap()  # behind all else: whoever unmounts would wait for it in the kernel

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Make the host be as all living `sandboxes` need it; what was different."""
        repairs: list[Repair] = []
        for handler in self._handlers:
            repairs += handler.sync(sandboxes, dry_run=dry_run)
        return repairs
