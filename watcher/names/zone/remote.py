"""What other hosts tell of their sandboxes in clustered networks, and of themselves.

There is one of it, whatever becomes of the directory: so what is told again costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.names.zone.remote_network import RemoteHost, RemoteNetwork, RemotePresence
from watcher.names.zone.segments import packed_of, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from watcher.cluster.endpoints.lines import EndpointLine, HostLine
    from watcher.names.zone.views import Use

type Key = tuple[str, str]
"""An endpoint: its host, and its id there."""


class Remote:
    """See the module's docstring.

    Attributes:
        changed: called with the name of a network, and what is different there; `None` if that is
            all of it.
    """

    def __init__(self) -> None:
        self.changed: Callable[[str, Iterable[Use] | None], object] = _nobody
        self._hosts: dict[str, RemoteHost] = {}
        self._networks: dict[str, RemoteNetwork] = {}
        self._endpoints: dict[Key, tuple[RemotePresence, ...]] = {}
        self._old_hosts: dict[str, RemoteHost] = {}
        self._old: dict[Key, tuple[RemotePresence, ...]] = {}
        """What was told before the state that is being told, and not again yet."""

    @property
    def hosts(self) -> int:
        """How many other hosts there are that are heard of."""
        return sum(host.alive for host in self._hosts.values())

    @property
    def endpoints(self) -> int:
        """How many endpoints are known, whether or not they count."""
        return len(self._endpoints) + len(self._old)

    def begin(self) -> None:
        """All is told from now on; what was known counts until it is dropped."""
        self._old_hosts = dict(self._hosts)
        self._endpoints, self._old = self._old, self._endpoints
        self._old.update(self._endpoints)  # of a state that did not end
        self._endpoints.clear()

    def drop_some(self, most: int) -> bool:
        """All was told: drop `most` of what was not among it; whether there is more."""
        for name in self._old_hosts:
            self.host_gone(name)
        self._old_hosts.clear()
        for _ in range(min(most, len(self._old))):
            self._drop(self._old.popitem()[1])
        return bool(self._old)

    def network(self, name: str) -> RemoteNetwork:
        """The clustered network of that name."""
        network = self._networks.get(name)
        if network is None:
            network = self._networks[name] = RemoteNetwork(name, self._hosts)
        return network

    def host(self, line: HostLine) -> None:
        """There is a host, this one included."""
        self._old_hosts.pop(line.name, None)
        host = self._hosts.get(line.name)
        if host is None:
            host = self._hosts[line.name] = RemoteHost(line.name)
        alive = line.state == "alive"
        blocks = {name: frozenset(prefixes) for name, prefixes in line.blocks.items()}
        other = alive != host.alive
        host.alive = alive
        before, host.blocks = host.blocks, blocks
        for name in sorted(before.keys() | blocks.keys()):
            had = before.get(name, _NONE)
            all_ = other and bool(had)  # of what it did not have, nothing was known
            self._own(name, line.name, had, blocks.get(name, _NONE), all_=all_)

    def host_gone(self, name: str) -> None:
        """There is no such host any more."""
        host = self._hosts.pop(name, None)
        if host is not None:
            for network, prefixes in host.blocks.items():
                self._own(network, name, prefixes, _NONE, all_=True)

    def _own(
        self, name: str, host: str, before: frozenset[str], now: frozenset[str], *, all_: bool
    ) -> None:
        """In a network, a host had some prefixes and has others now; `all_`: all is different."""
        network = self.network(name)
        uses: list[Use] | None = None if all_ else []
        for prefix in before ^ now:
            network.own(prefix, host, own=prefix in now)
            part = network.affected(prefix)
            uses = None if part is None or uses is None else [*uses, *part]
        if uses is None:
            network.state += 1
        if uses is None or uses:
            self.changed(name, uses)

    def endpoint(self, line: EndpointLine) -> None:
        """A host tells of a sandbox: a new one, or in place of that with its id."""
        key = line.host, line.id
        groups = [[name.encode() for name in group] for group in line.names if group]
        names = tuple(dict.fromkeys(name for group in groups for name in group))
        firsts = tuple(dict.fromkeys(group[0] for group in groups))
        presences = [
            (network, tuple(dict.fromkeys(map(packed_of, addresses))), names, firsts)
            for network, addresses in line.addresses.items()
        ]
        before = self._take(key)
        if presences == [(p.network.name, p.addresses, p.names, p.firsts) for p in before]:
            self._endpoints[key] = before
            return
        self._drop(before)
        self._endpoints[key] = tuple(
            RemotePresence(self.network(network), line.host, *rest) for network, *rest in presences
        )
        for presence in self._endpoints[key]:
            presence.network.enter(presence)
            self._tell(presence)

    def endpoint_gone(self, host: str, id_: str) -> None:
        """A host tells of a sandbox no more."""
        self._drop(self._take((host, id_)))

    def _take(self, key: Key) -> tuple[RemotePresence, ...]:
        return self._endpoints.pop(key, None) or self._old.pop(key, ())

    def _drop(self, presences: tuple[RemotePresence, ...]) -> None:
        for presence in presences:
            presence.network.leave(presence)
            self._tell(presence)

    def clear(self) -> None:
        """Nobody is known any more."""
        for table in (self._hosts, self._old_hosts, self._endpoints, self._old):
            table.clear()
        for network in self._networks.values():
            network.clear()
            self.changed(network.name, None)

    def _tell(self, presence: RemotePresence) -> None:
        uses: list[Use] = [*presence.names, *map(text_of, presence.addresses)]
        self.changed(presence.network.name, uses)


def _nobody(network: str, uses: Iterable[Use] | None) -> None:
    """Nobody wants to know."""


_NONE: Final[frozenset[str]] = frozenset()
