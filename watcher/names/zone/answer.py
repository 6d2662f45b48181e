"""Answers about the names that are ours, as they are sent (RFC 1035, section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.model.names import HOST
from watcher.names.wire.labels import wire_of
from watcher.names.wire.numbers import (
    AA,
    AAAA,
    ANY,
    HEADER,
    NOERROR,
    NS,
    NXDOMAIN,
    POINTER,
    PTR,
    RA,
    SOA,
    TC,
    TCP_AT_MOST,
    A,
)
from watcher.names.wire.reply import flags_of, header, opt_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watcher.names.counts import Outcome
    from watcher.names.wire.query import Query
    from watcher.names.zone.resolve import Found
    from watcher.names.zone.views import Use

_QUESTION_NAME: Final = (POINTER | HEADER).to_bytes(2)
_FAR: Final = 0x3FFF
"""The last place that a pointer can lead to (RFC 1035, section 4.1.4)."""

_TTL: Final = bytes(4)
"""Of 0 seconds: an address may be another's as soon as its container has ended."""

_A: Final = _QUESTION_NAME + b"\0\1\0\1" + _TTL + b"\0\4"
_AAAA: Final = _QUESTION_NAME + b"\0\x1c\0\1" + _TTL + b"\0\x10"
_A_SIZE: Final = len(_A) + 4
_AAAA_SIZE: Final = len(_AAAA) + 16
_TIMES: Final = b"".join(number.to_bytes(4) for number in (1, 3600, 600, 86400, 0))
"""Of an SOA: serial, refresh, retry, expire; and of 0 seconds, the minimum."""


class Answer:
    """A whole answer, but for its first two bytes, the id of the question.

    Attributes:
        whole: the answer; of one whose records take turns, what stands before them.
        records: these, all of them.
        size: bytes of one of them; 0 if they take no turns.
        uses: what it follows from.
        truncated: whether a part is missing, for which there was no room.
        outcome: how it is counted.
    """

    __slots__ = ("_at", "_shown", "_tail", "outcome", "records", "size", "truncated", "uses",
                 "whole")  # fmt: skip

    def __init__(
        self,
        whole: bytes,
        uses: tuple[Use, ...] = (),
        outcome: Outcome = "local",
        *,
        records: bytes = b"",
        size: int = 0,
        shown: int = 0,
        first: int = 0,
        tail: bytes = b"",
        truncated: bool = False,
    ) -> None:
        self.whole = whole
        self.uses = uses
        self.outcome = outcome
        self.records = records
        self.size = size
        self.truncated = truncated
        self._shown = shown
        self._tail = tail
        self._at = first * size % len(records) if records else 0

    @property
    def length(self) -> int:
        """How many bytes it takes."""
        return len(self.whole) + len(self.records) + len(self._tail)

    def give(self, id_: bytes) -> bytes:
        """The answer to the question with that id; its records begin with another each time."""
        if not self.size:
            return id_ + self.whole
        at = self._at
        length = len(self.records)
        self._at = (at + self.size) % length
        end = at + self._shown
        turned = self.records[at:end]
        if end > length:
            turned += self.records[: end - length]
        return id_ + self.whole + turned + self._tail


