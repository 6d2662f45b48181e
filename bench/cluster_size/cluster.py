"""What etcd has of the cluster, and what the parts of this measurement agree upon."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Final

from watcher.cluster.endpoints.record import Endpoint
from watcher.cluster.endpoints.record import encoded as endpoint
from watcher.cluster.etcd.client import Etcd
from watcher.cluster.etcd.requests import Operation, put
from watcher.cluster.etcd.words import Times
from watcher.cluster.registry.keys import Keys, part_of
from watcher.cluster.registry.records import BlockRecord, HostRecord, NetworkRecord
from watcher.cluster.registry.records import encode as record
from watcher.log.logger import SILENCE
from watcher.model.address import Address, Subnet
from watcher.model.cluster import block_at

PORT: Final = 2379
URL: Final = f"http://127.0.0.1:{PORT}"
KEYS: Final = Keys("/watcher")
SUBNETS: Final = (IPv4Network("10.0.0.0/8"), IPv6Network("fd09::/64"))
BLOCK: Final = 64
BLOCKS: Final = 4
"""Blocks of each family that a host has."""
TTL: Final = 30
TOGETHER: Final = 100
FIRST: Final = IPv4Address("192.168.0.1")
"""The address of the first host that is not real."""

_MARK: Final = "mark-"


def client() -> Etcd:
    """A client of etcd, with more patience than that of hosts."""
    return Etcd([URL], None, "", "", SILENCE, Times(answer=60.0))


def name_of(host: int) -> str:
    """The name of a host that is not real."""
    return f"h{host}"


def blocks_of(host: int) -> Iterator[Subnet]:
    """Its blocks."""
    for subnet in SUBNETS:
        for number in range(host * BLOCKS, (host + 1) * BLOCKS):
            yield block_at(subnet, BLOCK, number)


def value_of(host: int, number: int) -> bytes:
    """What a host tells of its sandbox of that number."""
    addresses = tuple(str(_address(subnet, host, number)) for subnet in SUBNETS)
    names = (f"web-{host}-{number}", f"c{host:05x}{number:06x}")
    return endpoint(Endpoint((names,), {"net": addresses}))


def _address(subnet: Subnet, host: int, number: int) -> Address:
    """Two of each block are the host's own."""
    which, at = divmod(number % (BLOCKS * (BLOCK - 2)), BLOCK - 2)
    return block_at(subnet, BLOCK, host * BLOCKS + which)[2 + at]


def network() -> list[Operation]:
    """What is there before any host."""
    net = NetworkRecord(tuple(map(str, SUBNETS)), BLOCK, 1)
    return [put(KEYS.layout, b"1"), put(KEYS.network("net"), record(net))]


def joined(host: int) -> list[Operation]:
    """What a host puts when it joins, but for the key that it is alive."""
    name, address = name_of(host), str(FIRST + host)
    its = record(BlockRecord(name, name))
    return [
        put(KEYS.host(name), record(HostRecord(name, address, name, "0"))),
        put(KEYS.address(address), name.encode()),
        *(put(KEYS.block(part_of("net", block)), its) for block in blocks_of(host)),
    ]


def mark(number: int) -> str:
    """The name of a host, and of a container on it, by which it is measured when that is known."""
    return f"{_MARK}{number:06}"


def is_mark(line: bytes) -> str:
    """The mark in a line of `hosts.sock`; empty if there is none."""
    at = line.find(b'"%b' % _MARK.encode())
    return line[at + 1 : at + 1 + len(mark(0))].decode() if at >= 0 else ""


def marked(number: int) -> Operation:
    """Puts a mark."""
    value = endpoint(Endpoint(((mark(number),),), {"net": ("10.255.0.9",)}))
    return put(KEYS.endpoint(mark(number), "1"), value)


def in_watches(number: int | None = None) -> str:
    """How the key of a mark begins in the lines of a watch, or what follows that for one mark.

    Base64 makes four characters of three bytes, and what is before the number is whole threes.
    """
    before = f"{KEYS.all}endpoints/{_MARK}".encode()
    assert len(before) % 3 == 0
    return base64.b64encode(before if number is None else f"{number:06}".encode()).decode()
