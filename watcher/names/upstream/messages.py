"""The bytes of questions to servers and of their answers.

A server may answer anything, and whoever runs a container can have it ask a server of their own: so
what it answers is read by :mod:`watcher.names.upstream.walk`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from msgspec import Struct

from watcher.names.upstream.walk import Malformed, Walk
from watcher.names.wire.numbers import (
    AD,
    CD,
    FORMERR,
    HEADER,
    NOTIMP,
    OPCODE,
    QR,
    RA,
    RCODE,
    RD,
    SERVFAIL,
    TC,
)
from watcher.names.wire.reply import flags_of, header, opt_for, opt_record

if TYPE_CHECKING:
    from watcher.names.wire.query import Query

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
    flags = RD * query.recursion | AD * query.authentic | CD * query.checked
    message = header(flags, additional=edns) + folded(query.question)
    return message + opt_record(dnssec=query.dnssec) if edns else message


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
    if not flags & QR or flags & OPCODE:
        return False
    if questions == 0:
        return len(message) == HEADER and flags & RCODE in (FORMERR, NOTIMP)
    return questions == 1 and folded(message[HEADER : HEADER + len(question)]) == question


def read_answer(message: bytes, question: bytes) -> Answer:
    """The answer in a message for which :func:`is_answer` holds.

    What does not fit a message that was cut is left out of it.

    Raises:
        Malformed: it cannot be read.
    """
    flags, _, *sizes = _counts.unpack_from(message, 2)
    walk = Walk(message, question, whole=not flags & TC)
    try:
        walk.all(sizes)
    except (IndexError, struct.error):
        raise Malformed("it ends too soon") from None
    code = flags & RCODE | walk.code << 4
    kept = walk.counts
    return Answer(
        code=code,
        flags=flags & (RA | AD),
        whole=walk.whole,
        counts=(kept[0], kept[1], kept[2]),
        records=message[walk.start : walk.end],
        ttls=tuple(walk.ttls),
        life=walk.life(code) if walk.whole else 0,
        lame=not (flags & RA or code or kept[0] or walk.negative is not None),
    )


def make_reply(query: Query, answer: Answer, age: int = 0) -> bytes:
    """The message with an answer for who asked; what does not fit is cut off (TC).

    As many answers as fit stay, since musl before 1.2.4 asks nobody by TCP.

    Args:
        age: whole seconds since the answer came.
    """
    opt = opt_for(query, answer.code)
    code = answer.code if query.edns or answer.code <= 15 else SERVFAIL
    counts, records = answer.counts, answer.records
    room = query.most - HEADER - len(query.question) - len(opt)
    whole = answer.whole and len(records) <= room
    if not whole:
        counts, records = _cut(answer, room)
    if age and records:
        records = _aged(records, answer.ttls, age)
    flags = flags_of(query) | TC * (not whole) | answer.flags & RA | code & RCODE
    if query.authentic or query.dnssec:  # RFC 6840, section 5.8
        flags |= answer.flags & AD
    head = header(flags, counts[0], counts[1], counts[2] + query.edns)
    return query.id + head + query.question + records + opt


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
