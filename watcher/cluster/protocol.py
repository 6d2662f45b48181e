"""What the service and `watcher cluster` say to each other by `cluster.sock`.

Each side tells what there is, never what to do. After connecting it tells all of its rows, between
:class:`Begin` and :class:`End`, and from then on each change: a row, which takes the place of that
with the same key, or :class:`Removed`. Each looks at the difference between what it was told and
what it has, and closes that. So whatever is killed meanwhile, the next look finishes it.

A packet is a JSON array of rows, each with its `row`, e.g.
`[{"row": "block", "network": "default", "prefix": "10.9.4.0/24", "state": "held"}]`.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from watcher.model.address import Address
from watcher.model.cluster import MOST_NETWORKS, BlockState

if TYPE_CHECKING:
    type Prefix = IPv4Network | IPv6Network
else:

    class Prefix(ABC):  # noqa: B024
        """A subnet of either family; msgspec cannot decode a union of two foreign classes."""

    Prefix.register(IPv4Network)
    Prefix.register(IPv6Network)

SOCKET: Final = "cluster.sock"
"""The socket's name in `run_dir`, of kind SOCK_SEQPACKET."""

LONGEST: Final = 65536
"""The most bytes of a packet."""

TOGETHER: Final = 128
"""The most rows that a packet should have, so that it is not too long."""

NOT_YET: Final = "etcd has not answered yet"
"""The problem of a `watcher cluster` that has just started."""

type _Text = Annotated[str, Meta(max_length=512)]
type _Name = Annotated[str, Meta(max_length=64)]
type _Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Row(Struct, frozen=True, omit_defaults=True, tag_field="row"):
    """A row, or one of :class:`Begin`, :class:`End` and :class:`Removed`."""


class Begin(Row, frozen=True, tag="begin"):
    """All rows follow; those from before count until :class:`End`."""


class End(Row, frozen=True, tag="end"):
    """All rows were told: what is not among them is there no more."""


# What the service tells.


class HostRow(Row, frozen=True, tag="host"):
    """This host; there is one such row.

    Attributes:
        host: its name in the cluster.
        address: what the other hosts reach it by.
        incarnation: marks what it takes in the registry; another one after it was removed.
        machine: tells it from another machine of the same name.
        boot: tells this start of the machine, and its network namespace, from others.
        cluster_id, revision: of the registry's latest state that it has seen; empty and 0: this
            incarnation was in no cluster yet.
    """

    host: _Name
    address: Address
    incarnation: _Name
    machine: _Name
    boot: _Text = ""
    cluster_id: _Name = ""
    revision: _Number = 0


class NetworkRow(Row, frozen=True, tag="network"):
    """A clustered network of this host's configuration.

    Attributes:
        name: its name.
        subnets: its subnets, in the order of the configuration.
        block: how many addresses a block has.
        want4, want6: how many more blocks of IPv4 and of IPv6 this host would like to take.
    """

    name: _Name
    subnets: tuple[Prefix, ...]
    block: int
    want4: int = 0
    want6: int = 0


class BlockRow(Row, frozen=True, tag="block"):
    """A block or a claim of this host in its lease store (:class:`watcher.model.cluster.Block`)."""

    network: _Name
    prefix: Prefix
    state: BlockState


class LentRow(Row, frozen=True, tag="lent"):
    """An address of a block of this host that it leases to nobody, because `host` may have it."""

    network: _Name
    prefix: Prefix
    host: _Name


# What `watcher cluster` tells.


class StatusRow(Row, frozen=True, tag="status"):
    """How this host stands with the registry; there is one such row.

    Attributes:
        connected: whether etcd answers.
        problem: why this host takes no part in the cluster, or why etcd does not answer.
        removed: the incarnation that the registry does not accept any more.
        cluster_id, revision: of the state that the other rows are from.
        out: whether it is granted nothing, for that problem.
    """

    connected: bool
    problem: _Text = ""
    removed: _Name = ""
    cluster_id: _Name = ""
    revision: _Number = 0
    out: bool = False


