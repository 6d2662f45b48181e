"""The commands that wait for an address outside of this host's blocks.

Each connection is one of them; :mod:`.waiting` is its other end. What it has asked for is wanted
until it ends.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from watcher.cluster.protocol import RefusedRow
from watcher.clustering.claims import not_granted
from watcher.clustering.waiting import LONGEST, SOCKET, Reply, understood
from watcher.feed.credentials import user_of
from watcher.feed.listener import Listener
from watcher.model.cluster import claim_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from watcher.clustering.claims import Claims
    from watcher.clustering.tables import Heard
    from watcher.log.logger import Log
    from watcher.model.address import Address
    from watcher.store.cluster import ClusterStore

MOST: Final = 64
"""The most commands that wait at a time; each keeps one descriptor."""

_OF_EACH: Final = 2
"""The most addresses of a command: one of each family."""


class Waiters:
    """See the module's docstring.

    Args:
        loop: the event loop in whose thread it is used.
        run_dir: where the socket is.
        claims: what is wanted.
        changed: called when something is wanted, or is not wanted any more.
        log: the log.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        run_dir: str,
        claims: Claims,
        changed: Callable[[], object],
        log: Log,
    ) -> None:
        self._loop = loop
        self._claims = claims
        self._changed = changed
        path = Path(run_dir, SOCKET)
        self._listener = Listener(path, socket.SOCK_SEQPACKET, self._accept, loop, log, group=False)
        self._kept: dict[socket.socket, set[tuple[str, Address]]] = {}
        self._open: dict[socket.socket, tuple[str, Address]] = {}
        """What those want that have no reply yet."""

    def check(self) -> None:
        """Make the socket anew if its name is gone.

        Raises:
            OSError: it cannot be made.
        """
        self._listener.check()

    def close(self) -> None:
        """Serve no more; who waits is told so by the end of its connection."""
        self._listener.close()
        for waiter in list(self._kept):
            self._drop(waiter)

    def decided(
        self, store: ClusterStore, heard: Heard, problem: str
    ) -> list[tuple[socket.socket, str]]:
        """Who gets a reply, each with the reason why not, if it may not lease the address.

        `problem` is why no further address is granted at present, if so.
        """
        found = []
        for waiter, (network, address) in self._open.items():
            key = (network, str(claim_of(address)))
            if store.may_lease(network, address):
                found.append((waiter, ""))
            elif problem:
                found.append((waiter, problem))
            elif (row := heard.row(RefusedRow, key)) is not None:
                found.append((waiter, not_granted(row.reason)))
        return found

    def reply(self, decided: list[tuple[socket.socket, str]]) -> None:
        """Reply to them. The caller has no lock, for which they come next."""
        for waiter, refused in decided:
            del self._open[waiter]
            try:
                waiter.send(msgspec.json.encode(Reply(refused)))
            except OSError:  # it has gone
                self._drop(waiter)

    def _accept(self, connection: socket.socket) -> None:
        if len(self._kept) >= MOST or user_of(connection) != os.geteuid():
            connection.close()
            return
        self._kept[connection] = set()
        self._loop.add_reader(connection, self._hear, connection)

    def _hear(self, waiter: socket.socket) -> None:
        """Take what it wants; anything else ends the connection, and so does its end."""
        try:
            packet = waiter.recv(LONGEST)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        wanted, kept = understood(packet), self._kept[waiter]
        if wanted is None or len(kept | {wanted}) > _OF_EACH:
            self._drop(waiter)
            return
        if wanted not in kept:
            kept.add(wanted)
            self._claims.keep(*wanted)
        self._open[waiter] = wanted
        self._changed()

    def _drop(self, waiter: socket.socket) -> None:
        self._loop.remove_reader(waiter)
        waiter.close()
        self._open.pop(waiter, None)
        for wanted in self._kept.pop(waiter):
            self._claims.let_go(*wanted)
            self._changed()
