"""A question as it came, in the terms in which it is answered or passed on."""

from __future__ import annotations

from typing import Final

from dns.exception import DNSException
from dns.name import root
from dns.wire import Parser
from msgspec import Struct

from watcher.names.wire.numbers import (
    BADVERS,
    FORMERR,
    HEADER,
    LABEL_AT_MOST,
    NAME_AT_MOST,
    NOTIMP,
    OPT,
    TCP_AT_MOST,
    UDP_AT_MOST,
    UDP_WITHOUT_EDNS,
)

_LONGEST: Final = 4096
"""Bytes of a question: a name, and options of EDNS such as padding (RFC 8467)."""

_ONE_QUESTION: Final = b"\0\1\0\0\0\0\0\0"
_AND_OPT: Final = b"\0\1\0\0\0\0\0\1"
_OPT: Final = b"\0\0\x29"
_OPT_LENGTH: Final = 11
_UNUSUAL_AT_MOST: Final = 8
"""Records of a question beside an OPT alone; what else there may be is a signature (RFC 8945)."""


class Query(Struct, frozen=True):
    """One question.

    Attributes:
        message: the whole message, as it came.
        id: its first two bytes.
        question: name, type and class as they stand in it; the name is in the case of who asks.
        name: the name's labels in lower case, without the root.
        type, class_: numbers, as in the registries of IANA.
        recursion: RD, it wants to know what others have to be asked for.
        authentic: AD, it understands that bit of an answer (RFC 6840, section 5.7).
        checked: CD, it checks signatures itself.
        edns: whether it has an OPT record (RFC 6891).
        dnssec: DO, it wants signatures (RFC 3225).
        most: bytes of the longest answer that it takes.
        key: the question without its id and without the options of EDNS, which change nothing of
            our answers; equal keys have equal answers. Empty if it is not worth remembering.
    """

    message: bytes
    id: bytes
    question: bytes
    name: tuple[bytes, ...]
    type: int
    class_: int
    recursion: bool
    authentic: bool
    checked: bool
    edns: bool
    dnssec: bool
    most: int
    key: bytes = b""


class NoQuestion(Exception):
    """A message that may not be answered: it is an answer, or has no header."""


class BadQuestion(Exception):
    """A message that is no question which is understood.

    Args:
        code: what is answered: FORMERR, NOTIMP or BADVERS.
        question: the question, if it could be read.
    """

    def __init__(self, code: int, question: bytes = b"") -> None:
        super().__init__(code)
        self.code = code
        self.question = question


def parse(message: bytes, *, tcp: bool) -> Query:
    """The question in `message`.

    What a resolver sends, a question and perhaps an OPT record, is read here, in 2 µs: dnspython
    takes 24, in which nobody else is answered. What else may be part of a question, dnspython has
    to find whole.

    Raises:
        NoQuestion: there is nothing to answer.
        BadQuestion: an error is the answer.
    """
    if len(message) < HEADER or message[2] & 0x80:
        raise NoQuestion
    flags, more = message[2], message[3]
    if flags & 0x78:  # the opcode
        raise BadQuestion(NOTIMP)
    if message[4:6] != b"\0\1" or len(message) > _LONGEST:
        raise BadQuestion(FORMERR)
    name, end = _name(message)
    question = message[HEADER:end]
    records = message[4:HEADER]
    opt = b""
    if records == _AND_OPT and message[end : end + 3] == _OPT:
        opt = message[end : end + _OPT_LENGTH].ljust(_OPT_LENGTH, b"\xff")
        options = message[end + _OPT_LENGTH :]
        if int.from_bytes(opt[9:]) != len(options) or not _are_options(options):
            raise BadQuestion(FORMERR)
        key = message[2:HEADER] + question + opt[:9] + b"\0\0"
    elif records == _ONE_QUESTION and len(message) == end:
        key = message[2:]
    else:
        opt = _opt_of_unusual(message, end)
        key = b""
    if opt and opt[6]:
        raise BadQuestion(BADVERS, question)
    most = TCP_AT_MOST
    if not tcp:
        most = min(max(int.from_bytes(opt[3:5]), UDP_WITHOUT_EDNS), UDP_AT_MOST)
    return Query(
        message, message[:2], question, name,
        int.from_bytes(question[-4:-2]), int.from_bytes(question[-2:]),
        bool(flags & 1), bool(more & 0x20), bool(more & 0x10),
        bool(opt), bool(opt and opt[7] & 0x80), most, key,
    )  # fmt: skip


def _name(message: bytes) -> tuple[tuple[bytes, ...], int]:
    """The labels of the question's name in lower case, and where the question ends.

    Nothing stands before it that a pointer could lead to (RFC 1035, section 4.1.4).
    """
    labels = []
    at, length = HEADER, len(message)
    while at < length and (size := message[at]):
        if size > LABEL_AT_MOST:
            raise BadQuestion(FORMERR)
        labels.append(message[at + 1 : at + 1 + size].lower())
        at += 1 + size
    end = at + 5
    if end > length or at + 1 - HEADER > NAME_AT_MOST:
        raise BadQuestion(FORMERR)
    return tuple(labels), end


def _are_options(data: bytes) -> bool:
    """Whether `data` is a row of options: each has a code, its length, and so many bytes."""
    at, length = 0, len(data)
    while at < length:
        at += 4 + int.from_bytes(data[at + 2 : at + 4])
    return at == length


def _opt_of_unusual(message: bytes, at: int) -> bytes:
    """The fixed part of the OPT record of a message with other records; empty if it has none.

    The records begin `at` there. What is in them does not matter: to have dnspython read a record,
    it would look for a module for its type, and remember each pair of class and type
    (`dns.rdata.get_rdata_class`).
    """
    counts = [int.from_bytes(message[start : start + 2]) for start in (6, 8, 10)]
    if sum(counts) > _UNUSUAL_AT_MOST or len(message) > UDP_AT_MOST:
        raise BadQuestion(FORMERR)  # to read very many would keep others waiting
    opts = []
    parser = Parser(message, at)
    try:
        for number in range(sum(counts)):
            name = parser.get_name()
            start = parser.current
            kind, _, _, length = parser.get_struct("!HHIH")
            data = parser.get_bytes(length)
            if kind == OPT:
                if name != root or number < sum(counts[:2]) or not _are_options(data):
                    raise BadQuestion(FORMERR)
                opts.append(b"\0" + message[start : start + _OPT_LENGTH - 1])
    except DNSException as error:
        raise BadQuestion(FORMERR) from error
    if parser.remaining() or len(opts) > 1:
        raise BadQuestion(FORMERR)
    return b"".join(opts)
