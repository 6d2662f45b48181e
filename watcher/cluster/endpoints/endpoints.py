"""All that `watcher cluster` does with endpoints and with who reads `hosts.sock`."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

from watcher.cluster.endpoints.hosts import host_lines
from watcher.cluster.endpoints.lines import EndpointLine, StatusLine
from watcher.cluster.endpoints.publisher import Publisher
from watcher.cluster.endpoints.record import BadRecord, Endpoint, decoded, encoded
from watcher.cluster.endpoints.sandboxes import MOST, Sandboxes
from watcher.cluster.endpoints.server import HostsServer
from watcher.clustering.identity import host_name
from watcher.config.clusters import HOST
from watcher.model.errors import WatcherError, message_with_remedy, shortened
from watcher.observe.live.follower import Follower
from watcher.observe.naming import Naming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from watcher.cluster.endpoints.lines import HostLine
    from watcher.cluster.endpoints.publisher import Registry
    from watcher.cluster.protocol import StatusRow
    from watcher.cluster.registry.picture import Picture
    from watcher.config.load import Source
    from watcher.config.settings import Config
    from watcher.log.logger import Log

MOST_IN_ALL: Final = 1 << 17
"""The most endpoints of all hosts."""

MOST_BYTES: Final = 64 << 20
"""The most bytes of all their lines."""

_REMEDY: Final = "find out who wrote it; `etcdctl del` removes it"
_LONGEST_PROBLEM: Final = 512
_MOST_BLAMED: Final = 64


class Endpoints:
    """See the module's docstring. The registry's side tells it what etcd has.

    After :meth:`begin` all endpoints are told, up to :meth:`end`, and then each that changes;
    :meth:`told_all` after what came together. What is as it was may be told again.

    Args:
        config: the configuration.
        again: reads it again.
        registry: where the endpoints of this host are written.
        loop: in whose thread all of this happens.
        log: the log.
    """

    def __init__(
        self,
        config: Config,
        again: Callable[[], Source],
        registry: Registry,
        loop: asyncio.AbstractEventLoop,
        log: Log,
    ) -> None:
        self._roots = config.roots
        self._again = again
        self._host = host_name(config.cluster)
        """This host's name, until the service tells another one."""
        self._lines_of: tuple[object, int, str] | None = None
        self._loop = loop
        self._log = log
        self._publisher = Publisher(registry, log)
        self._server = HostsServer(config.run_dir, loop, log)
        self._follower: Follower[Sandboxes] = Follower(
            config.run_dir, self._sandboxes, loop, log, replaced=self._replaced,
            learned=_nothing, reloaded=self._reload, after=_nothing,
        )  # fmt: skip
        self._counts: Counter[str] = Counter()
        """How many endpoints of each host count."""
        self._seen: set[tuple[str, str]] | None = None
        """The endpoints that were told of since :meth:`begin`, by host and id."""
        self._blamed: set[str] = set()
        self._reloading: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Follow the service, and publish, until this is cancelled.

        What was published stays: the containers run on.
        """
        self._follower.start()
        try:
            await self._publisher.run()
        finally:
            self.stop()

    def stop(self) -> None:
        """Follow the service no more, and serve nobody."""
        self._follower.stop()
        self._server.close()
        if self._reloading is not None:
            self._reloading.cancel()

    # The registry's side tells:

    def begin(self) -> None:
        """All endpoints follow; what was known stays in use until :meth:`end`."""
        self._seen = set()
        self._publisher.begin()
        self._blamed.clear()

    def end(self, revision: int) -> None:
        """All that there were at `revision` were told."""
        if self._seen is not None:
            known = {*self._server.endpoints.every_key()}
            known.update((self._host, id_) for id_ in self._publisher.there)
            for host, id_ in known.difference(self._seen):
                self.gone(host, id_, revision)
            self._seen = None
        self.told_all(revision)

    def told_all(self, revision: int) -> None:
        """All that has happened up to `revision` was told."""
        self._publisher.told_all(revision)

    def put(self, host: str, id_: str, value: bytes, revision: int) -> None:
        """There is an endpoint, as it has been since `revision`.

        What is no endpoint, or has no room, is logged once for each host, and does not count.
        """
        key = host, id_
        if self._seen is not None:
            self._seen.add(key)
        if host == self._host:
            self._publisher.told(id_, value, revision)
            return
        line = self._line(host, id_, value)
        if line is None or not self._has_room(key, len(value)):
            self._remove(key)
        else:
            self._counts[host] += key not in self._server.endpoints
            self._server.endpoint(line)

    def gone(self, host: str, id_: str, revision: int) -> None:
        """An endpoint is not there any more, since `revision`."""
        if host == self._host:
            self._publisher.told(id_, None, revision)
        else:
            self._remove((host, id_))

    def seen(
        self, picture: Picture | None, name: str, status: StatusRow, *, takes_part: bool
    ) -> None:
        """All else in etcd is like that now, and so does this host, `name`, stand with it.

        Args:
            takes_part: this host may write endpoints.
        """
        if name and name != self._host:
            self._rename(name)
        lines_of = None if picture is None else (picture, picture.revision, self._host)
        if picture is not None and lines_of != self._lines_of:
            self._lines_of = lines_of
            self.hosts(host_lines(picture, self._host))
        self.status(connected=status.connected, problem=status.problem, publish=takes_part)

    def hosts(self, lines: Iterable[HostLine]) -> None:
        """These are all hosts, this one included. All endpoints were told before, once."""
        self._server.set_hosts(lines)
        self._server.know()

    def _rename(self, name: str) -> None:
        """This host is called `name`: what etcd has for that is its own, and the rest is others'.

        Who has told it may not have told all before.
        """
        old, self._host = self._host, name
        others = dict(self._publisher.there)
        self._publisher.forget()
        for id_, value in others.items():
            self.put(old, id_, value, 0)
        for host, id_ in self._server.endpoints.every_key():
            if host == name:
                line = self._server.line(host, id_)
                self._remove((host, id_))
                self._publisher.told(id_, encoded(Endpoint(line.names, line.addresses)), 0)

    def status(self, *, connected: bool, problem: str = "", publish: bool = False) -> None:
        """Tell how this host stands with etcd.

        Args:
            connected, problem: as in :class:`StatusLine`.
            publish: whether the endpoints of this host may be written: it is in the cluster, and
                etcd answers.
        """
        self._server.status(StatusLine(connected, problem[:_LONGEST_PROBLEM]))
        self._publisher.may_write(may=publish)

    def _remove(self, key: tuple[str, str]) -> None:
        host, id_ = key
        if key in self._server.endpoints:
            self._server.endpoint_gone(host, id_)
            self._counts[host] -= 1
            if not self._counts[host]:
                del self._counts[host]

    def _line(self, host: str, id_: str, value: bytes) -> EndpointLine | None:
        if not HOST.fullmatch(host):
            self._blame(host, id_, "no host is called that")
            return None
        try:
            endpoint = decoded(id_, value)
        except BadRecord as error:
            self._blame(host, id_, str(error))
            return None
        return EndpointLine(host, id_, endpoint.names, endpoint.addresses)

    def _has_room(self, key: tuple[str, str], size: int) -> bool:
        rows = self._server.endpoints
        if rows.bytes - len(rows.line(key)) + size > MOST_BYTES:
            self._blame(*key, f"all hosts together have more than {MOST_BYTES >> 20} MiB of them")
        elif key not in rows and self._counts[key[0]] >= MOST:
            self._blame(*key, f"the host has more than {MOST}")
        elif key not in rows and len(rows) >= MOST_IN_ALL:
            self._blame(*key, f"all hosts together have more than {MOST_IN_ALL}")
        else:
            return True
        return False

    def _blame(self, host: str, id_: str, reason: str) -> None:
        if host not in self._blamed and len(self._blamed) < _MOST_BLAMED:
            self._blamed.add(host)
            self._log.warning(
                "an endpoint in etcd does not count", host=shortened(host),
                key=shortened(f"endpoints/{host}/{id_}"), reason=reason[:_LONGEST_PROBLEM],
                remedy=_REMEDY,
            )  # fmt: skip

    # The service tells:

    def _sandboxes(self) -> Sandboxes:
        return Sandboxes(Naming(self._roots), self._changed, self._log)

    def _replaced(self, sandboxes: Sandboxes) -> None:
        self._publisher.replaced(sandboxes.endpoints)

    def _changed(self, sandboxes: Sandboxes, id_: str) -> None:
        if sandboxes is self._follower.known:
            self._publisher.changed(id_)

    def _reload(self) -> None:
        """What containers may be called, and which networks have names, may have changed."""
        if self._reloading is not None:
            self._reloading.cancel()
        self._reloading = self._loop.create_task(self._take_again())

    async def _take_again(self) -> None:
        try:
            source = await asyncio.to_thread(self._again)
        except (WatcherError, OSError) as error:
            self._log.error(
                "configuration refused, the one before stays in force",
                reason=message_with_remedy(error),
            )
        else:
            self._roots = source.config.roots
        self._follower.anew()


def _nothing() -> None:
    """Called where there is nothing to do."""