class NumberRow(Row, frozen=True, tag="number"):
    """What the registry says of a network.

    Attributes:
        network: its name.
        number: its number, the same on all hosts; 0 if it has none yet.
        problem: why this host takes no part in it.
    """

    network: _Name
    number: Annotated[int, Meta(ge=0, le=MOST_NETWORKS)]
    problem: _Text = ""


class OwnRow(Row, frozen=True, tag="own"):
    """A block or a claim that the registry has for this host."""

    network: _Name
    prefix: Prefix


class RefusedRow(Row, frozen=True, tag="refused"):
    """A block or a claim of this host's lease store that the registry does not grant.

    A claim that is wanted gets `reason`; what was held is lost.
    """

    network: _Name
    prefix: Prefix
    reason: _Text


class AskedRow(Row, frozen=True, tag="asked"):
    """A claim of `host` in a block of this host; it counts once a :class:`LentRow` was told."""

    network: _Name
    prefix: Prefix
    host: _Name


class PeerRow(Row, frozen=True, tag="peer"):
    """Another host (:class:`watcher.model.cluster.Peer`)."""

    host: _Name
    address: Address
    alive: bool


class PeerBlockRow(Row, frozen=True, tag="peer-block"):
    """A block or a claim of another host (:class:`watcher.model.cluster.PeerBlock`).

    Attributes:
        host: that one; empty if etcd has of it what is not understood: it is as it was known, or
            somebody's.
    """

    network: _Name
    prefix: Prefix
    host: _Name


# Both tell:


class Removed(Row, frozen=True, tag="removed"):
    """The row `table` with the key `key` is there no more."""

    table: _Name
    key: tuple[_Text, ...]


type FromService = Begin | End | Removed | HostRow | NetworkRow | BlockRow | LentRow
type FromCluster = (
    Begin | End | Removed | StatusRow | NumberRow | OwnRow | RefusedRow | AskedRow | PeerRow
    | PeerBlockRow
)  # fmt: skip

_KEYS: Final[dict[type[Row], tuple[str, ...]]] = {
    HostRow: (),
    NetworkRow: ("name",),
    BlockRow: ("network", "prefix"),
    LentRow: ("network", "prefix"),
    StatusRow: (),
    NumberRow: ("network",),
    OwnRow: ("network", "prefix"),
    RefusedRow: ("network", "prefix"),
    AskedRow: ("network", "prefix"),
    PeerRow: ("host",),
    PeerBlockRow: ("network", "prefix"),
}


def table_of(row: Row | type[Row]) -> str:
    """The name of the table that `row`, or each row of that kind, is in."""
    return str(row.__struct_config__.tag)


def key_of(row: Row) -> tuple[str, ...]:
    """The key of `row` in its table."""
    return tuple(str(getattr(row, name)) for name in _KEYS[type(row)])


def removal_of(row: Row) -> Removed:
    """Says that `row` is there no more."""
    return Removed(table_of(row), key_of(row))


def encode(rows: Sequence[Row]) -> bytes:
    """The packet with `rows`."""
    return _ENCODER.encode(rows)


def decode_from_service(packet: bytes) -> Sequence[FromService]:
    """The rows of a packet from the service.

    Raises:
        msgspec.DecodeError: it is none; a value that is wrong is one of these.
    """
    return _FROM_SERVICE.decode(packet)


def decode_from_cluster(packet: bytes) -> Sequence[FromCluster]:
    """The rows of a packet from `watcher cluster`; errors as above."""
    return _FROM_CLUSTER.decode(packet)


def _decoded(_: type[Any], text: str) -> Any:
    if "%" in text:  # the zone is any text, and none of these has one
        raise ValueError("it has a zone")
    return ip_network(text) if "/" in text else ip_address(text)  # msgspec compares the type


_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)
_FROM_SERVICE: Final[msgspec.json.Decoder[list[FromService]]] = msgspec.json.Decoder(
    list[FromService], dec_hook=_decoded
)
_FROM_CLUSTER: Final[msgspec.json.Decoder[list[FromCluster]]] = msgspec.json.Decoder(
    list[FromCluster], dec_hook=_decoded
)
