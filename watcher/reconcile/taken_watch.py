"""Publishes when a process of the host takes a published port, and when it has gone.

The kernel tells nobody of a bind(2), so the service looks now and then. A look costs one list of
sockets for each protocol that is published, which the kernel narrows to the published ports, and a
look-up in the lease store for these sockets. It costs the same however many containers there are,
and is bounded however many sockets the users of the host make.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from handlers.kernel import sockdiag
from handlers.kernel.sockdiag import SockDiag
from watcher.facts.kinds import PortFree, PortTaken
from watcher.reconcile import taken
from watcher.reconcile.ports import REMEDY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from handlers.kernel.sockdiag import Listeners
    from watcher.facts.publisher import Publisher as Facts
    from watcher.model.network import Network
    from watcher.model.request import PortMap
    from watcher.store.leases import LeaseStore
    from watcher.store.port_claims import PortClaim

type _Key = tuple[str, str, PortMap]
"""Root and id of a container, and one of its port maps."""

MOST: Final = 512
"""About the most sockets of one kind that a look reads: some 3 ms."""

AT_ONCE: Final = 32
"""The most facts that looks publish at once. Each look earns one more, and what is left waits."""


class TakenPorts:
    """Remembers which port maps were published as taken.

    A port has to be free at two looks until it counts as free, because a process may open and close
    it all the time. And an unconnected UDP socket has to be there at two looks: a query to a server
    may come from one that is bound to a port of the query's own choice.

    Args:
        store: has the port maps.
        networks: all networks by name, whose changes are seen.
        facts: gets each change.
    """

    def __init__(self, store: LeaseStore, networks: Mapping[str, Network], facts: Facts) -> None:
        self._store = store
        self._networks = networks
        self._facts = facts
        self._known: dict[_Key, bool] = {}
        """The port maps that were published as taken, and whether the last look found them free."""
        self._new: dict[_Key, int] = {}
        """The UDP sockets that only the last look found, by their port maps."""
        self._left = AT_ONCE
        """How many facts may be published."""
        self.complete = True
        """Whether the last look read all sockets."""

    def any(self) -> bool:
        """Whether any port is published.

        Raises:
            WatcherError: the store does not tell.
        """
        return bool(self._store.claimed_spans())

    def look(self) -> bool:
        """Look at the host once; returns whether any port is published at all.

        Raises:
            WatcherError, OSError: the store or the kernel does not tell.
        """
        spans = self._store.claimed_spans()
        if not spans:
            self._known, self._new = {}, {}
            return False
        listeners, published = self._look(spans)
        found = {}
        for key, claim in published.items():
            if (pair := next(sockdiag.clashing([claim.port], listeners), None)) is not None:
                found[key] = pair[1]
        self._left = min(self._left + 1, AT_ONCE)
        new, self._new = self._new, {}
        for key, listener in found.items():
            if key in self._known:
                self._known[key] = False
            elif not self._left or (key[2].protocol == "udp" and new.get(key) != listener.inode):
                self._new[key] = listener.inode
            elif (fact := self._fact(published[key], listeners)) is not None:
                self._left -= 1
                self._known[key] = False
                self._facts.publish(fact)
        for key in self._known.keys() - found.keys():
            if key not in published:
                del self._known[key]
            elif self.complete and not self._known[key]:
                self._known[key] = True
            elif self.complete and self._left:
                self._left -= 1
                del self._known[key]
                self._facts.publish(PortFree(*key))
        return True

    def _look(
        self, spans: Mapping[str, tuple[int, int]]
    ) -> tuple[Listeners, dict[_Key, PortClaim]]:
        """The sockets that listen, and the port maps of their ports and of the known ones."""
        published: dict[_Key, PortClaim] = {}
        listeners = {}
        with closing(SockDiag(most=MOST)) as sock_diag:
            for protocol, span in spans.items():
                by_port = sock_diag.listening(protocol, *span, explicit=True)
                known = {p.host_port for _, _, p in self._known if p.protocol == protocol}
                if ports := known | by_port.keys():
                    for one in self._store.claims(protocol, sorted(ports)):
                        published[one.root, one.id, one.port] = one
                listeners[protocol] = by_port
            self.complete = sock_diag.complete
        return listeners, published

    def _fact(self, one: PortClaim, listeners: Listeners) -> PortTaken | None:
        sandbox = self._store.by_key(one.sandbox)
        if sandbox is None:
            return None
        ports, networks = [one.port], self._networks
        first = taken.first(one.root, one.id, ports, listeners, sandbox, networks)
        if first is None:
            return None
        return PortTaken(one.root, one.id, first.port, one.port, first.message(), REMEDY)
