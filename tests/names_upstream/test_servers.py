"""Which server is asked, and what is done about those that have no answer."""

from __future__ import annotations

import resource

import dns.flags
import dns.message
import dns.rcode
import pytest

from tests.names_upstream.conftest import AskingMaker
from tests.support import traffic
from tests.support.host import BEYOND
from tests.support.upstreams import (
    Asking,
    address,
    answer,
    is_probe,
    make_query,
    values,
)
from tests.support.waiting import eventually

FIRST, SECOND, THIRD = "127.0.0.11", "127.0.0.12", "127.0.0.13"
WEB = make_query("web.example")
FAILS, REFUSES, ANSWERS = (
    ("name server fails", FIRST),
    ("name server is the name service itself", FIRST),
    ("name server answers again", FIRST),
)


def nothing(_: bytes) -> list[bytes]:
    return []


def good(message: bytes) -> list[bytes]:
    return [address(message)]


def alive(message: bytes) -> list[bytes]:
    """Answers nothing but that it is there."""
    return [answer(message)] if is_probe(message) else []


def test_a_closed_port_has_the_next_one_asked_at_once(asking: Asking) -> None:
    asking.peer(SECOND, good)
    for name in ("a.example", "b.example"):
        assert values(asking.ask(make_query(name), FIRST, SECOND)) == ["198.51.100.7"]
    assert asking.said == [FAILS]
    assert asking.counts.under_way == 0


def test_a_server_without_a_route_is_passed_over(asking: Asking) -> None:
    asking.peer(FIRST, good)
    asking.host.ip("route", "add", "unreachable", "198.51.100.0/24")
    assert values(asking.ask(WEB, "198.51.100.1", "fe80::1%nowhere", FIRST)) == ["198.51.100.7"]


@pytest.mark.parametrize("code", ["SERVFAIL", "REFUSED", "NOTIMP", "FORMERR"])
def test_a_better_answer_is_asked_for(asking: Asking, code: str) -> None:
    rcode = dns.rcode.from_text(code)
    first = asking.peer(FIRST, lambda message: [answer(message, rcode=rcode)])
    assert asking.ask(make_query("alone.example"), FIRST).rcode() == rcode
    assert len(first.asked) == 1
    asking.peer(SECOND, good)
    assert values(asking.ask(WEB, FIRST, SECOND)) == ["198.51.100.7"]
    assert asking.said == []


def test_a_server_that_asks_no_others_is_passed_over(asking: Asking) -> None:
    def refers(message: bytes) -> list[bytes]:
        wire = bytearray(answer(message))
        wire[3] &= 0x7F  # RA
        return [bytes(wire)]

    asking.peer(FIRST, refers)
    asking.peer(SECOND, good)
    assert values(asking.ask(WEB, FIRST, SECOND)) == ["198.51.100.7"]


def test_a_server_that_does_not_know_edns_is_asked_without(asking: Asking) -> None:
    def old(message: bytes) -> list[bytes]:
        if dns.message.from_wire(message).edns >= 0:
            return [message[:2] + b"\x80\x81" + bytes(8)]
        return [address(message)]

    peer = asking.peer(FIRST, old)
    found = asking.ask(make_query("web.example", dnssec=True), FIRST)
    assert values(found) == ["198.51.100.7"]
    assert found.edns == 0
    assert len(peer.asked) == 2


def test_a_silent_server_has_the_next_one_asked_and_is_asked_last_then(asking: Asking) -> None:
    silent = asking.peer(FIRST, nothing)
    asking.peer(SECOND, good)
    assert values(asking.ask(WEB, FIRST, SECOND)) == ["198.51.100.7"]
    asking.until(lambda: asking.said == [FAILS])
    before = len(silent.asked)
    assert values(asking.ask(make_query("b.example"), FIRST, SECOND)) == ["198.51.100.7"]
    assert len(silent.asked) == before
    silent.udp = good
    assert values(asking.ask(make_query("c.example"), FIRST)) == ["198.51.100.7"]
    assert asking.said == [FAILS, ANSWERS]


def test_names_that_nobody_answers_say_nothing_of_a_server(asking: Asking) -> None:
    """Or whoever runs a container could have others ask a second server that knows other names."""
    first = asking.peer(FIRST, alive)
    asking.peer(SECOND, good)
    assert values(asking.ask(WEB, FIRST, SECOND)) == ["198.51.100.7"]
    asking.until(lambda: any(map(is_probe, first.asked)))
    first.udp = lambda message: [address(message, "198.51.100.8")]
    assert values(asking.ask(make_query("b.example"), FIRST, SECOND)) == ["198.51.100.8"]
    assert asking.said == []


def test_a_slow_answer_counts_although_another_was_asked(asking: Asking) -> None:
    first = asking.peer(FIRST, alive)

    def slow(_: bytes) -> list[bytes]:
        first.send(address(first.asked[0]), to=0)
        return []

    asking.peer(SECOND, slow)
    assert values(asking.ask(WEB, FIRST, SECOND)) == ["198.51.100.7"]


