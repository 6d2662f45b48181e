"""A network as the name service knows it, and who is in it."""

from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watcher.feed.lines import ContainerPart, NetworkLine
    from watcher.names.zone.remote_network import RemoteNetwork
    from watcher.names.zone.reverse import Span
    from watcher.names.zone.views import Asker, View


class Presence(Struct, frozen=True, eq=False, gc=False):
    """What a sandbox has in one network: its addresses, packed and as text."""

    v4: tuple[bytes, ...]
    v6: tuple[bytes, ...]
    texts: tuple[str, ...]
    containers: tuple[ContainerPart, ...]


class Named(Protocol):
    """Who is called so in one network, on this host or on others."""

    def records(self, version: int, before: bytes) -> bytes:
        """All addresses of IP `version` 4 or 6, each with the rest of its record `before` it."""


class Called:
    """Who is called so in one network, on this host.

    Their records are put together once, as they are asked for: whoever asks for a name of thousands
    in ever other ways, of which no answer is kept, would have it done each time.

    Attributes:
        presences: theirs, by the key of the sandbox.
    """

    __slots__ = ("_v4", "_v6", "presences")

    def __init__(self) -> None:
        self.presences: dict[str, Presence] = {}
        self._v4: bytes | None = None
        self._v6: bytes | None = None

    def add(self, key: str, presence: Presence) -> None:
        """The sandbox with that key is called so as well."""
        self.presences[key] = presence
        self._v4 = self._v6 = None

    def remove(self, key: str) -> None:
        """It is not any more."""
        del self.presences[key]
        self._v4 = self._v6 = None

    def records(self, version: int, before: bytes) -> bytes:
        """See :class:`Named`."""
        if version == 4:
            if self._v4 is None:
                self._v4 = joined(before, [a for one in self.presences.values() for a in one.v4])
            return self._v4
        if self._v6 is None:
            self._v6 = joined(before, [a for one in self.presences.values() for a in one.v6])
        return self._v6


class Segment:
    """A network, and who is in it.

    Attributes:
        line: what was told of it.
        label: its name in lower case.
        internal, guarded: as in its configuration.
        v4, v6: its gateways, packed.
        gateways: its gateways, as text.
        spans: its subnets.
        called: who is called so, by the name.
        leases: who has that address.
        remote: who is in it on other hosts; `None` if the network is this host's alone.
        askers: who asks from that address; in one without guard, only the host is known by it.
        anybody: who asks from any other address of one without guard.
        views: the views that it is in.
    """

    __slots__ = (
        "anybody", "askers", "called", "gateways", "guarded", "internal", "label", "leases",
        "line", "remote", "spans", "v4", "v6", "views",
    )  # fmt: skip

    def __init__(self, line: NetworkLine, remote: RemoteNetwork | None) -> None:
        self.line = line
        self.remote = remote
        self.label = line.name.lower().encode()
        self.internal = line.internal
        self.guarded = line.guard
        gateways = [ip_address(subnet.gateway) for subnet in line.subnets if subnet.gateway]
        self.v4 = tuple(gateway.packed for gateway in gateways if gateway.version == 4)
        self.v6 = tuple(gateway.packed for gateway in gateways if gateway.version == 6)
        self.gateways = tuple(text_of(gateway.packed) for gateway in gateways)
        self.spans = tuple(_span(subnet.subnet) for subnet in line.subnets)
        self.called: dict[bytes, Called] = {}
        self.leases: dict[str, Presence] = {}
        self.askers: dict[str, Asker] = {}
        self.anybody: Asker | None = None
        self.views: set[View] = set()

    def has(self, source: str) -> bool:
        """Whether the address `source` is in one of its subnets."""
        version = 6 if ":" in source else 4
        try:
            number = int.from_bytes(packed_of(source))
        except OSError:  # such as one with a zone, which is in no subnet
            return False
        return any(v == version and first <= number <= last for v, first, last in self.spans)


def joined(before: bytes, addresses: Sequence[bytes]) -> bytes:
    """The packed addresses, each with `before` it."""
    return before + before.join(addresses) if addresses else b""


def packed_of(address: str) -> bytes:
    """The bytes of `address`.

    Raises:
        OSError: it is no address.
    """
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def text_of(packed: bytes) -> str:
    """An address as the kernel's sockets tell it."""
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _span(subnet: str) -> Span:
    network = ip_network(subnet)
    return network.version, int(network.network_address), int(network.broadcast_address)
