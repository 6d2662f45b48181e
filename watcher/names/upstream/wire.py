"""The bytes of questions to servers and of their answers.

A server may answer anything, and whoever runs a container can have it ask a server of their own. So
an answer is read by a walk that costs little and the same for each of its bytes, whatever they are:
7 ms for 64 KiB of addresses, where dnspython takes 120, in which nobody else is answered. The tests
hold the walk to what dnspython reads.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.names.query import UDP_AT_MOST

if TYPE_CHECKING:
    from watcher.names.query import Query

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
YXDOMAIN: Final = 6
"""Response codes (RFC 1035, section 4.1.1; RFC 2136)."""

_HEADER: Final = 12
_RESPONSE: Final = 0x8000
_OPCODE: Final = 0x7800
_TRUNCATED: Final = 0x0200
_RECURSION: Final = 0x0100
_RECURSION_AVAILABLE: Final = 0x0080
_AUTHENTIC: Final = 0x0020
_CHECKED: Final = 0x0010
_DNSSEC: Final = 0x8000

_A: Final = 1
_SOA: Final = 6
_TXT: Final = 16
_AAAA: Final = 28
_OPT: Final = 41
_ANY: Final = 255

_SIZES: Final = {_A: 4, _AAAA: 16}
_NAMES: Final = {
    2: (0, 1, 0),  # NS
    5: (0, 1, 0),  # CNAME
    6: (0, 2, 20),  # SOA
    12: (0, 1, 0),  # PTR
    15: (2, 1, 0),  # MX
    33: (6, 1, 0),  # SRV
    39: (0, 1, 0),  # DNAME
}
"""Of types that have names: the bytes before them, how many they are, and the bytes after them.

