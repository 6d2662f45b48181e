"""What etcd's JSON gateway answers. All of it is checked: a proxy or anybody may be there instead.

Written from api/etcdserverpb/rpc.proto, api/mvccpb/kv.proto and the gateway's marshaling
(`google.golang.org/protobuf/encoding/protojson`): numbers of 64 bits are strings, bytes are base64,
fields that are zero are left out.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct, field

from watcher.cluster.etcd.errors import Answered, Failed
from watcher.cluster.etcd.words import (
    Done,
    Event,
    KeyValue,
    Kind,
    Lease,
    Range,
    Status,
    Txn,
)

MAX_ANSWER: Final = 32 << 20
"""The most bytes of an answer, and of a line of a watch. etcd takes no request over 1.5 MiB
(`--max-request-bytes`), and cuts what a watch tells into pieces of that size."""


class _Header(Struct, frozen=True):
    cluster_id: int = 0
    member_id: int = 0
    revision: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0

    def __post_init__(self) -> None:
        if not 0 <= self.cluster_id < 1 << 64:  # msgspec has no such bound
            raise ValueError("no cluster has that id")


class _Kv(Struct, frozen=True):
    key: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    value: bytes = b""
    lease: int = 0

    def read(self) -> KeyValue:
        return KeyValue(
            self.key.decode("utf-8", "surrogateescape"),
            self.value,
            self.create_revision,
            self.mod_revision,
            self.version,
            self.lease,
        )


class _Found(Struct, frozen=True):
    kvs: tuple[_Kv, ...] = ()


class _Range(Struct, frozen=True):
    header: _Header
    kvs: tuple[_Kv, ...] = ()
    more: bool = False


class _Deleted(Struct, frozen=True):
    deleted: int = 0


class _Response(Struct, frozen=True):
    response_range: _Found | None = None
    response_delete_range: _Deleted | None = None

    def read(self) -> Done:
        found = self.response_range.kvs if self.response_range else ()
        deleted = self.response_delete_range.deleted if self.response_delete_range else 0
        return Done(tuple(kv.read() for kv in found), deleted)


class _Txn(Struct, frozen=True):
    header: _Header
    succeeded: bool = False
    responses: tuple[_Response, ...] = ()


class _Lease(Struct, frozen=True):
    header: _Header
    id: int = field(name="ID", default=0)
    ttl: int = field(name="TTL", default=0)


class _Error(Struct, frozen=True):
    code: int = 0
    message: str = ""
    grpc_code: int = 0

    def raised(self) -> Answered:
        return Answered(self.code or self.grpc_code, self.message)


class _Alive(Struct, frozen=True):
    result: _Lease | None = None
    error: _Error | None = None


class _Event(Struct, frozen=True):
    kv: _Kv = _Kv()
    type: str = "PUT"

    def read(self) -> Event:
        return Event(Kind.DELETE if self.type == "DELETE" else Kind.PUT, self.kv.read())


class Told(Struct, frozen=True):
    """A line of a watch.

    Attributes:
        created: it is the first one.
        canceled: it is the last one, and `cancel_reason` or `compact_revision` says why.
        fragment: more of the same revision follows.
    """

    header: _Header
    created: bool = False
    canceled: bool = False
    cancel_reason: str = ""
    compact_revision: int = 0
    fragment: bool = False
    events: tuple[_Event, ...] = ()

    def read(self) -> tuple[Event, ...]:
        """Its changes."""
        return tuple(event.read() for event in self.events)


class _Line(Struct, frozen=True):
    result: Told | None = None
    error: _Error | None = None


class _Status(Struct, frozen=True):
    header: _Header
    version: str = ""
    db_size: int = field(name="dbSize", default=0)
    leader: int = 0


class _Token(Struct, frozen=True):
    token: str


def _read[T](data: bytes, kind: type[T]) -> T:
    """Raises: Failed: it is not what etcd answers."""
    try:
        return msgspec.json.decode(data, type=kind, strict=False)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        why = f"it does not answer as etcd does ({error})"
        raise Failed(why, sent=True) from None


def read_range(data: bytes) -> Range:
    """Raises: Failed."""
    answer = _read(data, _Range)
    return Range(
        answer.header.revision,
        answer.header.cluster_id,
        member=answer.header.member_id,
        kvs=tuple(kv.read() for kv in answer.kvs),
        more=answer.more,
    )


def read_txn(data: bytes) -> Txn:
    """Raises: Failed."""
    answer = _read(data, _Txn)
    return Txn(
        answer.header.revision,
        answer.header.cluster_id,
        succeeded=answer.succeeded,
        responses=tuple(response.read() for response in answer.responses),
    )


def read_granted(data: bytes) -> Lease:
    """Raises: Failed."""
    return _lease(_read(data, _Lease))


def read_alive(data: bytes) -> Lease:
    """Raises: Answered, Failed."""
    answer = _read(data, _Alive)
    if answer.error:
        raise answer.error.raised()
    if not answer.result:
        raise Failed("it does not answer as etcd does (no result)", sent=True)
    return _lease(answer.result)


def _lease(answer: _Lease) -> Lease:
    return Lease(
        answer.header.revision, answer.header.cluster_id, lease=answer.id, ttl=max(0, answer.ttl)
    )


def read_nothing(data: bytes) -> None:
    """Raises: Failed."""
    _read(data, _Range)


def read_token(data: bytes) -> str:
    """Raises: Failed."""
    token = _read(data, _Token).token
    if not token or not token.isascii() or not token.isprintable():
        raise Failed("it does not answer as etcd does (no token)", sent=True)
    return token


def read_status(data: bytes) -> Status:
    """Raises: Failed."""
    answer = _read(data, _Status)
    return Status(
        answer.header.revision,
        answer.header.cluster_id,
        version=answer.version,
        size=answer.db_size,
        leader=answer.leader,
    )


def read_error(data: bytes) -> Answered:
    """The error in an answer that is none.

    Raises:
        Failed: there is none.
    """
    error = _read(data, _Error)
    if not error.message:
        raise Failed("it does not answer as etcd does (no message)", sent=True)
    return error.raised()


def read_told(line: bytes) -> Told:
    """A line of a watch.

    Raises:
        Answered: it is an error.
        Failed: it is nothing that etcd tells.
    """
    read = _read(line, _Line)
    if read.error:
        raise read.error.raised()
    if not read.result:
        raise Failed("it does not answer as etcd does (no result)", sent=True)
    return read.result


class Lines:
    """The lines in pieces of a stream.

    Args:
        most: the most bytes of one.
    """

    def __init__(self, most: int = MAX_ANSWER) -> None:
        self._most = most
        self._line = bytearray()

    @property
    def begun(self) -> int:
        """The bytes of a line that is not whole yet."""
        return len(self._line)

    def add(self, piece: bytes) -> list[bytes]:
        """The lines that are whole with this piece; empty ones are left out.

        Raises:
            Failed: a line is too long.
        """
        first, *others = piece.split(b"\n")
        self._keep(first)
        lines = []
        for other in others:
            lines.append(bytes(self._line))
            self._line.clear()
            self._keep(other)
        return [line for line in lines if line.strip()]

    def _keep(self, piece: bytes) -> None:
        if len(self._line) + len(piece) > self._most:
            raise Failed("it tells a line without an end", sent=True)
        self._line += piece
