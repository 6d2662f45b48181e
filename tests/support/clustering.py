"""The other end of cluster.sock, told by a test: what the registry would have for a host."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Self

from tests.support.waiting import eventually
from watcher.cluster.protocol import (
    LONGEST,
    SOCKET,
    TOGETHER,
    AskedRow,
    Begin,
    BlockRow,
    End,
    HostRow,
    LentRow,
    NetworkRow,
    NumberRow,
    OwnRow,
    PeerBlockRow,
    PeerRow,
    RefusedRow,
    Row,
    StatusRow,
    decode_from_service,
    encode,
    removal_of,
)
from watcher.clustering.tables import Heard

CONFIG = """
[network.default]
mode = "routed"
subnets = ["10.9.0.0/16"]
cluster = true
block = 16

[cluster]
etcd = ["http://192.0.2.9:2379"]
host = "a"
address = "192.0.2.1"
"""
"""Of a host with a clustered network."""

REACHED = StatusRow(connected=True, cluster_id="c1", revision=1)


def own(prefix: str, network: str = "default") -> OwnRow:
    """A block or claim that the registry has for the host."""
    return OwnRow(network, ip_network(prefix))


def peer(host: str, address: str, *, alive: bool = True) -> PeerRow:
    """Another host."""
    return PeerRow(host, ip_address(address), alive)


def theirs(prefix: str, host: str, network: str = "default") -> PeerBlockRow:
    """A block or claim of another host."""
    return PeerBlockRow(network, ip_network(prefix), host)


def asked(prefix: str, host: str, network: str = "default") -> AskedRow:
    """A claim of another host in a block of this one."""
    return AskedRow(network, ip_network(prefix), host)


def refused(prefix: str, reason: str, network: str = "default") -> RefusedRow:
    """What the registry does not grant."""
    return RefusedRow(network, ip_network(prefix), reason)


class Registry:
    """Connected to a service's cluster.sock; it tells rows, and hears those of the service.

    It is not connected if the service `has_ended` before.
    """

    def __init__(self, run_dir: Path, has_ended: Callable[[], bool] = lambda: False) -> None:
        self._path = run_dir / SOCKET
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        eventually(lambda: self._connect() or has_ended(), what="cluster.sock")
        self.heard = Heard()

    def _connect(self) -> bool:
        try:
            self._socket.connect(str(self._path))
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def whole(self, *rows: Row) -> None:
        """Tells `rows`, and that there is nothing else."""
        self._socket.send(encode([Begin(), REACHED, NumberRow("default", 1), *rows, End()]))

    def whole_by_many(self, rows: Sequence[Row]) -> None:
        """As :meth:`whole`, of more rows than go into one packet."""
        self._socket.send(encode([Begin(), REACHED, NumberRow("default", 1)]))
        for first in range(0, len(rows), TOGETHER):
            self._socket.send(encode(rows[first : first + TOGETHER]))
        self._socket.send(encode([End()]))

    def tell(self, *rows: Row) -> None:
        """Tells rows that are new."""
        self._socket.send(encode(rows))

    def take_back(self, *rows: Row) -> None:
        """Tells that rows are there no more."""
        self._socket.send(encode([removal_of(row) for row in rows]))

    def raw(self, data: bytes) -> None:
        """Sends anything."""
        self._socket.send(data)

    def hear(self) -> None:
        """Takes what the service has told by now."""
        self._socket.setblocking(False)
        try:
            while packet := self._socket.recv(LONGEST):
                self.heard.take(decode_from_service(packet))
        except BlockingIOError:
            pass
        finally:
            self._socket.setblocking(True)

    def host(self) -> HostRow | None:
        """What the service says of its host."""
        self.hear()
        return self.heard.row(HostRow)

    def address(self) -> str:
        """What others reach the service's host by, as it says."""
        row = self.host()
        return "" if row is None else str(row.address)

    def blocks(self) -> dict[str, str]:
        """The state of each block that the service has told."""
        self.hear()
        return {str(row.prefix): row.state for row in self.heard.of(BlockRow).values()}

    def lent(self) -> dict[str, str]:
        """What the service says that others may have of its blocks."""
        self.hear()
        return {str(row.prefix): row.host for row in self.heard.of(LentRow).values()}

    def wanted(self, network: str = "default") -> int:
        """How many more IPv4 blocks the service would like to have."""
        self.hear()
        row = self.heard.row(NetworkRow, (network,))
        return -1 if row is None else row.want4

    def ended(self) -> bool:
        """Whether the service has ended the connection."""
        self._socket.settimeout(10)
        try:
            while self._socket.recv(LONGEST):
                pass
        except ConnectionError:
            pass
        return True
