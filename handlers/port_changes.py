"""Changes of published UDP ports, and the flows that would keep to what was before.

A client that goes on sending has a flow, which the kernel keeps as its first packet made it.
"""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterable, Sequence

from msgspec import Struct

from handlers.kernel import flows
from handlers.kernel.netlink import Netlink
from handlers.translations import is_local, local_addresses
from watcher.model.request import PortMap


class PortChange(Struct, frozen=True):
    """UDP ports of the host that now lead to a sandbox, or no longer do.

    Attributes:
        ports: the ports.
        targets: the sandbox's address by IP version, where it has one.
        published: if true, flows of the ports that lead elsewhere end; else those to it.
    """

    ports: PortMap
    targets: tuple[tuple[int, bytes], ...]
    published: bool


class PortChanges:
    """The changes of a batch, by host port."""

    def __init__(self, changes: Iterable[PortChange], route: Netlink) -> None:
        self._by_port: defaultdict[int, tuple[PortChange, ...]] = defaultdict(tuple)
        for change in changes:
            for port in range(change.ports.host_port, change.ports.last + 1):
                self._by_port[port] += (change,)
        self._local = local_addresses(route)

    def concerns(self, body: memoryview, ends: Sequence[bytes]) -> bool:
        """Whether a flow to a changed port has to end."""
        _, asked, answers, _ = ends
        if asked == answers and not is_local(asked, self._local):
            return False  # neither to a port of the host nor from one
        details = flows.details(body)
        if details.protocol != socket.IPPROTO_UDP:
            return False
        changes = self._by_port.get(details.port, ())
        version = flows.version_of(body)
        return any(self._is_stuck(change, version, asked, answers) for change in changes)

    def _is_stuck(self, change: PortChange, version: int, asked: bytes, answers: bytes) -> bool:
        """Whether a flow to a changed port leads where the port led before."""
        to = dict(change.targets).get(version)
        if to is None:
            return False
        if change.published:
            return answers != to and self._takes(change, asked)
        return answers == to and asked != answers

    def _takes(self, change: PortChange, packed: bytes) -> bool:
        """Whether the port map covers packets to an address."""
        host_ip = change.ports.host_ip
        if host_ip is not None and not host_ip.is_unspecified:
            return host_ip.packed == packed
        if host_ip is not None and len(host_ip.packed) != len(packed):
            return False
        return is_local(packed, self._local)
