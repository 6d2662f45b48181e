"""Answers to a container with names in its list wait until their addresses are open."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.names_service.conftest import CONFIG
from tests.support.answers import Asked, Opener
from tests.support.host import BEYOND, GATEWAY, Container
from tests.support.name_service import addresses, outcome
from tests.support.upstreams import dnsmasq
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.names_service.conftest import Named

EGRESS = "far.example:443/tcp,*.far.example,198.51.100.0/24"


class Limited:
    """A container with names in its list, whose service is away.

    Attributes:
        named: its host.
        web: the container.
        opener: in place of the service.
    """

    def __init__(self, named: Named) -> None:
        self.named = named
        dnsmasq(
            named.host, named.host.beyond, BEYOND, "--local-ttl=300",
            "--host-record=far.example,198.51.100.7,2001:db8:1::7",
            "--host-record=target.example,198.51.100.8,2001:db8:1::8,5",
            "--cname=alias.far.example,second.example", "--cname=second.example,target.example",
            "--local=/nobody.far.example/",
            "--address=/wild.far.example/198.51.100.10",
            "--address=/evil.example/198.51.100.66",
        )  # fmt: skip
        self.web: Container = named.host.attach("web", annotations={"io.watcher.egress": EGRESS})
        assert outcome(self.ask("web").answer()) == "NOERROR"  # it is known
        named.service.stop()
        self.opener = Opener(named.host.seen(named.host.run_dir))

    def ask(self, name: str, type_: str = "A", **options: Any) -> Asked:
        """A question at its gateway."""
        return Asked(self.web.place, name, type_, **{"server": GATEWAY, **options})

    def expect(self, name: str, *found: str, ttl: int = 300) -> dict[str, Any]:
        """The next packet, which is about these addresses."""
        packet = self.opener.heard()
        assert packet == {
            "number": packet["number"], "from": self.web.address, "network": "default",
            "name": name, "addresses": packet["addresses"],
        }  # fmt: skip
        assert {address for address, _ in packet["addresses"]} == set(found)
        assert all(60 <= seconds <= ttl + 60 for _, seconds in packet["addresses"])
        return packet


@pytest.fixture
def limited(named: Named) -> Iterator[Limited]:
    """See :class:`Limited`."""
    made = Limited(named)
    yield made
    made.opener.close()


def test_an_answer_leaves_once_its_addresses_are_open(limited: Limited) -> None:
    opener = limited.opener
    asked = limited.ask("FAR.example")
    packet = limited.expect("far.example", "198.51.100.7")
    assert asked.waits()
    opener.reply(packet)
    assert addresses(asked.answer()) == {"198.51.100.7"}
    for options in ({}, {"use_edns": True}, {"tcp": True}, {"server": "fd00:19::1"}):
        assert addresses(limited.ask("far.example", **options).answer()) == {"198.51.100.7"}
    assert opener.hears_nothing()  # it is still open

    asked = limited.ask("far.example", "AAAA", tcp=True)
    opener.reply(limited.expect("far.example", "2001:db8:1::7"))
    assert addresses(asked.answer()) == {"2001:db8:1::7"}

    asked = limited.ask("alias.far.example", "A")
    packet = limited.expect("alias.far.example", "198.51.100.8")
    assert packet["addresses"] == [["198.51.100.8", 120]]  # a minute, and one more
    opener.reply(packet)
    answer = asked.answer()
    assert addresses(answer) == {"198.51.100.8"}
    assert len(answer.answer) == 3

    several = [limited.ask(f"{one}.wild.far.example") for one in "abcdefgh"]
    packets = [opener.heard() for _ in several]
    assert len({packet["number"] for packet in packets}) == len(several)
    assert all(asked.waits() for asked in several)
    for packet in reversed(packets):
        opener.reply(packet)
    assert all(addresses(asked.answer()) == {"198.51.100.10"} for asked in several)


def test_other_names_are_refused_at_once_and_told_once(limited: Limited) -> None:
    for _ in range(3):
        for name in ("evil.example", "x.evil.example"):
            assert outcome(limited.ask(name).answer()) == "NXDOMAIN"
            assert outcome(limited.ask(name, "TXT", tcp=True).answer()) == "NXDOMAIN"
    for name in ("evil.example", "x.evil.example"):
        told = {"from": limited.web.address, "network": "default", "rejected": name}
        assert limited.opener.heard() == told
    assert limited.opener.hears_nothing()
    nothing = limited.ask("far.example", "HTTPS").answer()
    assert (outcome(nothing), nothing.answer) == ("NOERROR", [])
    lost = limited.ask("nobody.far.example").answer()  # there is nothing to open
    assert (outcome(lost), addresses(lost)) == ("NXDOMAIN", set())
    assert outcome(limited.ask("web").answer()) == "NOERROR"
    assert limited.opener.hears_nothing()


def test_what_cannot_be_opened_is_not_answered(limited: Limited) -> None:
    opener = limited.opener
    asked = limited.ask("far.example")
    opener.reply(limited.expect("far.example", "198.51.100.7"), "no")
    assert outcome(asked.answer()) == "SERVFAIL"
    limited.named.names.logged("the service does not open an answer's addresses")

    asked = limited.ask("far.example")  # no reply, in a second and a half
    late = limited.expect("far.example", "198.51.100.7")
    assert outcome(asked.answer()) == "SERVFAIL"
    opener.reply(late)

    asked = limited.ask("far.example")  # the connection ends: what waits is told anew
    limited.expect("far.example", "198.51.100.7")
    opener.hang_up()
    opener.reply(limited.expect("far.example", "198.51.100.7"))
    assert addresses(asked.answer()) == {"198.51.100.7"}
    assert addresses(limited.ask("far.example").answer()) == {"198.51.100.7"}

    asked = limited.ask("far.example", "AAAA")  # what is not understood ends it as well
    limited.expect("far.example", "2001:db8:1::7")
    opener.say(b"\xff")
    opener.hang_up()
    opener.reply(limited.expect("far.example", "2001:db8:1::7"))
    assert addresses(asked.answer()) == {"2001:db8:1::7"}

    asked = limited.ask("far.example")  # another service may not know what is open
    opener.reply(limited.expect("far.example", "198.51.100.7"))
    assert addresses(asked.answer()) == {"198.51.100.7"}

    counted = limited.named.names.totals().openings
    assert counted == {"opened": 3, "open": 1, "refused": 1, "unanswered": 1, "overload": 0}

    opener.close()  # what is open stays so
    assert addresses(limited.ask("far.example").answer()) == {"198.51.100.7"}
    assert addresses(limited.ask("a.wild.far.example").answer()) == set()
    with Opener(limited.named.host.seen(limited.named.host.run_dir)) as again:
        asked = limited.ask("b.wild.far.example")
        again.reply(again.heard())
        assert addresses(asked.answer()) == {"198.51.100.10"}


def test_a_reload_holds_a_network_to_names_and_lets_it_go(named: Named) -> None:
    host = named.host
    named.serve_beyond()
    web = host.attach("web")

    def asks(name: str) -> str:
        return outcome(Asked(web.place, name, server=GATEWAY).answer())

    assert asks("far.example") == "NOERROR"
    one = 'subnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
    host.configure(CONFIG.replace(one, one + 'egress = ["api.example:443/tcp"]\n'))
    named.service.signal(signal.SIGHUP)
    assert eventually(lambda: asks("far.example") == "NXDOMAIN")
    host.configure(CONFIG)
    named.service.signal(signal.SIGHUP)
    assert eventually(lambda: asks("far.example") == "NOERROR")
