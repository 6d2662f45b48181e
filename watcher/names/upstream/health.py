"""Which servers answer nothing at present. They are asked last, and the log tells of each once."""

from __future__ import annotations

from collections import OrderedDict
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from watcher.names.upstream.exchange import Exchange

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle

    from watcher.log.logger import Log
    from watcher.names.counts import Counts
    from watcher.names.upstream.messages import Answer
    from watcher.names.upstream.servers import Choice, Server

_ROOT: Final = b"\0\0\2\0\1"
_PROBE: Final = b"\1\0\0\1\0\0\0\0\0\0" + _ROOT
"""The question for the root's name servers, which any resolver knows. Without its id."""
_PAUSE: Final = 5.0
"""Seconds between two probes of a server that fails, while there are questions for it."""
_QUIET: Final = 60.0
"""Seconds for which the log says nothing more of a server that fails and answers in turn: whoever
runs a container may have it do so as often as they like."""
_SERVERS_AT_MOST: Final = 1024
"""Containers may name servers; those of whom nobody has heard for longest are forgotten."""


class _Failing(Struct):
    """A server that answers nothing: when to probe it again, and whether the log knows of it."""

    probe: float
    told: bool


class Health:
    """What is known of servers.

    That a question is not answered says nothing of the server: the name may be one whose own
    servers are away, and whoever runs a container can ask for such. So the server is asked for
    something that it can say by itself. Only who does not answer that is failing.

    Args:
        patience: seconds in which a server that is there has answered.
    """

    def __init__(self, loop: AbstractEventLoop, counts: Counts, log: Log, patience: float) -> None:
        self._loop = loop
        self._counts = counts
        self._log = log
        self._patience = patience
        self._failing: OrderedDict[str, _Failing] = OrderedDict()
        self._told: OrderedDict[str, float] = OrderedDict()
        self._probes: dict[str, tuple[Exchange, TimerHandle]] = {}
        self._turn = count()

    def order(self, choice: Choice) -> list[Server]:
        """The servers in the order in which to ask them; those behind as well if that is due."""
        servers = choice.servers
        if choice.rotate:
            first = next(self._turn) % len(servers)
            servers = servers[first:] + servers[:first]
        if not self._failing:
            return list(servers)
        well = [server for server in servers if server.name not in self._failing]
        failing = [server for server in servers if server.name in self._failing]
        for server in failing:
            state = self._failing[server.name]
            if self._loop.time() >= state.probe:
                state.probe = self._loop.time() + _PAUSE
                self.suspect(server)
        if not well:
            well = [server for server in choice.behind if server.name not in self._failing]
        return well + failing

    def answered(self, server: Server) -> None:
        """It has answered something."""
        state = self._failing.pop(server.name, None) if self._failing else None
        if state is not None and state.told:
            self._log.info("name server answers again", server=server.name)

    def unreachable(self, server: Server) -> None:
        """The kernel says that it cannot be reached."""
        self._fails(server, "cannot be reached, or refuses questions")

    def suspect(self, server: Server) -> None:
        """It has not answered a question in time."""
        if server.name in self._probes or len(self._probes) >= _SERVERS_AT_MOST:
            return
        try:
            probe = Exchange(self._loop, self._counts, server, _PROBE, _ROOT, self._probed)
        except OSError:
            self.unreachable(server)
            return
        timer = self._loop.call_later(self._patience, self._probed, probe, None)
        self._probes[server.name] = probe, timer

    def close(self) -> None:
        """End all probes."""
        for probe, timer in self._probes.values():
            timer.cancel()
            probe.close()
        self._probes.clear()

    def _probed(self, probe: Exchange, answer: Answer | None) -> None:
        _, timer = self._probes.pop(probe.server.name)
        timer.cancel()
        probe.close()
        if answer is None:
            self._fails(probe.server, "does not answer")
        else:
            self.answered(probe.server)

    def _fails(self, server: Server, reason: str) -> None:
        if server.name in self._failing:
            return
        now = self._loop.time()
        told = now >= self._told.get(server.name, now)
        if told:
            self._log.warning("name server fails", server=server.name, reason=reason)
            self._told[server.name] = now + _QUIET
            _bound(self._told)
        self._failing[server.name] = _Failing(probe=now + _PAUSE, told=told)
        _bound(self._failing)


def _bound(servers: OrderedDict[str, Any]) -> None:
    """Forget the first of too many servers."""
    if len(servers) > _SERVERS_AT_MOST:
        servers.popitem(last=False)
