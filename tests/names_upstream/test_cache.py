"""Answers are kept within their time, and no more of them than there is room for."""

from __future__ import annotations

import dns.rcode

from tests.names_upstream.conftest import AskingMaker
from tests.support.host import BEYOND
from tests.support.upstreams import Asking, address, answer, make_query, values
from watcher.names.counts import Counts
from watcher.names.upstream.cache import Cache
from watcher.names.upstream.messages import Answer

SOA = "example. 900 IN SOA ns.example. root.example. 1 2 3 4 60"


EMPTY = Answer(2, 0, True, (0, 0, 0), b"", (), 0)


def big(size: int) -> Answer:
    return Answer(0, 0, True, (0, 0, 0), bytes(size), (), 60)


def test_what_was_not_asked_for_longest_goes_first() -> None:
    counts = Counts()
    cache = Cache(counts, entries=3, size=100_000)
    for key in "abc":
        cache.put(key, EMPTY, 60)
    assert cache.get("a") == (EMPTY, 0)
    cache.put("d", EMPTY, 60)
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]
    assert counts.cache_entries == 3


def test_bytes_are_bounded() -> None:
    counts = Counts()
    cache = Cache(counts, size=20_000)
    for number in range(100):
        cache.put(number, big(4000), 60)
    assert 3 <= counts.cache_entries <= 5
    assert counts.cache_bytes <= 20_000
    cache.put("huge", big(65_000), 60)
    assert cache.get("huge") is None
    cache = Cache(counts)
    for number in range(100):
        cache.put(number % 7, big(number), 60)
    assert counts.cache_bytes == sum(600 + number for number in range(93, 100))


def test_what_has_no_life_is_not_kept_and_what_is_over_is_forgotten() -> None:
    counts = Counts()
    cache = Cache(counts)
    cache.put("a", EMPTY, 0)
    cache.put("b", EMPTY, 1e-9)
    assert cache.get("a") is cache.get("b") is None
    assert counts.cache_entries == counts.cache_bytes == 0


def test_questions_that_may_have_other_answers_are_kept_apart(asking: Asking) -> None:
    def serve(message: bytes) -> list[bytes]:
        if b"\0\x1c\0\1" in message:
            return [answer(message, "web.example. 300 IN AAAA 2001:db8::7")]
        return [address(message)]

    peer = asking.peer(BEYOND, serve, place=asking.host.beyond)
    queries = [
        make_query("web.example"),
        make_query("web.example", "AAAA"),
        make_query("web.example", edns=True),
        make_query("web.example", dnssec=True),
        make_query("web.example", flags=0x120),
        make_query("web.example", flags=0x110),
        make_query("web.example", flags=0),
    ]
    for query in [*queries, *queries]:
        asking.ask(query, BEYOND)
    assert len({message[2:] for message in peer.asked}) == len(peer.asked) == len(queries)


def test_what_is_kept(asking: Asking) -> None:
    def serve(message: bytes) -> list[bytes]:
        if b"\2no" in message:
            return [answer(message, rcode=3, authority=SOA)]
        if b"\4nope" in message:
            return [answer(message, rcode=3)]
        if b"\5zero" in message:
            return [address(message, ttl=0)]
        return [answer(message, rcode=2)]

    peer = asking.peer(BEYOND, serve, place=asking.host.beyond)
    for name, asked in (("no", 1), ("nope", 2), ("zero", 2), ("bad", 2)):
        peer.asked.clear()
        for _ in range(2):
            asking.ask(make_query(f"{name}.example"), BEYOND)
        assert len(peer.asked) == asked, name


def test_a_server_on_this_host_knows_itself_how_long(make_asking: AskingMaker) -> None:
    """It is asked again after a moment, for it may know better: a VPN has come."""
    asking = make_asking()
    peer = asking.peer("127.0.0.11", lambda message: [address(message, ttl=3000)])
    query = make_query("web.example")
    found = asking.ask(query, "127.0.0.11")
    assert [rrset.ttl for rrset in found.answer] == [3000]
    assert found.rcode() == dns.rcode.NOERROR

    def asked_again() -> bool:
        asking.begin(query, "127.0.0.11")
        return len(peer.asked) > 1

    asking.until(asked_again)
    assert values(found) == ["198.51.100.7"]