class Zone:
    """Makes answers about the names in `domain`.

    Attributes:
        labels: those of the domain.
        wire: the domain as it stands in a message.
    """

    def __init__(self, domain: str) -> None:
        self.labels = tuple(domain.encode().split(b"."))
        self.wire = wire_of(b".".join(self.labels)) + b"\0"

    def answer(self, query: Query, found: Found, turn: int) -> Answer:
        """The answer to `query` about what was `found`; records begin with that whose `turn` it is.

        If there is none of the type that was asked for, it says so with an SOA (RFC 2308).
        """
        if query.type == A and (all_ := found.records(4, _A)):
            return _addresses(query, found, all_, _A_SIZE, turn)
        if query.type == AAAA and (all_ := found.records(6, _AAAA)):
            return _addresses(query, found, all_, _AAAA_SIZE, turn)
        records = self._records(query, found)
        opt = opt_for(query)
        if records:
            return _answered(query, found, records, opt)
        soa = self._soa(query)
        outcome: Outcome = "nodata" if found.exists else "nxdomain"
        head = _head(query, NOERROR if found.exists else NXDOMAIN, authority=1)
        return Answer(head + query.question + soa + opt, found.uses, outcome)

    def _records(self, query: Query, found: Found) -> list[bytes]:
        kind = query.type
        records: list[bytes] = []
        if kind == ANY:
            records += _split(found.records(4, _A), _A_SIZE, query.most)
            records += _split(found.records(6, _AAAA), _AAAA_SIZE, query.most)
        if found.pointers and kind in (PTR, ANY):
            records += self._pointers(query, found.pointers)
        if found.apex and kind in (SOA, ANY):
            records.append(self._soa(query))
        if found.apex and kind in (NS, ANY):
            target = _label(HOST) + self._domain_in(query)
            records.append(_QUESTION_NAME + _fixed(NS, len(target)) + target)
        return records

    def _pointers(self, query: Query, pointers: Sequence[bytes]) -> list[bytes]:
        """PTR records; `pointers` without a dot at the end are names in the domain."""
        records = []
        at = HEADER + len(query.question)
        domain = self.wire
        for pointer in pointers:
            if pointer.endswith(b"."):
                target = wire_of(pointer[:-1]) + b"\0"
            else:
                own = wire_of(pointer)
                target = own + domain
                place = at + HEADER + len(own)
                if domain is self.wire and place <= _FAR:
                    domain = (POINTER | place).to_bytes(2)
            records.append(_QUESTION_NAME + _fixed(PTR, len(target)) + target)
            at += len(records[-1])
        return records

    def _domain_in(self, query: Query) -> bytes:
        """A pointer to the domain in the question; the domain, if the question is not in it."""
        if query.name[-len(self.labels) :] != self.labels:
            return self.wire
        return (POINTER | (HEADER + len(query.question) - 4 - len(self.wire))).to_bytes(2)

    def _soa(self, query: Query) -> bytes:
        """The SOA: of the domain, or of the name itself if it is not in it."""
        domain = self._domain_in(query)
        owner = _QUESTION_NAME if domain is self.wire else domain
        server = _label(HOST) + domain
        mailbox = _label("hostmaster") + domain
        length = len(server) + len(mailbox) + len(_TIMES)
        return owner + _fixed(SOA, length) + server + mailbox + _TIMES


def _split(records: bytes, size: int, most: int) -> list[bytes]:
    """The records, each of `size` bytes; no more than do not fit into `most` bytes."""
    return [records[at : at + size] for at in range(0, min(len(records), most), size)]


def _addresses(query: Query, found: Found, records: bytes, size: int, turn: int) -> Answer:
    """The answer with `records`, each of `size` bytes."""
    opt = opt_for(query)
    room = (query.most - HEADER - len(query.question) - len(opt)) // size
    count = len(records) // size
    shown = min(count, room)
    truncated = shown < count and query.most < TCP_AT_MOST
    head = _head(query, NOERROR, answers=shown, truncated=truncated) + query.question
    if count == 1:
        return Answer(head + records + opt, found.uses)
    return Answer(
        head, found.uses, records=records, size=size, shown=shown * size, first=turn, tail=opt,
        truncated=truncated,
    )  # fmt: skip


def _answered(query: Query, found: Found, records: list[bytes], opt: bytes) -> Answer:
    room = query.most - HEADER - len(query.question) - len(opt)
    shown = 0
    for record in records:
        room -= len(record)
        if room < 0:
            break
        shown += 1
    truncated = shown < len(records) and query.most < TCP_AT_MOST
    head = _head(query, NOERROR, answers=shown, truncated=truncated)
    whole = head + query.question + b"".join(records[:shown]) + opt
    return Answer(whole, found.uses, truncated=truncated)


def _head(
    query: Query, code: int, *, answers: int = 0, authority: int = 0, truncated: bool = False
) -> bytes:
    """The header without the id."""
    flags = flags_of(query) | AA | RA | (TC if truncated else 0) | code
    return header(flags, answers, authority, query.edns)


def _fixed(kind: int, length: int) -> bytes:
    return kind.to_bytes(2) + b"\0\1" + _TTL + length.to_bytes(2)


def _label(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()
