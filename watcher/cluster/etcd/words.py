"""What is asked of etcd, and what it answers."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct


class Tls(Struct, frozen=True):
    """The files for `https://`; each is read again when it has changed.

    Attributes:
        ca: the certificates that those of etcd are checked against; empty: those of the system.
        cert: this host's certificate; empty: none.
        key: its key; empty: it is in the file of the certificate.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""


class Times(Struct, frozen=True):
    """How long things may take, in seconds.

    Attributes:
        connect: until a member has accepted a connection.
        answer: until it has answered. After that, the next member is asked.
        quiet: how long a watch may be silent until its member is asked whether it is there.
        pauses: between tries of a watch whose members accept it and end it: the first, the longest.
    """

    connect: float = 2.0
    answer: float = 5.0
    quiet: float = 5.0
    pauses: tuple[float, float] = (0.1, 5.0)


TIMES: Final = Times()


class KeyValue(Struct, frozen=True):
    """A key with its value.

    Attributes:
        key: bytes that are not UTF-8 are surrogates, as in file names.
        created, modified: the revisions of its creation and of its last change.
        version: 1 when it is created, one more at each change.
        lease: the lease with which it ends; 0: none.
    """

    key: str
    value: bytes
    created: int
    modified: int
    version: int
    lease: int


class Answer(Struct, frozen=True):
    """What each answer has.

    Attributes:
        revision: etcd's when it answered.
        cluster_id: which etcd it is; all members of a cluster have the same.
    """

    revision: int
    cluster_id: int


class Range(Answer, frozen=True, kw_only=True):
    """The keys of a range, in their order.

    Attributes:
        more: there are others behind them.
        member: the number of the member that has answered: one URL may lead to several.
    """

    member: int = 0
    kvs: tuple[KeyValue, ...]
    more: bool


class Snapshot(Answer, frozen=True, kw_only=True):
    """All keys with a prefix, at one revision."""

    kvs: tuple[KeyValue, ...]


class Done(Struct, frozen=True):
    """What an operation has done: what `get` has found, how many keys `delete` has deleted."""

    kvs: tuple[KeyValue, ...] = ()
    deleted: int = 0


class Txn(Answer, frozen=True, kw_only=True):
    """A transaction: whether its comparisons held, and what was done then, or otherwise."""

    succeeded: bool
    responses: tuple[Done, ...]


class Lease(Answer, frozen=True, kw_only=True):
    """A lease: its number and the seconds until it lapses; 0: it has."""

    lease: int
    ttl: int


class Status(Answer, frozen=True, kw_only=True):
    """What a member tells of itself.

    Attributes:
        version: of its program.
        size: of its database, in bytes.
        leader: the member that leads; 0: it knows none.
    """

    version: str
    size: int
    leader: int


class Kind(StrEnum):
    """What happened to a key."""

    PUT = "put"
    DELETE = "delete"


class Event(Struct, frozen=True):
    """A change. A deleted key has no value, and its `modified` is the revision of its end."""

    kind: Kind
    kv: KeyValue


class Batch(Answer, frozen=True, kw_only=True):
    """Changes in their order; without any: the watch lives, and there are none.

    Attributes:
        revision: all changes up to it have been told: go on from the next one.
    """

    events: tuple[Event, ...]
