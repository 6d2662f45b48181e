"""The walk over an answer: what it takes, dnspython takes; and it costs the same for each byte."""

from __future__ import annotations

import itertools
import struct

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.upstreams import answer, make_query
from watcher.names.upstream.messages import (
    Answer,
    folded,
    is_answer,
    make_question,
    make_reply,
    read_answer,
)
from watcher.names.upstream.walk import Malformed
from watcher.names.wire.numbers import UDP_AT_MOST
from watcher.names.wire.query import Query

QUERY = make_query("Web.example", edns=True, number=7)
QUESTION = folded(QUERY.question)
ASKED = QUERY.id + make_question(QUERY, edns=True)
RECORDS = (
    "web.example. 300 IN CNAME www.example.",
    "www.example. 200 IN A 198.51.100.7",
    "www.example. 200 IN AAAA 2001:db8::7",
    "www.example. 100 IN MX 10 mail.web.example.",
    "www.example. 100 IN SRV 1 2 53 mail.web.example.",
    'www.example. 100 IN TXT "one" "two"',
    "www.example. 100 IN HTTPS 1 . alpn=h2",
)
SOA = "example. 900 IN SOA ns.example. root.example. 1 2 3 4 60"


def whole(*records: str, authority: str = "", rcode: int = 0) -> bytes:
    return answer(ASKED, *records, authority=authority, rcode=rcode)


def read(message: bytes) -> Answer:
    return read_answer(message, QUESTION)


def test_what_is_asked_is_the_question_alone() -> None:
    client = dns.message.make_query(
        "wEb.Example", "A", use_edns=0, want_dnssec=True, payload=4096,
        options=[dns.edns.CookieOption(b"12345678", b""), dns.edns.ECSOption("192.0.2.0", 24)],
    )  # fmt: skip
    client.flags |= dns.flags.CD
    query = make_query("wEb.Example", dnssec=True, flags=int(client.flags))
    asked = dns.message.from_wire(b"\0\1" + make_question(query, edns=True))
    assert asked.question[0].to_text() == "web.example. IN A"
    assert asked.flags == client.flags
    assert (asked.edns, asked.ednsflags, asked.payload) == (0, dns.flags.DO, UDP_AT_MOST)
    assert asked.options == ()


def test_an_answer_is_given_as_it_came() -> None:
    message = whole(*RECORDS, authority=SOA)
    given_ = dns.message.from_wire(make_reply(QUERY, read(message)))
    came = dns.message.from_wire(message)
    assert (given_.answer, given_.authority) == (came.answer, came.authority)
    assert given_.question[0].name.labels[0] == b"Web"
    assert given_.edns == 0
    aged = dns.message.from_wire(make_reply(QUERY, read(message), 150))
    assert [rrset.ttl for rrset in aged.answer] == [150, 50, 50, 0, 0, 0, 0]


def test_what_does_not_fit_is_cut_between_records() -> None:
    records = [f"web.example. 300 IN A 198.51.100.{n}" for n in range(200)]
    answer_ = read(whole(*records))
    for query in (QUERY, make_query("web.example")):
        wire = make_reply(query, answer_, 10)
        assert query.most - 16 < len(wire) <= query.most
        cut = dns.message.from_wire(wire)
        assert cut.flags & dns.flags.TC
        assert {rrset.ttl for rrset in cut.answer} == {290}
    all_ = dns.message.from_wire(make_reply(make_query("web.example", tcp=True), answer_))
    assert sum(map(len, all_.answer)) == 200
    assert not all_.flags & dns.flags.TC


@pytest.mark.parametrize(
    ("message", "life"),
    [
        (whole(RECORDS[0], RECORDS[1]), 200),
        (whole("web.example. 0 IN A 198.51.100.7"), 0),
        (whole("web.example. 3000000 IN A 198.51.100.7"), 86400),
        (whole(authority=SOA), 60),
        (whole(rcode=3, authority=SOA), 60),
        (whole(RECORDS[0], authority=SOA), 60),
        (whole(rcode=3, authority=SOA.replace(" 60", " 7200").replace("900", "7200")), 3600),
        (whole(RECORDS[0]), 0),
        (whole(), 0),
        (whole(rcode=3), 0),
        (whole(rcode=2, authority=SOA), 0),
        (whole(rcode=5, authority=SOA), 0),
    ],
)
def test_how_long_it_may_be_kept(message: bytes, life: int) -> None:
    assert read(message).life == life


def test_a_ttl_that_is_negative_is_none() -> None:
    message = bytearray(whole("web.example. 300 IN A 198.51.100.7"))
    at = message.index(struct.pack("!I", 300))
    message[at] |= 0x80
    assert read(bytes(message)).life == 0


def test_what_is_no_answer_to_the_question() -> None:
    good = whole(RECORDS[1])
    assert is_answer(good, QUERY.id, QUESTION)
    assert is_answer(good[:12] + good[12:24].upper() + good[24:], QUERY.id, QUESTION)
    others = {
        "another id": b"\xff" + good[1:],
        "a question": good[:2] + bytes([good[2] & 0x7F]) + good[3:],
        "another opcode": good[:2] + bytes([good[2] | 0x20]) + good[3:],
        "another name": good.replace(b"\3web", b"\3wab", 1),
        "another type": good[:25] + b"\0\x1c" + good[27:],
        "no question": good[:2] + b"\x81\x80" + bytes(8) + good[12:],
        "two questions": good[:5] + b"\2" + good[6:],
        "too short": good[:11],
        "nothing": b"",
    }
    for what, message in others.items():
        assert not is_answer(message, QUERY.id, QUESTION), what


