"""One connection to `hosts.sock`. Between slices of its lines, questions are answered.

The lines of a state are taken into what was known before. What the state does not have is dropped
once it is complete.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from watcher.cluster.endpoints.lines import (
    VERSION,
    AnyLine,
    EndpointLine,
    Gone,
    HostLine,
    Ready,
    State,
    StatusLine,
)
from watcher.observe.live.slices import SlicedReader

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from watcher.cluster.endpoints.reading import HostsStream
    from watcher.names.zone.remote import Remote

_DROPPED: Final = 8
"""Endpoints that are dropped between two looks at the clock."""


class Owner(Protocol):
    """Whose connection it is."""

    def complete(self) -> None:
        """A state is complete."""

    def unknown(self) -> None:
        """There is no state yet, and nobody knows when there will be."""

    def ended(self, *, foreign: bool) -> None:
        """The connection has ended; `foreign`: because it tells what is not understood."""


class HostsReader(SlicedReader[AnyLine]):
    """See the module's docstring.

    Args:
        stream: the connection; reading it may not wait.
        remote: takes what it tells.
        owner: hears how it goes.
        after: called after each slice.
    """

    def __init__(
        self,
        stream: HostsStream,
        remote: Remote,
        loop: asyncio.AbstractEventLoop,
        owner: Owner,
        after: Callable[[], object],
    ) -> None:
        super().__init__(stream, loop, after)
        self._remote = remote
        self._owner = owner

    def _ended(self, *, foreign: bool) -> None:
        self._owner.ended(foreign=foreign)

    def _take(self, line: AnyLine) -> None:
        match line:
            case State(version=version):
                if version != VERSION:
                    self._end(foreign=True)
                else:
                    self._remote.begin()
            case Ready(known=False):  # what the process before has told is all that there is
                self._owner.unknown()
            case Ready():
                if self._remote.drop_some(_DROPPED):
                    self._lines.appendleft(line)  # once more
                else:
                    self._owner.complete()
            case HostLine():
                with suppress(ValueError):  # a prefix that is none
                    self._remote.host(line)
            case EndpointLine():
                with suppress(OSError):  # an address that is none
                    self._remote.endpoint(line)
            case Gone(host=host, id=""):
                self._remote.host_gone(host)
            case Gone(host=host, id=id_):
                self._remote.endpoint_gone(host, id_)
            case StatusLine():
                """Nothing follows from it: what etcd had last stays."""
