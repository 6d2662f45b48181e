"""The addresses in the answers of servers: those to which the question leads, and no others."""

from __future__ import annotations

import random
from contextlib import suppress

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest

from watcher.names.opening.answered import ADDRESSES_AT_MOST, Unreadable, read
from watcher.names.wire.query import Query, parse

_MOST = 1800


def question(name: str = "far.example", kind: str = "A") -> Query:
    return parse(dns.message.make_query(name, kind).to_wire(), tcp=True)


def answer(query: Query, *records: str, extra: tuple[str, ...] = ()) -> bytes:
    response = dns.message.make_response(dns.message.from_wire(query.message))
    for section, texts in ((response.answer, records), (response.additional, extra)):
        for text in texts:
            name, ttl, kind, data = text.split(" ", 3)
            section.append(dns.rrset.from_text(name, int(ttl), "IN", kind, data))
    return response.to_wire(max_size=65535)


def test_addresses_are_found_through_aliases_in_any_order() -> None:
    query = question()
    message = answer(
        query, "third.example. 30 A 198.51.100.7", "SECOND.example. 5 CNAME Third.example.",
        "far.EXAMPLE. 9999 CNAME second.example.", "other.example. 60 A 192.0.2.66",
        "third.example. 30 A 198.51.100.8", "far.example. 60 TXT text",
        "third.example. 30 AAAA 2001:db8::66", extra=("far.example. 60 A 192.0.2.67",),
    )  # fmt: skip
    given, found = read(message, query, _MOST)
    assert sorted(found) == [("198.51.100.7", 30), ("198.51.100.8", 30)]
    ttls = {records.ttl for records in dns.message.from_wire(given).answer}
    assert ttls == {30, 5, _MOST, 60}


def test_both_families_and_nothing() -> None:
    query = question(kind="AAAA")
    assert read(answer(query, "far.example. 7 AAAA ::1"), query, _MOST)[1] == (("::1", 7),)
    assert read(answer(query), query, _MOST)[1] == ()
    assert read(answer(query, "far.example. 7 CNAME far.example."), query, _MOST)[1] == ()


def test_ttls_are_lowered_and_addresses_are_so_many() -> None:
    query = question()
    many = [f"far.example. {10**9} A 198.51.{number}.1" for number in range(100)]
    given, found = read(answer(query, *many), query, _MOST)
    assert [ttl for _, ttl in found] == [_MOST] * ADDRESSES_AT_MOST
    assert dns.message.from_wire(given).answer[0].ttl == _MOST


def following(message: dns.message.Message) -> set[str]:
    """The addresses of the name that was asked for, and of those to which its aliases lead."""
    found: set[str] = set()
    name = message.question[0].name
    for _ in range(len(message.answer) + 1):
        for records in message.answer:
            if records.name == name and records.rdtype == dns.rdatatype.A:
                found.update(data.to_text() for data in records)
        aliases = [
            records[0].target for records in message.answer
            if records.name == name and records.rdtype == dns.rdatatype.CNAME
        ]  # fmt: skip
        if not aliases:
            break
        (name,) = aliases
    return found


@pytest.mark.parametrize("seed", range(20))
def test_it_is_read_as_dnspython_reads_it_or_not_at_all(seed: int) -> None:
    rng = random.Random(seed)
    names = ["far.example.", "b.far.example.", "c.example.", "d.c.example."]
    for _ in range(40):
        records = [
            f"{rng.choice(names)} 5 A 198.51.100.{rng.randint(1, 9)}"
            if rng.random() < 0.6
            else f"{owner} 5 CNAME {rng.choice(names)}"
            for owner in rng.sample(names, len(names))
        ]
        query = question()
        message = answer(query, *records)
        expected = following(dns.message.from_wire(message))
        assert {address for address, _ in read(message, query, _MOST)[1]} == expected, records
        broken = bytearray(message)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(12, len(broken))] = rng.randrange(256)
        with suppress(Unreadable):
            read(bytes(broken[: rng.randint(12, len(broken))]), query, _MOST)
