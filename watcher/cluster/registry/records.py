"""What the values in etcd say. They are others' words: each is checked before it counts."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta, Struct

from watcher.config.clusters import HOST, can_be_reached
from watcher.model.cluster import MOST_NETWORKS, block_prefix

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.model.address import Address, Subnet

LONGEST: Final = 4096
"""The most bytes of a value, endpoints aside."""

type _Text = Annotated[str, Meta(max_length=64)]
type _Host = Annotated[str, Meta(max_length=63, pattern=rf"^{HOST.pattern}\Z")]
type _Name = Annotated[str, Meta(max_length=64, min_length=1)]


class HostRecord(Struct, frozen=True):
    """A host.

    Attributes:
        incarnation: what it takes carries the same.
        address: by which the others reach it.
        machine: tells it from another of the same name; empty if it has no identity.
        program: the version of the program there.
        port: the UDP port of VXLAN there; 0: it is not known.
    """

    incarnation: _Name
    address: _Text
    machine: _Text = ""
    program: _Text = ""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0


class AliveRecord(Struct, frozen=True):
    """That a host is heard of.

    Attributes:
        boot: marks the start of the machine, and of the network namespace.
    """

    incarnation: _Name
    address: _Text
    boot: _Text = ""


class NetworkRecord(Struct, frozen=True):
    """A network.

    Attributes:
        subnets: its subnets.
        block: how many addresses a block has.
        number: of its VXLAN device.
    """

    subnets: Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=2)]
    block: Annotated[int, Meta(ge=4, le=65536)]
    number: Annotated[int, Meta(ge=1, le=MOST_NETWORKS)]


class BlockRecord(Struct, frozen=True):
    """Who has a block."""

    host: _Host
    incarnation: _Name


class ClaimRecord(Struct, frozen=True):
    """Who has, or wants, a single address.

    Attributes:
        lent: the host that has let it have the address: itself, if the address was in no other
            host's block, or the host that had the block. Empty: the claim does not count yet.
    """

    host: _Host
    incarnation: _Name
    lent: Annotated[str, Meta(max_length=63)] = ""

    @property
    def counts(self) -> bool:
        """Whether the host has the address. Once a claim counts, it does so until its end."""
        return bool(self.lent)


encode: Final = msgspec.json.Encoder().encode


def reader[R: Struct](kind: type[R]) -> Callable[[bytes], R]:
    """What reads records of that kind.

    Raises:
        ValueError: it is none.
    """
    decoder = msgspec.json.Decoder(kind)

    def read(value: bytes) -> R:
        if len(value) > LONGEST:
            raise ValueError(f"it is longer than {LONGEST} bytes")
        try:
            return decoder.decode(value)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(str(error)) from None

    return read


read_block: Final = reader(BlockRecord)
read_claim: Final = reader(ClaimRecord)
_read_host: Final = reader(HostRecord)
_read_alive: Final = reader(AliveRecord)
_read_network: Final = reader(NetworkRecord)


def read_host(value: bytes) -> HostRecord:
    """A host; `ValueError` as above."""
    record = _read_host(value)
    _address(record.address)
    return record


def read_alive(value: bytes) -> AliveRecord:
    """That a host is alive; `ValueError` as above."""
    record = _read_alive(value)
    _address(record.address)
    return record


def read_network(value: bytes) -> NetworkRecord:
    """A network; `ValueError` as above."""
    record = _read_network(value)
    if record.block & (record.block - 1):
        raise ValueError("its block is no power of two")
    if any("%" in text for text in record.subnets):
        raise ValueError("its subnet has a zone")
    if {len(subnets_of(record)), len(record.subnets)} != {len({*record.subnets})}:
        raise ValueError("it has two subnets of one family")
    for subnet in subnets_of(record).values():
        if block_prefix(subnet, record.block) <= subnet.prefixlen:
            raise ValueError("its blocks are larger than its subnet")
    return record


def read_name(value: bytes) -> str:
    """The name of a host; `ValueError` as above."""
    name = value[:LONGEST].decode("utf-8", "replace")
    if not HOST.fullmatch(name):
        raise ValueError("it is no name of a host")
    return name


def subnets_of(record: NetworkRecord) -> dict[int, Subnet]:
    """The subnets of a network by their IP versions."""
    return {subnet.version: subnet for subnet in map(ip_network, record.subnets)}


def _address(text: str) -> Address:
    address = ip_address(text)
    if str(address) != text or not can_be_reached(address):
        raise ValueError("it has no address of a host")
    return address
