"""The endpoints of this host, which the lines of the events socket make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.cluster.endpoints.record import bounded, encoded, valid_id
from watcher.feed.lines import Event, NetworkLine, SandboxLine

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.feed.lines import AnyLine
    from watcher.log.logger import Log
    from watcher.observe.naming import Naming

MOST: Final = 16384
"""The most endpoints of a host."""

_SANDBOX: Final = "sandbox/"
"""How the key of a sandbox's line begins; a number follows that it keeps over restarts."""


class Sandboxes:
    """The endpoints of one state, and of the events since.

    Args:
        naming: what containers are called.
        changed: called with the id of an endpoint that is new, has changed or is gone.
        log: told if there are too many.

    Attributes:
        networks: the networks that it was told, by name.
        endpoints: what other hosts may know of each sandbox, encoded, by its id.
        sandboxes: how many there are; not each is an endpoint.
    """

    def __init__(
        self, naming: Naming, changed: Callable[[Sandboxes, str], object], log: Log
    ) -> None:
        self._naming = naming
        self._log = log
        self._full = False
        self._changed = changed
        self._keys: set[str] = set()
        self.networks: dict[str, NetworkLine] = {}
        self.endpoints: dict[str, bytes] = {}

    @property
    def sandboxes(self) -> int:
        """See the class."""
        return len(self._keys)

    def take(self, line: AnyLine) -> bool:
        """Take a line; whether a sandbox may be new."""
        match line:
            case SandboxLine():
                self._keys.add(line.key)
                self._have(line.key, self._endpoint(line))
                return True
            case NetworkLine(name=name):
                self.networks[name] = line
            case Event():
                for key in line.unset:  # of a sandbox or a failure
                    self._keys.discard(key)
                    self._have(key, None)
                told = [self.take(part) for part in line.set]
                return any(told)
            case _:
                pass
        return False

    def empty(self, most: int) -> bool:  # noqa: ARG002 (it takes no time)
        """Forget sandboxes; whether there are more."""
        return False

    def _endpoint(self, line: SandboxLine) -> bytes | None:
        """What other hosts may know of it; `None` if nothing."""
        addresses: dict[str, list[str]] = {}
        for interface in line.interfaces:
            network = self.networks.get(interface.network)
            if network is not None and network.cluster and network.names and interface.addresses:
                addresses.setdefault(network.name, []).extend(interface.addresses)
        if not addresses:
            return None
        names = [[one.decode() for one in self._naming.names_of(c)] for c in line.containers]
        endpoint = bounded(names, addresses)
        return encoded(endpoint) if endpoint.names else None

    def _have(self, key: str, endpoint: bytes | None) -> None:
        id_ = key.removeprefix(_SANDBOX)
        if not key.startswith(_SANDBOX) or not valid_id(id_):
            return
        if endpoint == self.endpoints.get(id_):
            return
        if endpoint is not None and id_ not in self.endpoints and len(self.endpoints) >= MOST:
            if not self._full:
                self._full = True
                self._log.warning("other hosts do not hear of all containers here", most=MOST)
            return
        if endpoint is None:
            del self.endpoints[id_]
        else:
            self.endpoints[id_] = endpoint
        self._changed(self, id_)
