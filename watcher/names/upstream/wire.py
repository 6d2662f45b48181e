"""The bytes of questions to servers and of their answers.

A server may answer anything, and whoever runs a container can have it ask a server of their own: so
what it answers is read by :mod:`watcher.names.upstream.walk`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.names.query import FORMERR, HEADER, NOTIMP, UDP_AT_MOST
from watcher.names.upstream.walk import OPT, RECORD, Malformed, Walk

if TYPE_CHECKING:
    from watcher.names.query import Query

SERVFAIL: Final = 2
YXDOMAIN: Final = 6
"""Response codes (RFC 1035, section 4.1.1; RFC 2136)."""

_RESPONSE: Final = 0x8000
_OPCODE: Final = 0x7800
_TRUNCATED: Final = 0x0200
_RECURSION: Final = 0x0100
_RECURSION_AVAILABLE: Final = 0x0080
_AUTHENTIC: Final = 0x0020
_CHECKED: Final = 0x0010
_DNSSEC: Final = 0x8000

_counts = struct.Struct("!HHHHH")
_number = struct.Struct("!I")


class Answer(Struct, frozen=True):
    """What a server answered to a question.

    Attributes:
        code: the response code, with the upper bits of EDNS.
        flags: RA and AD, as in a header.
        whole: nothing was cut off (TC is not set).
        counts: of records in the sections answer, authority, additional; without OPT.
        records: all that stands after the question, without OPT and what may follow it.
        ttls: where in `records` a TTL stands, in their order.
        life: seconds for which it may be kept; 0: not at all.
        lame: neither an answer nor a word that there is none, by a server that asks no others.
    """

    code: int
    flags: int
    whole: bool
    counts: tuple[int, int, int]
    records: bytes
    ttls: tuple[int, ...]
    life: int
    lame: bool = False


def make_question(query: Query, *, edns: bool) -> bytes:
    """The message for a server, without its id: the same question, but nothing else of the client.

    Options of EDNS are for the next hop alone (RFC 6891, section 6.2.6). Which case of letters the
    client chose is not passed on, since the same question of others is asked along with it.
    """
    flags = _RECURSION * query.recursion | _AUTHENTIC * query.authentic | _CHECKED * query.checked
    message = _counts.pack(flags, 1, 0, 0, edns) + folded(query.question)
    return message + _opt(0, dnssec=query.dnssec) if edns else message


def folded(question: bytes) -> bytes:
    """A question with its name in lower case; its type and class are numbers."""
    return question[:-4].lower() + question[-4:]


def is_answer(message: bytes, id_: bytes, question: bytes) -> bool:
    """Whether `message` answers the folded `question` with this id.

    A server that did not understand the question need not repeat it.
    """
    if len(message) < HEADER or message[:2] != id_:
        return False
    flags, questions, *_ = _counts.unpack_from(message, 2)
    if not flags & _RESPONSE or flags & _OPCODE:
        return False
    if questions == 0:
        return len(message) == HEADER and flags & 15 in (FORMERR, NOTIMP)
    return questions == 1 and folded(message[HEADER : HEADER + len(question)]) == question


def read_answer(message: bytes, question: bytes) -> Answer:
    """The answer in a message for which :func:`is_answer` holds.

    What does not fit a message that was cut is left out of it.

    Raises:
        Malformed: it cannot be read.
    """
    flags, _, *sizes = _counts.unpack_from(message, 2)
    walk = Walk(message, question, whole=not flags & _TRUNCATED)
    try:
        walk.all(sizes)
    except (IndexError, struct.error):
        raise Malformed("it ends too soon") from None
    code = flags & 15 | walk.code << 4
    kept = walk.counts
    return Answer(
        code=code,
        flags=flags & (_RECURSION_AVAILABLE | _AUTHENTIC),
        whole=walk.whole,
        counts=(kept[0], kept[1], kept[2]),
        records=message[walk.start : walk.end],
        ttls=tuple(walk.ttls),
        life=walk.life(code) if walk.whole else 0,
        lame=not (flags & _RECURSION_AVAILABLE or code or kept[0] or walk.negative is not None),
    )


def make_reply(query: Query, answer: Answer, age: int = 0) -> bytes:
    """The message with an answer for who asked; what does not fit is cut off (TC).

    As many answers as fit stay, since musl before 1.2.4 asks nobody by TCP.

    Args:
        age: whole seconds since the answer came.
    """
    opt = _opt(answer.code >> 4, dnssec=query.dnssec) if query.edns else b""
    code = answer.code if query.edns or answer.code <= 15 else SERVFAIL
    counts, records = answer.counts, answer.records
    room = query.most - HEADER - len(query.question) - len(opt)
    whole = answer.whole and len(records) <= room
    if not whole:
        counts, records = _cut(answer, room)
    if age and records:
        records = _aged(records, answer.ttls, age)
    flags = _RESPONSE | _TRUNCATED * (not whole) | _RECURSION * query.recursion
    flags |= answer.flags & _RECURSION_AVAILABLE | _CHECKED * query.checked | code & 15
    if query.authentic or query.dnssec:  # RFC 6840, section 5.8
        flags |= answer.flags & _AUTHENTIC
    head = _counts.pack(flags, 1, counts[0], counts[1], counts[2] + query.edns)
    return query.id + head + query.question + records + opt


def make_failure(query: Query) -> bytes:
    """The message that says that no answer could be had: SERVFAIL."""
    return make_reply(query, FAILED)


FAILED: Final = Answer(
    code=SERVFAIL, flags=_RECURSION_AVAILABLE, whole=True, counts=(0, 0, 0), records=b"", ttls=(),
    life=0,
)  # fmt: skip


def _cut(answer: Answer, room: int) -> tuple[tuple[int, int, int], bytes]:
    """As many whole records of the section answer as there is room for."""
    end = kept = 0
    for ttl in answer.ttls[: answer.counts[0]]:
        after = ttl + 6 + int.from_bytes(answer.records[ttl + 4 : ttl + 6])
        if after > room:
            break
        end, kept = after, kept + 1
    return (kept, 0, 0), answer.records[:end]


def _aged(records: bytes, ttls: tuple[int, ...], age: int) -> bytes:
    """The records with each TTL lowered by `age`."""
    aged = bytearray(records)
    for at in ttls:
        if at >= len(aged):
            break
        _number.pack_into(aged, at, max(0, _number.unpack_from(aged, at)[0] - age))
    return bytes(aged)


def _opt(code: int, *, dnssec: bool) -> bytes:
    """An OPT record without options (RFC 6891, section 6.1.2)."""
    ttl = code << 24 | _DNSSEC * dnssec
    return b"\0" + RECORD.pack(OPT, UDP_AT_MOST, ttl, 0)
