"""What the service tells `watcher cluster`, as fast as that reads."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import IPv4Network

import pytest

from watcher.cluster.protocol import LONGEST, NetworkRow, decode_from_service
from watcher.clustering.connection import Connection
from watcher.clustering.tables import Heard
from watcher.log.logger import SILENCE

TIMES = 50_000
"""More than what the kernel keeps of what is not read."""


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection, which do not wait."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here.setblocking(False)
    there.setblocking(False)
    with here, there:
        yield here, there


def wanting(blocks: int) -> NetworkRow:
    return NetworkRow("default", (IPv4Network("10.9.0.0/16"),), 16, blocks)


def test_one_that_does_not_read_is_told_the_latest_once(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    async def work() -> None:
        here, there = ends
        loop, heard, packets = asyncio.get_running_loop(), Heard(), 0
        connection = Connection(here, lambda: None, lambda: None, loop, SILENCE)
        for blocks in range(TIMES):
            connection.tell([wanting(blocks)])
        while heard.row(NetworkRow, ("default",)) != wanting(TIMES - 1):
            heard.take(decode_from_service(await loop.sock_recv(there, LONGEST)))
            packets += 1
        connection.close()
        assert heard.whole
        assert packets < TIMES / 2

    asyncio.run(work())


def test_many_rows_are_told_in_packets_that_are_read(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    async def work() -> None:
        here, there = ends
        loop, heard = asyncio.get_running_loop(), Heard()
        connection = Connection(here, lambda: None, lambda: None, loop, SILENCE)
        rows = [NetworkRow(f"n{n}", (IPv4Network("10.9.0.0/16"),), 16) for n in range(TIMES)]
        connection.tell(rows)
        connection.tell(rows[1:])
        connection.tell(rows[2:])
        while len(heard.of(NetworkRow)) != TIMES - 2:
            heard.take(decode_from_service(await loop.sock_recv(there, LONGEST)))
        connection.close()
        assert set(heard.of(NetworkRow).values()) == set(rows[2:])

    asyncio.run(work())
