"""The service's side of the feed: its sockets, the broker, and what is asked of the other parts."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from watcher.feed.clusters import Contact, Holdings, cluster_line
from watcher.feed.from_commands import FromCommands
from watcher.feed.history import History
from watcher.feed.lines import NetworkLine, Rejections, RootLine
from watcher.feed.names import EVENTS, TOLD
from watcher.feed.process import BrokerProcess
from watcher.feed.records import Records
from watcher.feed.sockets import NamedSocket, open_to_all
from watcher.model.errors import WatcherError, message_with_remedy

if TYPE_CHECKING:
    import asyncio

    from watcher.config.settings import Config, Events
    from watcher.feed.feed import Feed
    from watcher.feed.lines import Event, Line
    from watcher.gate.gatekeeper import Gatekeeper
    from watcher.gate.rootkeeper import RootKeeper
    from watcher.log.logger import Log
    from watcher.model.network import Network
    from watcher.reconcile.reconciler import Reconciler
    from watcher.store.leases import LeaseStore


class Feeding:
    """Serves the events socket, and hears what commands have done.

    Nothing of it is needed for a container's network: what fails is logged, and tried again.

    Args:
        config: where the files are, and how much history is kept.
        feed: gets the facts.
        store: the lease store.
        log: the log.
    """

    def __init__(self, config: Config, feed: Feed, store: LeaseStore, log: Log) -> None:
        self._run_dir = config.run_dir
        self._feed = feed
        self._store = store
        self._log = log
        self._history = History(config.state_dir, config.events, log)
        self._events: NamedSocket | None = None
        self._told: NamedSocket | None = None
        self._problem = ""

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        reconciler: Reconciler,
        gate: Gatekeeper,
        roots: RootKeeper,
        contact: Callable[[], Contact | None],
        *,
        changed: Callable[[], object],
    ) -> None:
        """Serve from now on, in the thread of `loop`.

        Args:
            loop: the event loop.
            reconciler: knows of networks and failures.
            gate: has work that comes first.
            roots: knows of the roots.
            contact: tells how the service stands with its cluster; `None`: it has none.
            changed: called when a command has told what it has changed.
        """
        self._broker = BrokerProcess(loop, self._feed, self._log)
        self._feed.serve(
            loop, Records(self._store, reconciler.failures), self._history,
            lambda: _now(reconciler, roots, self._store, contact()),
            lost=self._broker.lost, hangs=self._broker.hangs, first=gate.answer_first,
        )  # fmt: skip

        def heard(event: Event) -> None:
            self._feed.note_told(event)
            changed()

        self._hearing = FromCommands(loop, heard, self._log)
        self.check()

    def check(self) -> None:
        """Make the sockets anew if their names are gone, and look for changes that nobody told.

        A command that is killed may have changed the lease store, and have told nothing. If readers
        wait though there is a broker, it is seen whether that hangs.
        """
        self._feed.look_for_others()
        if self._broker.is_awaited():
            self._feed.prod()
        try:
            self._check()
        except OSError as error:
            problem = message_with_remedy(error)
            if problem != self._problem:
                self._log.error("what happens cannot be told", reason=problem)
            self._problem = problem
        else:
            self._problem = ""

    def configure(self, settings: Events) -> None:
        """Keep as much history as `settings` say from now on."""
        self._history.configure(settings)

    def stop(self) -> None:
        """End the broker, and write what is left to the history. The sockets keep their names."""
        self._hearing.stop()
        self._broker.stop()
        self._feed.close()
        self._history.close()
        for one in (self._events, self._told):
            if one is not None:
                one.close()

    def _check(self) -> None:
        if self._told is None or self._told.lost():
            before = self._told
            self._told = self._made(TOLD, socket.SOCK_DGRAM)
            self._hearing.listen(self._told.socket)
            if before is not None:
                before.close()
        if self._events is None or self._events.lost():
            before = self._events
            self._events = self._made(EVENTS, socket.SOCK_STREAM, group=True)
            self._broker.listen(self._events.socket)
            if before is not None:
                before.close()

    def _made(self, name: str, kind: int, *, group: bool = False) -> NamedSocket:
        open_to_all(self._run_dir)
        return NamedSocket(self._run_dir, name, kind, group=group, log=self._log)


def _now(
    reconciler: Reconciler, roots: RootKeeper, store: LeaseStore, contact: Contact | None
) -> Iterator[Line]:
    """What changes without an event."""
    refused = reconciler.present.refusals()
    problems = {} if contact is None else contact.problems
    holdings = Holdings(store)
    for network in reconciler.present.networks():
        refuses = refused.get(network.name) or problems.get(network.name, "")
        yield _network_line(network, refuses, holdings)
    if contact is not None:
        with suppress(WatcherError):  # the store cannot be read
            yield cluster_line(contact, store)
    for path, reason in roots.reasons().items():
        yield RootLine(path, not reason, reason)
    yield from rejections(reconciler.present.rejected())


def rejections(rejected: Mapping[str, Mapping[str, int]]) -> Iterator[Rejections]:
    """The lines of what was rejected, given by direction and address."""
    for address in sorted({one for counts in rejected.values() for one in counts}):
        yield Rejections(address, **{d: counts.get(address, 0) for d, counts in rejected.items()})


def _network_line(network: Network, refuses: str, holdings: Holdings) -> NetworkLine:
    return NetworkLine(
        network.name, network.mode, network.bridge, holdings.parts(network), refuses,
        names=network.named, internal=network.internal, guard=network.guard,
        egress=network.egress, cluster=network.cluster,
    )  # fmt: skip
