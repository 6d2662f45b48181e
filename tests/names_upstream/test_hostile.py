"""What servers, those who forge their answers, and those who ask can do to others: nothing."""

from __future__ import annotations

import dns.message
import dns.rcode
import pytest

from tests.names_upstream.conftest import AskingMaker
from tests.support.host import BEYOND
from tests.support.upstreams import (
    Asking,
    address,
    answer,
    is_probe,
    make_query,
    values,
)
from watcher.names.upstream.forwarder import (
    ALL_AT_MOST,
    EACH_AT_MOST,
    EACH_AT_MOST_WHEN_BUSY,
    TCP_ALL_AT_MOST,
    TCP_EACH_AT_MOST,
    TCP_EACH_AT_MOST_WHEN_BUSY,
)
from watcher.names.upstream.inquiry import Times
from watcher.names.upstream.rate import EACH, EACH_WHEN_BUSY, Rate

FIRST, SECOND = "127.0.0.11", "127.0.0.12"
WEB = make_query("web.example")
TCP = make_query("web.example", tcp=True)


def nothing(_: bytes) -> list[bytes]:
    return []


def good(message: bytes) -> list[bytes]:
    return [address(message)]


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2) + message


def forged(message: bytes) -> list[bytes]:
    """Messages of one who does not know the question, or has got it wrong."""
    lie = address(message, "203.0.113.66")
    other = make_query("evil.example", number=int.from_bytes(message[:2])).message
    return [
        bytes([message[0] ^ 1]) + lie[1:],
        address(other, "203.0.113.66"),
        message,
        lie[:40],
        lie + b"junk",
        b"",
        b"\xff",
    ]


def test_what_is_no_answer_is_ignored(asking: Asking) -> None:
    asking.peer(FIRST, lambda message: [*forged(message), address(message)])
    assert values(asking.ask(WEB, FIRST)) == ["198.51.100.7"]
    assert values(asking.ask(WEB, FIRST)) == ["198.51.100.7"]


def test_nobody_else_can_answer(asking: Asking) -> None:
    """Another address, though it knows the id and the port."""
    first = asking.peer(FIRST, nothing)
    second = asking.peer(SECOND, nothing)

    def leak(message: bytes) -> list[bytes]:
        second._sources.append(first._sources[-1])
        second.send(address(message, "203.0.113.66"))
        return [address(message)]

    first.udp = leak
    assert values(asking.ask(WEB, FIRST)) == ["198.51.100.7"]


def test_ports_and_ids_differ(asking: Asking) -> None:
    peer = asking.peer(FIRST, good)
    for number in range(20):
        asking.ask(make_query(f"n{number}.example"), FIRST)
    assert len({source[1] for source in peer._sources}) > 10
    assert len({message[:2] for message in peer.asked}) > 10


def test_who_floods_a_question_with_lies_has_another_server_asked(asking: Asking) -> None:
    asking.peer(FIRST, lambda message: [answer(message)] if is_probe(message) else [b"lie"] * 64)
    asking.peer(SECOND, good)
    assert values(asking.ask(WEB, FIRST, SECOND)) == ["198.51.100.7"]
    assert asking.said == []


@pytest.mark.parametrize("reply", [[], [b"\0"], [b"\xff\xff" + bytes(2000)], [framed(b"lie")]])
def test_a_server_that_breaks_off_by_tcp(asking: Asking, reply: list[bytes]) -> None:
    asking.peer(FIRST, good, lambda _: reply)
    asking.peer(SECOND, good, lambda message: [framed(b"first"), framed(address(message))])
    assert values(asking.ask(TCP, FIRST, SECOND)) == ["198.51.100.7"]
    assert asking.said == []


def test_a_server_without_tcp_is_still_asked_by_udp(asking: Asking) -> None:
    asking.peer(FIRST, good)
    assert asking.ask(TCP, FIRST).rcode() == dns.rcode.SERVFAIL
    assert values(asking.ask(WEB, FIRST)) == ["198.51.100.7"]
    assert values(asking.ask(TCP, FIRST)) == ["198.51.100.7"]  # that is known now
    assert asking.said == []