def test_a_server_on_a_link(asking: Asking) -> None:
    for place, address_ in ((asking.host.here, "fe80::2"), (asking.host.beyond, "fe80::53")):
        place.ip("addr", "add", f"{address_}/64", "dev", "uplink", "nodad")
    asking.peer("::", good, place=asking.host.beyond)
    asking.resolv_conf.write_text("nameserver fe80::53%uplink\n")
    # The first packets of a new address may go astray.
    eventually(lambda: values(asking.ask(WEB)) == ["198.51.100.7"])


def test_without_descriptors_nothing_is_said_of_a_server(asking: Asking) -> None:
    asking.peer(FIRST, good)
    replies: list[bytes] = []
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with traffic.entered(asking.host.here.netns):
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
        try:
            asking.forwarder.ask(WEB, (FIRST,), "web", replies.append)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert dns.message.from_wire(replies[0]).rcode() == dns.rcode.SERVFAIL
    assert values(asking.ask(WEB, FIRST)) == ["198.51.100.7"]
    assert asking.said == []


def test_a_slow_server_that_does_not_know_edns(asking: Asking) -> None:
    def old(message: bytes) -> list[bytes]:
        if is_probe(message):
            return [answer(message)]
        return [] if dns.message.from_wire(message).edns >= 0 else good(message)

    def second(_: bytes) -> list[bytes]:
        first.send(first.asked[0][:2] + b"\x80\x81" + bytes(8), to=0)
        return []

    first = asking.peer(FIRST, old)
    asking.peer(SECOND, second)
    found = asking.ask(make_query("web.example", edns=True), FIRST, SECOND)
    assert values(found) == ["198.51.100.7"]
    assert asking.ask(make_query("b.example", edns=True), THIRD).rcode() == dns.rcode.SERVFAIL


def test_nobody_answers(asking: Asking) -> None:
    peer = asking.peer(FIRST, nothing)
    assert asking.ask(WEB, FIRST).rcode() == dns.rcode.SERVFAIL
    assert len([message for message in peer.asked if not is_probe(message)]) == 2
    asking.until(lambda: asking.said == [FAILS])


def test_we_are_not_asked_ourselves(make_asking: AskingMaker) -> None:
    asking = make_asking(is_ours={FIRST, "2001:db8::53"}.__contains__)
    asking.peer(SECOND, good)
    for name in ("a.example", "b.example"):
        found = asking.ask(make_query(name), f"::ffff:{FIRST}", "2001:DB8:0::53", SECOND)
        assert values(found) == ["198.51.100.7"]
    assert asking.said == [REFUSES, ("name server is the name service itself", "2001:db8::53")]
    assert asking.ask(make_query("c.example"), FIRST).rcode() == dns.rcode.SERVFAIL


def test_the_hosts_file_is_read_again_also_for_a_question_under_way(asking: Asking) -> None:
    asking.resolv_conf.write_text(f"nameserver {FIRST}\n")
    asking.peer(FIRST, alive)
    new = asking.host.base / "new"

    def told(message: bytes) -> list[bytes]:
        return [address(message)]

    asking.peer(SECOND, told)
    under_way = asking.begin(WEB)
    new.write_text(f"nameserver {SECOND}\n")
    new.replace(asking.resolv_conf)
    assert values(*asking.wait(under_way)) == ["198.51.100.7"]
    assert values(asking.ask(make_query("b.example"))) == ["198.51.100.7"]


def test_a_server_on_this_host_may_restart(asking: Asking) -> None:
    """Its port is closed as the first question comes, and open a moment later."""
    under_way = asking.begin(WEB, FIRST)
    asking.until(lambda: asking.said == [FAILS])
    asking.peer(FIRST, good)
    assert values(*asking.wait(under_way)) == ["198.51.100.7"]
    assert asking.said == [FAILS, ANSWERS]


def test_those_behind_the_stub_are_asked_while_it_is_away(asking: Asking) -> None:
    stub = "127.0.0.53"
    asking.resolv_conf.write_text(f"nameserver {stub}\noptions edns0 trust-ad\n")
    asking.behind.write_text(f"nameserver {BEYOND}\n")
    behind = asking.peer(BEYOND, good, place=asking.host.beyond)
    assert values(asking.ask(WEB)) == ["198.51.100.7"]
    assert asking.said == [("name server fails", stub)]
    asking.peer(stub, lambda message: [answer(message, rcode=2)])
    asking.until(lambda: _answers_again(asking, stub))
    before = len(behind.asked)
    assert asking.ask(make_query("bogus.example")).rcode() == dns.rcode.SERVFAIL
    assert len(behind.asked) == before


def _answers_again(asking: Asking, server: str) -> bool:
    asking.begin(make_query("again.example"), server, asker="another")
    return ("name server answers again", server) in asking.said


def test_the_configurations_servers_come_before_the_hosts(make_asking: AskingMaker) -> None:
    asking = make_asking(servers=(FIRST,))
    asking.peer(FIRST, good)
    asking.peer(SECOND, lambda message: [address(message, "198.51.100.8")])
    asking.resolv_conf.write_text(f"nameserver {THIRD}\n")
    assert values(asking.ask(WEB)) == ["198.51.100.7"]
    assert values(asking.ask(WEB, SECOND)) == ["198.51.100.8"]