def record(owner: bytes, kind: int, data: bytes, ttl: int = 60) -> bytes:
    return owner + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


def made(*records: bytes, counts: tuple[int, int, int] | None = None, flags: int = 0x8180) -> bytes:
    numbers = counts or (len(records), 0, 0)
    head = QUERY.id + struct.pack("!HHHHH", flags, 1, *numbers)
    return head + QUESTION + b"".join(records)


def pointer(at: int) -> bytes:
    return struct.pack("!H", 0xC000 | at)


def chain(length: int) -> bytes:
    """Pointers, each to the one before it, at the beginning of the first record's data."""
    return OWNER + b"".join(pointer(AT + 12 + 2 * n) for n in range(length))


AT = 12 + len(QUESTION)
OWNER = b"\xc0\x0c"


@pytest.mark.parametrize(
    "message",
    [
        made(record(OWNER, 1, b"\1\2\3")),
        made(record(OWNER, 28, bytes(15))),
        made(record(OWNER, 5, b"\xc0\x0c.")),
        made(record(OWNER, 5, b"")),
        made(record(OWNER, 15, b"\0")),
        made(record(OWNER, 6, b"\xc0\x0c\xc0\x0c" + bytes(19))),
        made(record(OWNER, 16, b"\5abc")),
        made(record(OWNER, 16, b"")),
        made(record(OWNER, 16, bytes(60_000))),
        made(*itertools.repeat(record(b"\1a" * 126 + b"\0", 999, b""), 240)),
        made(record(pointer(AT), 1, bytes(4))),
        made(record(pointer(AT + 40), 1, bytes(4))),
        made(record(b"\xc0\x00", 1, bytes(4))),
        made(record(b"\1a" + pointer(AT), 1, bytes(4))),
        made(record(b"\x40", 1, bytes(4))),
        made(record(b"\x3f" + b"a" * 63, 1, bytes(4))),
        made(record(4 * (b"\x3f" + b"a" * 63) + b"\0", 1, bytes(4))),
        made(record(OWNER, 1, bytes(4)), b"junk", counts=(1, 0, 0)),
        made(record(OWNER, 1, bytes(4)), counts=(2, 0, 0)),
        made(record(b"\0", 41, b"")),
        made(counts=(65535, 65535, 65535)),
        made(*itertools.repeat(record(b"\0", 99, b""), 5000)),
        made(b"\xc0"),
        made(record(OWNER, 1, bytes(4), ttl=0), record(pointer(AT + 6), 1, bytes(4))),
        made(record(OWNER, 999, chain(17)), record(pointer(AT + 12 + 2 * 17), 1, bytes(4))),
    ],
)
def test_what_cannot_be_read_is_no_answer(message: bytes) -> None:
    with pytest.raises(Malformed):
        read(message)
    assert is_answer(message, QUERY.id, QUESTION)
    cut = read(message[:2] + bytes([message[2] | 2]) + message[3:])  # TC
    dns.message.from_wire(make_reply(QUERY, cut))


def test_the_longest_message_of_the_most_awkward_names() -> None:
    first = record(OWNER, 999, chain(14))
    other = record(pointer(AT + 12 + 2 * 14), 1, bytes(4))
    message = made(first, *itertools.repeat(other, (65535 - AT - len(first)) // 16))
    assert 65535 - 16 < len(message) <= 65535
    reply = make_reply(make_query("web.example", tcp=True), read(message))
    assert len(dns.message.from_wire(reply).answer) == 2


MESSAGES = [whole(*RECORDS, authority=SOA), whole(rcode=3, authority=SOA), whole(*RECORDS[:2])]


@given(
    message=st.sampled_from(MESSAGES),
    changes=st.lists(st.tuples(st.integers(12 + 17, 400), st.binary(min_size=1, max_size=3))),
    end=st.integers(0, 400),
    whole_=st.booleans(),
)
def test_what_it_takes_others_can_read(
    message: bytes, changes: list[tuple[int, bytes]], end: int, whole_: bool
) -> None:
    changed = bytearray(message)
    for place, data in changes:
        at = place % len(changed)
        changed[at : at + len(data)] = data
    hostile = bytes(changed if whole_ else changed[:end])
    if not is_answer(hostile, QUERY.id, QUESTION):
        return
    try:
        answer_ = read(hostile)
    except Malformed:
        return
    for age, query in itertools.product((0, 100), (QUERY, make_query("web.example", tcp=True))):
        reply = make_reply(query, answer_, age)
        assert len(reply) <= query.most
        assert make_query_of(query).is_response(dns.message.from_wire(plain(query, reply, answer_)))


def plain(query: Query, reply: bytes, answer_: Answer) -> bytes:
    """A reply where types are unknown whose data are not looked at."""
    known = {1, 2, 5, 6, 12, 15, 16, 28, 33, 39}
    changed = bytearray(reply)
    end = len(reply) - 11 * query.edns
    for at in (AT + ttl - 4 for ttl in answer_.ttls):
        if at + 10 <= end and not (
            int.from_bytes(reply[at : at + 2]) in known and reply[at + 2 : at + 4] == b"\0\1"
        ):
            changed[at : at + 4] = b"\xff\0\0\1"
    return bytes(changed)


def make_query_of(query: Query) -> dns.message.Message:
    return dns.message.from_wire(query.message)
