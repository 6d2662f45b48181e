"""Serves cluster.sock: what `watcher cluster` tells is entered, and it is told what there is.

Nothing of it is needed for a container's network: what fails is logged, and tried again. The
exception is an address outside of this host's blocks, which has to be claimed first.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from watcher.cluster.protocol import NOT_YET, SOCKET, NumberRow, StatusRow
from watcher.clustering.agreement import Agreement
from watcher.clustering.claims import Claims
from watcher.clustering.connection import Connection
from watcher.clustering.identity import host_name, own_address
from watcher.clustering.tables import Heard
from watcher.clustering.waiters import Waiters
from watcher.facts.kinds import Attached, ClusterReached, ClusterUnreachable, Detached
from watcher.feed.clusters import Contact
from watcher.feed.credentials import user_of
from watcher.feed.listener import Listener
from watcher.locks.lock import Busy
from watcher.model.errors import Unclaimed, WatcherError, message_with_remedy

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from watcher.config.settings import Config
    from watcher.facts.kinds import Fact
    from watcher.facts.publisher import Publisher
    from watcher.log.logger import Log
    from watcher.model.network import Network
    from watcher.reconcile.reconciler import Reconciler

_AGAIN: Final = 0.05
"""Seconds until the next try, if another process has the lock."""

_AFTER_FAILURE: Final = 1.0
"""Seconds until the next try, if something failed."""

_REVIEW: Final = 0.1
"""Seconds until a look at the blocks after containers came or went, many of which come together."""

_UNTOLD: Final = "`watcher cluster` does not run, or has not told anything yet"
_AWAY: Final = "is in no block of this host, and `watcher cluster` does not run"
_SILENT: Final = "is in no block of this host, and etcd does not answer"


class Clustering:
    """Serves `watcher cluster`.

    Args:
        loop: the event loop in whose thread it is used.
        config: the configuration.
        reconciler: has the lock, the store and the host.
        facts: where it is published what becomes of the cluster; tells who came and went.
        granted: called when containers that wait for an address can go on.
        failed: called when the kernel refused something; a sync does it.
        log: the log.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        reconciler: Reconciler,
        facts: Publisher,
        granted: Callable[[], object],
        failed: Callable[[], object],
        log: Log,
    ) -> None:
        self._loop = loop
        self._config = config
        self._reconciler = reconciler
        self._facts = facts
        self._granted = granted
        self._failed = failed
        self._log = log
        self._claims = Claims(loop.time)
        self._agreement = Agreement(self._claims, facts.publish)
        self._waiters = Waiters(loop, config.run_dir, self._claims, self._soon, log)
        self._seen = (-1, -1)
        """The version of the lease store when it was looked at last."""
        self._listener = Listener(
            Path(config.run_dir, SOCKET), socket.SOCK_SEQPACKET, self._accept, loop, log,
            group=False,
        )  # fmt: skip
        self._connection: Connection | None = None
        self._heard = Heard()
        """What the connection has told, or the one before if there is none."""
        self._work: asyncio.Handle | None = None
        self._lapsing: asyncio.TimerHandle | None = None
        self._reached: bool | None = None
        self._since = time.time()
        self._changed = 0.0
        self._problem = ""
        if config.cluster.etcd:
            facts.subscribe(self._note)

    def configure(self, config: Config) -> None:
        """Use `config` from now on."""
        self._config = config
        self.look()

    def check(self) -> None:
        """Make the sockets anew if their names are gone, and look for changes that nobody told."""
        if not self._config.cluster.etcd:
            return
        try:
            self._listener.check()
            self._waiters.check()
        except OSError as error:
            self._say(message_with_remedy(error))
        self.look_for_others()

    def look_for_others(self) -> None:
        """Look at the blocks in a while if a command has changed the lease store."""
        if not self._config.cluster.etcd:
            return
        with suppress(WatcherError):  # a sync makes it anew
            if self._reconciler.others_version() != self._seen:
                self._review()

    def close(self) -> None:
        """Serve no more; the sockets keep their names, and what was agreed stays."""
        self._waiters.close()
        for handle in (self._work, self._lapsing):
            if handle is not None:
                handle.cancel()
        self._drop()
        self._listener.close()

    def look(self) -> None:
        """Compare everything with the lease store again, soon."""
        if self._config.cluster.etcd:
            self._agreement.read_anew()
            self._soon()

    def contact(self) -> Contact | None:
        """How the service stands with the cluster; `None` if it has none."""
        settings = self._config.cluster
        if not settings.etcd:
            return None
        status = self._heard.coming(StatusRow) if self._connection is not None else None
        address = own_address(settings)
        return Contact(
            host_name(settings), "" if address is None else str(address), self._since,
            status is not None and status.connected, _UNTOLD if status is None else status.problem,
            self._changed,
            {row.network: row.problem for row in self._heard.of(NumberRow).values() if row.problem},
        )  # fmt: skip

    def claim(self, wanted: Unclaimed) -> None:
        """Have an address claimed; `granted` is called as soon as that is decided.

        Raises:
            Unclaimed: it cannot be claimed, with the reason.
        """
        if why := self._why_not():
            raise Unclaimed(wanted.network, wanted.address, wanted.value, why)
        if self._claims.want(wanted):
            self._soon()

    def _why_not(self) -> str:
        """Why no address can be claimed at present; empty if one can."""
        status = self._heard.coming(StatusRow)
        if self._connection is None:
            return _AWAY
        if status is None or not status.connected:
            return _SILENT
        if status.out:
            return f"is in no block of this host, and {status.problem.partition('; ')[0]}"
        return ""

    def _say(self, problem: str) -> None:
        if problem and problem != self._problem:
            self._log.error("the cluster is not served", reason=problem)
        self._problem = problem

    def _accept(self, connection: socket.socket) -> None:
        """Take a connection of root's; the latest counts, for `watcher cluster` was restarted."""
        if user_of(connection) != os.geteuid():
            connection.close()
            return
        self._drop()
        self._connection = Connection(connection, self._soon, self._ended, self._loop, self._log)
        self._heard = self._connection.heard
        self._agreement.read_anew()  # what is there no more is not told
        self._soon()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ended(self) -> None:
        """`watcher cluster` has gone, or is not understood."""
        self._connection = None
        self._tell_reached(None)
        self._soon()  # who waits for an address is told

    def _note(self, fact: Fact) -> None:
        """Look at the blocks in a while, because containers came or went."""
        if isinstance(fact, Attached):
            for link in fact.sandbox.interfaces:
                for address in link.addresses:
                    self._claims.met(link.network, address.ip)
        if isinstance(fact, Attached | Detached):
            self._review()

    def _review(self) -> None:
        if self._work is None:
            self._work = self._loop.call_later(_REVIEW, self._do)

    def _soon(self) -> None:
        if self._work is not None:
            self._work.cancel()
        self._work = self._loop.call_soon(self._do)

    def _do(self) -> None:
        """Enter what was told, and tell what there is."""
        self._work = None
        go_on = False
        try:
            with self._reconciler.changing() as (context, _):
                store, clustered = context.store.cluster, _clustered(self._config)
                change, go_on = self._agreement.close(store, self._heard, clustered)
                if self._why_not():
                    go_on = self._claims.give_up() or go_on
                left = self._agreement.review(store, clustered)
                rows = self._agreement.rows(store, self._config, self._heard, context.host.networks)
                if left:
                    change = msgspec.structs.replace(
                        change, own=tuple(sorted({*change.own, *left}))
                    )
                if change:
                    self._changed = time.time()
                    context.host.meet(change)
                decided = self._waiters.decided(store, self._heard, self._why_not())
                self._seen = context.store.others_version()
        except Busy:
            self._work = self._loop.call_later(_AGAIN, self._do)
            return
        except (WatcherError, OSError) as error:
            self._say(message_with_remedy(error))
            self._agreement.read_anew()
            self._work = self._loop.call_later(_AFTER_FAILURE, self._do)
            self._failed()
            if go_on:  # the next try finds nothing new for them
                self._granted()
            return
        self._problem = ""
        self._tell_reached(self._heard.coming(StatusRow))
        if self._connection is not None:
            self._connection.tell(rows)
        self._waiters.reply(decided)
        if go_on:
            self._granted()
        if self._lapsing is not None:
            self._lapsing.cancel()
            self._lapsing = None
        if (due := self._claims.due()) is not None:
            self._lapsing = self._loop.call_later(due, self._lapse)

    def _lapse(self) -> None:
        """Look again, because a container has waited long enough, or nobody waits any more."""
        self._lapsing = None
        self._soon()

    def _tell_reached(self, status: StatusRow | None) -> None:
        """Publish whether etcd answers, when that changes."""
        reached = status is not None and status.connected
        if not reached and status is not None and status.problem in ("", NOT_YET):
            return
        if reached == self._reached or (self._reached is None and status is None):
            return
        self._reached, self._since = reached, time.time()
        if reached:
            self._facts.publish(ClusterReached())
        else:
            problem = "`watcher cluster` has ended" if status is None else status.problem
            self._facts.publish(ClusterUnreachable(problem))


def _clustered(config: Config) -> list[Network]:
    return [network for network in config.networks.values() if network.cluster]
