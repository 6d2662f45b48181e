"""Listens at the gateways of the networks with names, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.model.pauses import longer
from watcher.names.transport.connections import Connections
from watcher.names.transport.datagrams import Datagrams
from watcher.names.transport.sockets import KINDS, Endpoint, Sockets
from watcher.names.transport.streams import Listener

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from watcher.log.logger import Log
    from watcher.names.answers import Answers
    from watcher.names.counts import Counts

_PAUSES: Final = 0.05, 5.0
"""Seconds until the next try to listen where that failed: first, most."""


class Gateways:
    """See the module's docstring.

    Args:
        answers: answers what is asked there.
        after: called after each turn in which questions were answered.
        log: gets each failure once.
    """

    def __init__(
        self,
        answers: Answers,
        counts: Counts,
        loop: asyncio.AbstractEventLoop,
        after: Callable[[], object],
        log: Log,
    ) -> None:
        self._answers = answers
        self._counts = counts
        self._loop = loop
        self._after = after
        self._sockets = Sockets(log)
        self._connections = Connections(loop, counts)
        self._open: dict[Endpoint, Datagrams | Listener] = {}
        self._wanted: dict[Endpoint, str] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._pause = 0.0

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that are served, sorted."""
        return tuple(sorted(set(self._wanted.values())))

    def has(self, address: str) -> bool:
        """Whether this process listens at `address`."""
        return Endpoint("udp", address) in self._wanted

    def bind(self, addresses: Iterable[str]) -> None:
        """Have the sockets of gateways, where questions wait until they are served."""
        for endpoint in _endpoints(addresses):
            self._sockets.open(endpoint)

    def serve(self, networks: Mapping[str, str]) -> None:
        """Serve these gateways from now on, each for its network, and no others."""
        self._wanted = {
            endpoint: network
            for address, network in networks.items()
            for endpoint in _endpoints((address,))
        }
        self._pause = 0.0
        self._listen()

    def serve_bound(self) -> None:
        """Have who asks be refused, unless it is known by now which networks there are."""
        if not self._wanted:
            for endpoint in self._sockets.kept:
                self._open_one(endpoint, "")

    def pause(self) -> None:
        """Take no more questions; they wait for the next process."""
        for one in self._open.values():
            one.pause()

    def close(self) -> None:
        """Serve no more; the manager keeps the sockets."""
        if self._retry is not None:
            self._retry.cancel()
        for one in self._open.values():
            one.close()

    def _listen(self) -> None:
        """Listen where that is wanted, and nowhere else."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for endpoint in {*self._open, *self._sockets.kept} - self._wanted.keys():
            if endpoint in self._open:
                self._open.pop(endpoint).close()
            self._sockets.close(endpoint)
        missing = False
        for endpoint, network in self._wanted.items():
            if endpoint in self._open:
                self._open[endpoint].network = network
            else:
                missing = not self._open_one(endpoint, network) or missing
        if missing:
            self._pause = longer(self._pause, _PAUSES)
            self._retry = self._loop.call_later(self._pause, self._listen)

    def _open_one(self, endpoint: Endpoint, network: str) -> bool:
        """Listen at `endpoint`; whether that can be."""
        bound = self._sockets.open(endpoint)
        if bound is None:
            return False
        if endpoint.kind == "udp":
            self._open[endpoint] = Datagrams(
                bound, network, self._answers, self._counts, self._loop, self._after
            )
        else:
            self._open[endpoint] = Listener(
                bound, network, self._answers, self._connections, self._loop, self._after
            )
        return True


def _endpoints(addresses: Iterable[str]) -> list[Endpoint]:
    return [Endpoint(kind, address) for address in addresses for kind in KINDS]