A client that trusts the length of these would read beyond them, so the length has to be right.
Other types are not compressed and are passed on as they are (RFC 3597, section 4).
"""

_RECORDS_AT_MOST: Final = 4096
"""A record of an address takes 16 bytes, so no message has more of them."""
_NAME_AT_MOST: Final = 255
_HOP: Final = 1 << 16
_HOPS_AT_MOST: Final = 17 * _HOP
"""Pointers in a name, and one: as many as dnspython follows."""
_LENGTH: Final = _HOP - 1
_POINTER: Final = 0xC0
_LABEL_AT_MOST: Final = 63

_NEGATIVE_AT_MOST: Final = 3600
"""Seconds for which it is believed that something is not there (RFC 2308, section 5)."""
_POSITIVE_AT_MOST: Final = 86400
_SIGN: Final = 0x80000000

_counts = struct.Struct("!HHHHH")
_record = struct.Struct("!HHIH")
_number = struct.Struct("!I")


class Malformed(Exception):
    """An answer that cannot be read."""


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
    if len(message) < _HEADER or message[:2] != id_:
        return False
    flags, questions, *_ = _counts.unpack_from(message, 2)
    if not flags & _RESPONSE or flags & _OPCODE:
        return False
    if questions == 0:
        return len(message) == _HEADER and flags & 15 in (FORMERR, NOTIMP)
    return questions == 1 and folded(message[_HEADER : _HEADER + len(question)]) == question


def read_answer(message: bytes, question: bytes) -> Answer:
    """The answer in a message for which :func:`is_answer` holds.

    What does not fit a message that was cut is left out of it.

    Raises:
        Malformed: it cannot be read.
    """
    flags, _, *sizes = _counts.unpack_from(message, 2)
    walk = _Walk(message, question, whole=not flags & _TRUNCATED)
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


class _Walk:
    """Reads a message's records once, from the first to the last."""

    def __init__(self, message: bytes, question: bytes, *, whole: bool) -> None:
        self._message = message
        self._type = int.from_bytes(question[-4:-2])
        self._known: dict[int, int] = {}
        self._opaque: list[int] = []
        self._opaque_ends: list[int] = []
        self.whole = whole
        self.start = self.end = min(len(message), _HEADER + len(question))
        self.counts = [0, 0, 0]
        self.ttls: list[int] = []
        self.code = 0
        self.negative: int | None = None
        self._lowest = _POSITIVE_AT_MOST
        self._answers = self._type == _ANY

    def all(self, sizes: list[int]) -> None:
        """Reads all records; of a message that was cut, those that can be read."""
        if self.start == _HEADER:  # no question, no records
            return
        try:
            self._records(sizes)
        except (IndexError, struct.error, Malformed):
            if self.whole:
                raise

    def _records(self, sizes: list[int]) -> None:
        """Reads all; counts those before OPT, which speaks of this hop alone (RFC 6891)."""
        if sum(sizes) > _RECORDS_AT_MOST:
            raise Malformed("too many records")
        at = self._name(_HEADER) + 4
        opt = False
        for section, size in enumerate(sizes):
            for _ in range(size):
                at, kind = self._one(at, section)
                opt = opt or kind == _OPT
                if not opt:
                    self.counts[section] += 1
                    self.end = at
        if at != len(self._message):
            raise Malformed("bytes after its end")

    def _one(self, at: int, section: int) -> tuple[int, int]:
        """Reads the record at `at`; returns its end and type."""
        at = self._name(at)
        kind, _, ttl, size = _record.unpack_from(self._message, at)
        end = at + 10 + size
        if end > len(self._message):
            raise Malformed("a record ends too late")
        if kind == _OPT:
            if section != 2:
                raise Malformed("OPT where it does not belong")
            self.code = ttl >> 24
            return end, kind
        self._check(kind, at + 10, end)
        self.ttls.append(at + 4 - self.start)
        ttl = 0 if ttl & _SIGN else ttl  # RFC 2181, section 8
        self._lowest = min(self._lowest, ttl)
        if section == 0 and kind == self._type:
            self._answers = True
        elif section == 1 and kind == _SOA:
            self.negative = min(ttl, _number.unpack_from(self._message, end - 4)[0])
        return end, kind

    def _check(self, kind: int, at: int, end: int) -> None:
        """Raises Malformed unless the data of a record are as its type wants them."""
        if kind in _SIZES:
            right = end - at == _SIZES[kind]
        elif kind in _NAMES:
            before, names, after = _NAMES[kind]
            at += before
            for _ in range(names):
                at = self._name(at)
            right = at + after == end
        elif kind == _TXT:
            right = at < end
            while at < end:
                at += 1 + self._message[at]
            right = right and at == end
        else:
            self._opaque.append(at)
            self._opaque_ends.append(end)
            return
        if not right:
            raise Malformed("data of the wrong length")

    def _name(self, at: int) -> int:
        """The end of the name at `at`; its length is checked, pointers followed.

        Each place is walked once: of all that a name begins with or leads to, its length from there
        is remembered, and how many pointers follow.
        """
        message, known = self._message, self._known
        if message[at] >= _POINTER:  # most are a pointer to a name seen before
            target = (message[at] & _LABEL_AT_MOST) << 8 | message[at + 1]
            if target < at and target in known:
                self._remember(at, known[target] + _HOP)
                return at + 2
        walked: list[tuple[int, int]] = []
        length, after, start, limit = 0, 0, at, len(message)
        while not (after and at in known):
            size = message[at]
            walked.append((at, length))
            if size == 0:
                length += 1
                after = after or at + 1
            elif size <= _LABEL_AT_MOST:
                length += size + 1
                at += size + 1
            elif size >= _POINTER:
                length += _HOP
                after = after or at + 2
                at = (size & _LABEL_AT_MOST) << 8 | message[at + 1]
                if not _HEADER <= at < start:  # only back, so it ends
                    raise Malformed("a pointer that does not lead back")
                start, limit = at, start if at in known else self._end_of_data(at)
            else:
                raise Malformed("a label of a kind that does not exist")
            if size == 0:
                break
            if at >= limit or length & _LENGTH > _NAME_AT_MOST or length >= _HOPS_AT_MOST:
                raise Malformed("a name does not end where it should")
        else:
            length += known[at]
        for place, before in walked:
            self._remember(place, length - before)
        return after

    def _end_of_data(self, at: int) -> int:
        """The end of the data around `at` that were not looked at, or 0 if there are none.

        A name may also lead there. If it led to a TTL, which changes, it would not stay what it is.
        """
        number = bisect_right(self._opaque, at)
        return self._opaque_ends[number - 1] if number else 0

    def _remember(self, at: int, length: int) -> None:
        if length & _LENGTH > _NAME_AT_MOST or length >= _HOPS_AT_MOST:
            raise Malformed("a name is too long")
        self._known[at] = length

    def life(self, code: int) -> int:
        """Seconds for which the answer may be kept."""
        if code == NOERROR and self._answers and self.counts[0]:
            return self._lowest
        if code in (NOERROR, NXDOMAIN) and self.negative is not None:  # RFC 2308, section 5
            return min(self._lowest, self.negative, _NEGATIVE_AT_MOST)
        return 0


def make_reply(query: Query, answer: Answer, age: int = 0) -> bytes:
    """The message with an answer for who asked; what does not fit is cut off (TC).

    As many answers as fit stay, since musl before 1.2.4 asks nobody by TCP.

    Args:
        age: whole seconds since the answer came.
    """
    opt = _opt(answer.code >> 4, dnssec=query.dnssec) if query.edns else b""
    code = answer.code if query.edns or answer.code <= 15 else SERVFAIL
    counts, records = answer.counts, answer.records
    room = query.most - _HEADER - len(query.question) - len(opt)
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
    return b"\0" + _record.pack(_OPT, UDP_AT_MOST, ttl, 0)
