"""All handlers, each after those that it needs.

Besides the kernel bindings, this is the part of the handlers that :mod:`watcher` uses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Final, Self

from msgspec import Struct

from handlers import root_mounts
from handlers.closing.handler import ClosingHandler
from handlers.cluster.handler import ClusterHandler
from handlers.conntrack import ConntrackHandler
from handlers.context import ALONE, DEFAULTS, ClusterView, Context, FirewallSettings, open_context
from handlers.copies import CopiesHandler
from handlers.firewall.foreign import ForeignFirewallHandler
from handlers.firewall.handler import FirewallHandler
from handlers.firewall.old_tables import OldTablesHandler
from handlers.firewall.opened_elements import by_names as opened_by_names
from handlers.firewall.rejecting import seen as rejected
from handlers.guard.link import is_guarded
from handlers.guard.trial import why_not as why_no_guard
from handlers.handler import Handler, ListStore, Notes
from handlers.host_side import HostSideHandler
from handlers.kernel.reaper import Reaper
from handlers.kernel.uplink import with_mtus
from handlers.link.handler import LinkHandler
from handlers.link.reaping import ReapingHandler
from handlers.networks import drivers_of
from handlers.networks.gateway_bridge import renamed as renamed_bridge
from handlers.pin import PinHandler
from handlers.root_mounts import OpenRoot
from watcher.model.cluster import ClusterChange
from watcher.model.errors import WatcherError
from watcher.model.network import Network
from watcher.model.repair import Repair
from watcher.model.sandbox import Sandbox

__all__ = [
    "HANDLERS", "ClusterView", "ConntrackHandler", "FirewallSettings", "Host", "OpenRoot", "Reaper",
    "is_guarded", "opened_by_names", "rejected", "renamed_bridge", "root_mounts", "why_no_guard",
]  # fmt: skip


class Kind(Struct, frozen=True):
    """One kind of thing on the host.

    Attributes:
        handler: makes the handler.
        last: whether its `vanish` runs after all others. Otherwise handlers vanish in reverse.
    """

    handler: Callable[[Context], Handler]
    last: bool = False


HANDLERS: Final = (
    Kind(ReapingHandler),  # vanishes late: an unmount would wait in the kernel for the deletions
    Kind(CopiesHandler),
    Kind(PinHandler),  # before the links: sync recognises a pin by the links of its namespace
    Kind(HostSideHandler),
    Kind(FirewallHandler),  # before the links: nothing may pass one before its rules are there
    Kind(ClosingHandler),  # once the rules mark what may pass, and before any link
    Kind(ClusterHandler),  # once nothing from other hosts passes that should not
    Kind(LinkHandler),
    Kind(OldTablesHandler),
    Kind(ConntrackHandler, last=True),  # flows that ended earlier would come back with a packet
    Kind(ForeignFirewallHandler),
)
"""All handlers, in the order in which they appear. A new kind of thing is one line here."""


class Host:
    """The handlers, opened once: sockets, nftables, and the host's own namespace.

    Attributes:
        networks: each network by its name.
        namespaces: those of sandboxes, each opened once for all that look into it.
        copies, pins, host_sides, links, firewall, closing, cluster, conntrack: the handlers with
            more than the verbs.
    """

    def __init__(
        self,
        netns_dir: str,
        copies_dir: str,
        networks: Mapping[str, Network],
        notes: Notes,
        numbers: ListStore,
        sandboxes: Callable[[], Iterable[Sandbox]],
        *,
        firewall: FirewallSettings = DEFAULTS,
        cluster: ClusterView = ALONE,
        find: Callable[[str], Network | None] = lambda _: None,
    ) -> None:
        with ExitStack() as opened:
            context = opened.enter_context(
                open_context(
                    netns_dir,
                    copies_dir,
                    networks,
                    notes,
                    numbers,
                    sandboxes,
                    firewall=firewall,
                    cluster=cluster,
                    find=find,
                )
            )
            self._drivers = context.drivers
            self._own = context.cluster.own
            self.networks = {name: d.network for name, d in context.drivers.items()}
            self.namespaces = context.namespaces
            self._handlers = tuple(kind.handler(context) for kind in HANDLERS)
            self._appearing = [
                (number, handler)
                for number, handler in enumerate(self._handlers, 1)
                if handler.can_appear
            ]
            both = list(zip(HANDLERS, self._handlers, strict=True))
            self._back = [handler for kind, handler in reversed(both) if not kind.last]
            self._back += [handler for kind, handler in both if kind.last]
            self.copies = self._of(CopiesHandler)
            self.pins = self._of(PinHandler)
            self.host_sides = self._of(HostSideHandler)
            self.links = self._of(LinkHandler)
            self.firewall = self._of(FirewallHandler)
            self.closing = self._of(ClosingHandler)
            self.cluster = self._of(ClusterHandler)
            self.conntrack = self._of(ConntrackHandler)
            self._opened = opened.pop_all()

    def network(self, name: str) -> Network:
        """The network of that name, which a sandbox is in."""
        return self._drivers[name].network

    def configure(self, networks: Mapping[str, Network]) -> None:
        """Replace the networks that all handlers share; the host itself changes at a sync."""
        drivers = drivers_of(with_mtus(networks, self._own))
        self._drivers.update(drivers)
        self.networks.update((name, driver.network) for name, driver in drivers.items())
        for name in self._drivers.keys() - drivers.keys():
            del self._drivers[name], self.networks[name]

    def keep_only(self, names: Collection[str]) -> None:
        """Forget the networks of other names, so that all processes make the same of the rest."""
        for name in self._drivers.keys() - names:
            del self._drivers[name]
            self.networks.pop(name, None)

    def close(self) -> None:
        """Close what was opened; what was made stays."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def appear(
        self, changes: Sequence[tuple[Sandbox | None, Sandbox]]
    ) -> dict[int, WatcherError | OSError]:
        """Make all that sandboxes need; each is given as it was before, if it was, and as it is.

        If a step fails for one of them, what the change brought is undone, and the others go on.
        Returns the errors by the position in `changes`.
        """
        failed: dict[int, WatcherError | OSError] = {}
        left = {number: sandbox for number, (_, sandbox) in enumerate(changes)}
        begun = 0
        try:
            for begun, handler in self._appearing:
                for number, error in handler.appear_all(left).items():
                    del left[number]
                    failed[number] = self._undo(begun, *changes[number]) or error
        except BaseException:
            for number in left:
                self._undo(begun, *changes[number])
            raise
        finally:
            self.namespaces.close()
        return failed

    def _undo(
        self, begun: int, before: Sandbox | None, after: Sandbox
    ) -> WatcherError | OSError | None:
        """Undo what the first `begun` handlers made for a change; returns an error, if any."""
        try:
            with ExitStack() as undo:
                for handler in self._handlers[:begun]:
                    undo.callback(handler.vanish, after, before)
        except (WatcherError, OSError) as error:
            return error
        return None

    def vanish(self, before: Sandbox, after: Sandbox | None) -> None:
        """Remove what a sandbox no longer needs, as handlers do, in reverse order.

        Raises:
            OSError: a step failed; the other steps were done.
        """
        with ExitStack() as steps:
            for handler in reversed(self._back):
                steps.callback(handler.vanish, before, after)

    def meet(self, change: ClusterChange) -> None:
        """Have each handler make what a change of the cluster needs, as :meth:`Handler.meet` says.

        Raises:
            OSError: a handler failed; those after it have done nothing.
        """
        for handler in self._handlers:
            handler.meet(change)

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Make the host exactly as the living `sandboxes` need it; returns the differences."""
        repairs: list[Repair] = []
        try:
            for handler in self._handlers:
                repairs += handler.sync(sandboxes, dry_run=dry_run)
        finally:
            self.namespaces.close()
        return repairs

    def remove(self, networks: Iterable[Network]) -> list[str]:
        """Remove everything that is left after the last sandbox; returns a line for each thing.

        `networks` are all present and former networks.
        """
        known = list(networks)
        return [line for handler in self._back for line in handler.remove(known)]

    def _of[H: Handler](self, kind: type[H]) -> H:
        """The handler of class `kind`."""
        return next(handler for handler in self._handlers if isinstance(handler, kind))
