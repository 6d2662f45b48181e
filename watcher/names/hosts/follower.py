"""Follows `hosts.sock`, so that the name service knows who is called what on other hosts.

While `watcher cluster` is away, what it told last stays.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from watcher.cluster.endpoints.lines import SOCKET
from watcher.cluster.endpoints.reading import HostsStream
from watcher.model.errors import WatcherError, message_with_remedy
from watcher.model.pauses import longer
from watcher.names.hosts.reader import HostsReader
from watcher.names.zone.remote import Remote
from watcher.observe.live.slices import PART
from watcher.observe.live.socket_watch import SocketWatch
from watcher.observe.name_service import OfHosts

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from watcher.log.logger import Log

_PAUSES: Final = 0.01, 1.0
"""Seconds until the next try to connect: first, most."""


class HostsFollower:
    """See the module's docstring.

    Args:
        run_dir: where the socket is.
        loop: in whose thread all of this happens.
        log: the log.
        settled: called once all is known that can be known soon.
        after: called after each slice.

    Attributes:
        remote: what is known.
        is_settled: whether `settled` was called since something is wanted.
        connected: since when changes come; `None` if they do not.
    """

    def __init__(
        self,
        run_dir: str,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        *,
        settled: Callable[[], object],
        after: Callable[[], object],
    ) -> None:
        self._run_dir = run_dir
        self._loop = loop
        self._log = log
        self._settled, self._after = settled, after
        self.is_settled = False
        self.remote = Remote()
        self.connected: datetime | None = None
        self._wanted = False
        self._reader: HostsReader | None = None
        self._pause = 0.0
        self._problem = ""
        path = PurePath(run_dir, SOCKET)
        self._watch = SocketWatch(str(path.parent), path.name, loop, self._connect)
        self._connecting: asyncio.TimerHandle | None = None

    def want(self, *, wanted: bool) -> None:
        """Follow it from now on, or no more: there are clustered networks, or not."""
        if wanted == self._wanted:
            return
        self._wanted = wanted
        if wanted:
            self._connect()
        else:
            self.stop()
            self.connected = None
            self.is_settled = False
            self.remote.clear()

    @property
    def is_wanted(self) -> bool:
        """Whether there are clustered networks."""
        return self._wanted

    def totals(self) -> OfHosts | None:
        """What is known; `None` if nothing is wanted."""
        if not self._wanted:
            return None
        return OfHosts(self.connected, self.remote.hosts, self.remote.endpoints)

    def stop(self) -> None:
        """Follow it no more."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self._watch.end()
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _connect(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._reader is not None:
            return
        try:
            stream = HostsStream(self._run_dir, endpoints=True, timeout=0, part=PART)
        except (WatcherError, OSError) as error:
            self._tell(message_with_remedy(error))
            self._connect_later()
            self.unknown()
        else:
            self._watch.end()
            self._reader = HostsReader(stream, self.remote, self._loop, self, self._after)

    # What a connection tells:

    def complete(self) -> None:
        """A state is complete."""
        self._pause = 0.0
        self._problem = ""
        if self.connected is None:
            self.connected = datetime.now(UTC)
            self._log.info(
                "the other hosts' names are known", hosts=self.remote.hosts,
                endpoints=self.remote.endpoints,
            )  # fmt: skip

        self.unknown()

    def unknown(self) -> None:
        """There is no more to be known soon."""
        if not self.is_settled:
            self.is_settled = True
            self._settled()

    def ended(self, *, foreign: bool) -> None:
        """The connection has ended."""
        self._reader = None
        if self.connected is not None:
            self.connected = None
            self._log.info("`watcher cluster` is away, what it told last stays in use")
        if foreign:
            self._tell("`watcher cluster` is of another version; restart it")
        self._connect_later()
        self.unknown()

    def _connect_later(self) -> None:
        self._watch.begin()
        self._pause = longer(self._pause, _PAUSES)
        self._connecting = self._loop.call_later(self._pause, self._connect)

    def _tell(self, problem: str) -> None:
        """Log why there is nothing to hear, once."""
        if problem != self._problem:
            self._problem = problem
            self._log.warning("the other hosts' names are not known", reason=problem)