def test_who_floods_names_that_nobody_answers_harms_nobody_else(make_asking: AskingMaker) -> None:
    asking = make_asking(times=Times(each=4.0, all=8.0))  # to begin so many takes a while
    asking.peer(FIRST, lambda message: good(message) if b"\3web" in message else [])
    askers = range(ALL_AT_MOST // 2 // EACH_AT_MOST + 1)
    questions = [
        (make_query(f"n{number}.a{asker}.example"), asker)
        for asker in askers
        for number in range(EACH_AT_MOST + 1)
    ]
    floods = asking.begin_all(questions, FIRST)
    refused = [flood for flood in floods if flood.done()]
    assert len(refused) == len(floods) - ALL_AT_MOST // 2 - EACH_AT_MOST_WHEN_BUSY
    assert values(asking.ask(WEB, FIRST, asker="web")) == ["198.51.100.7"]
    others = [make_query(f"n{n}.example") for n in range(EACH_AT_MOST_WHEN_BUSY + 1)]
    begun = [asking.begin(query, FIRST, asker="another") for query in others]
    assert [future.done() for future in begun] == [False] * EACH_AT_MOST_WHEN_BUSY + [True]
    assert {message.rcode() for message in asking.wait(*floods, *begun)} == {dns.rcode.SERVFAIL}
    assert asking.counts.under_way == 0


def test_all_together_are_bounded(make_asking: AskingMaker) -> None:
    asking = make_asking(times=Times(each=4.0, all=5.0))  # to begin so many takes a while
    peer = asking.peer(FIRST, nothing)
    query = make_query("a.example")
    begun = asking.begin_all(((query, asker) for asker in range(ALL_AT_MOST + 1)), FIRST)
    assert [future.done() for future in begun] == [False] * ALL_AT_MOST + [True]
    asking.until(lambda: bool(peer.asked))
    assert len(peer.asked) == 1
    peer.send(address(peer.asked[0]))
    assert all(values(message) for message in asking.wait(*begun[:-1]))
    assert values(asking.ask(WEB, SECOND, asker="web")) == []


def test_connections_are_bounded(asking: Asking) -> None:
    asking.peer(FIRST, nothing, lambda message: [framed(address(message))])
    queries = [make_query(f"n{n}.example", tcp=True) for n in range(TCP_EACH_AT_MOST + 1)]
    begun = [asking.begin(query, FIRST) for query in queries]
    assert [future.done() for future in begun] == [False] * TCP_EACH_AT_MOST + [True]
    answers = asking.wait(*begun)
    assert [bool(values(message)) for message in answers] == [True] * TCP_EACH_AT_MOST + [False]
    assert values(asking.ask(queries[-1], FIRST)) == ["198.51.100.7"]


def test_many_who_take_all_connections_leave_some_for_others(asking: Asking) -> None:
    asking.peer(FIRST, nothing, lambda _: [])
    greedy = [
        (make_query(f"n{n}.a{asker}.example", tcp=True), asker)
        for asker in range(TCP_ALL_AT_MOST // TCP_EACH_AT_MOST)
        for n in range(TCP_EACH_AT_MOST)
    ]
    asking.begin_all(greedy, FIRST)
    queries = [make_query(f"n{n}.example", tcp=True) for n in range(TCP_EACH_AT_MOST_WHEN_BUSY + 1)]
    begun = [asking.begin(query, FIRST, asker="another") for query in queries]
    assert [future.done() for future in begun] == [False] * TCP_EACH_AT_MOST_WHEN_BUSY + [True]


def test_questions_in_a_second() -> None:
    rate = Rate()
    assert [rate.take("a", 7.5) for _ in range(EACH + 1)] == [True] * EACH + [False]
    assert [rate.take("b", 7.9) for _ in range(EACH + 1)] == [True] * EACH + [False]
    busy = [rate.take("c", 7.9) for _ in range(EACH_WHEN_BUSY + 1)]
    assert busy == [True] * EACH_WHEN_BUSY + [False]
    assert all(rate.take("a", 8.0) for _ in range(EACH))


def test_the_same_question_is_asked_once_and_each_gets_an_answer_of_their_own(
    asking: Asking,
) -> None:
    peer = asking.peer(FIRST, nothing)
    queries = [make_query(name, number=n) for n, name in enumerate(("web.example", "WEB.Example"))]
    begun = [
        asking.begin(query, FIRST, asker=asker) for query in queries for asker in ("a", "a", "b")
    ]
    asking.until(lambda: bool(peer.asked))
    peer.send(address(peer.asked[0]))
    for n, message in enumerate(asking.wait(*begun)):
        asked = dns.message.from_wire(queries[n // 3].message)
        assert message.id == asked.id
        assert message.question[0].to_text() == asked.question[0].to_text()
        assert values(message) == ["198.51.100.7"]
    assert len(peer.asked) == 1


def test_a_server_that_asks_us_ends_in_no_loop(asking: Asking) -> None:
    """For example one in a container, whose own server we are."""
    asked = []

    def circle(_: bytes) -> list[bytes]:
        asked.append(asking.begin(WEB, FIRST, asker="server"))
        return []

    asking.peer(FIRST, circle)
    assert asking.ask(WEB, FIRST).rcode() == dns.rcode.SERVFAIL
    assert len(asked) < 8


def test_a_server_that_comes_and_goes_does_not_fill_the_log(asking: Asking) -> None:
    for number in range(2):
        query = make_query(f"n{number}.example")
        under_way = asking.begin(query, FIRST, SECOND)
        assert asking.wait(under_way)[0].rcode() == dns.rcode.SERVFAIL
        peer = asking.peer(FIRST, good)
        assert values(asking.ask(query, FIRST)) == ["198.51.100.7"]
        peer.close()
    assert [server for _, server in asking.said] == [FIRST, SECOND, FIRST]


def test_answers_of_some_servers_are_not_told_to_who_asks_others(asking: Asking) -> None:
    asking.peer(FIRST, lambda message: [address(message, "203.0.113.66")])
    asking.peer(BEYOND, good, place=asking.host.beyond)
    assert values(asking.ask(WEB, FIRST, asker="evil")) == ["203.0.113.66"]
    assert values(asking.ask(WEB, BEYOND)) == ["198.51.100.7"]


def test_what_was_asked_for_is_kept_and_nothing_else(asking: Asking) -> None:
    def more(message: bytes) -> list[bytes]:
        evil = "bank.example. 900 IN A 203.0.113.66"
        return [answer(message, "web.example. 300 IN A 198.51.100.7", evil, authority=evil)]

    peer = asking.peer(BEYOND, more, place=asking.host.beyond)
    for _ in range(3):
        assert "198.51.100.7" in values(asking.ask(WEB, BEYOND))
    assert len(peer.asked) == 1
    peer.udp = good
    assert values(asking.ask(make_query("bank.example"), BEYOND)) == ["198.51.100.7"]
