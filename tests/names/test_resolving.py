"""What each name stands for, and to whom."""

from __future__ import annotations

import dns.flags
import dns.rdatatype
import dns.reversename
import pytest
from msgspec import structs

from tests.names.world import DOMAIN, SETTINGS, World, container, network, sandbox, told
from watcher.names.settings import Settings

WEB = sandbox(2, container("web-1", "web", hostname="box"), default=("172.19.0.2", "fd00:19::2"))
DB = sandbox(3, container("db"), default="172.19.0.3", back="172.20.0.3")
BACK = sandbox(4, container("cache", "web"), back=("172.20.0.4", "fd00:20::4"))
WEB_AT, DB_AT, BACK_AT = "172.19.0.2", "172.19.0.3", "172.20.0.4"


@pytest.fixture
def world() -> World:
    return World(network(), network("back", 20, internal=True), WEB, DB, BACK)


@pytest.mark.parametrize(
    ("name", "kind", "gets"),
    [
        ("web", "A", ["172.19.0.2"]),
        ("WeB.Watcher.Internal", "A", ["172.19.0.2"]),
        ("web.default.watcher.internal", "AAAA", ["fd00:19::2"]),
        ("web-1", "A", ["172.19.0.2"]),
        ("web", "ANY", ["172.19.0.2", "fd00:19::2"]),
        ("web", "MX", ["NODATA"]),
        ("web", "HTTPS", ["NODATA"]),
        ("db", "A", ["172.19.0.3"]),
        ("db", "AAAA", ["NODATA"]),
        ("db.back.watcher.internal", "A", ["NXDOMAIN"]),  # it is there, but the asker is not
        ("cache", "A", ["NXDOMAIN"]),
        ("web.default", "A", ["FORWARDED"]),
        ("nobody", "A", ["NXDOMAIN"]),
        ("nobody.watcher.internal", "A", ["NXDOMAIN"]),
        ("a.web.watcher.internal", "A", ["NXDOMAIN"]),
        ("default.watcher.internal", "A", ["NODATA"]),  # names are below it
        ("back.watcher.internal", "A", ["NXDOMAIN"]),
        ("internal", "A", ["NODATA"]),
        ("host", "A", ["172.19.0.1"]),
        ("host.watcher.internal", "AAAA", ["fd00:19::1"]),
        ("host.default.watcher.internal", "A", ["172.19.0.1"]),
        ("host.back.watcher.internal", "A", ["NXDOMAIN"]),
        ("watcher.internal", "A", ["NODATA"]),
        ("watcher.internal", "NS", ["host.watcher.internal."]),
        ("localhost", "A", ["127.0.0.1"]),
        ("a.b.localhost", "AAAA", ["::1"]),
        ("localhost.watcher.internal", "A", ["127.0.0.1"]),
        ("localhost", "TXT", ["NODATA"]),
        ("box", "A", ["172.19.0.2"]),
        ("box.watcher.internal", "AAAA", ["fd00:19::2"]),
        (".", "NS", ["FORWARDED"]),
        ("metadata.google.internal", "A", ["FORWARDED"]),
        ("xwatcher.internal", "A", ["FORWARDED"]),
        ("example.com", "A", ["FORWARDED"]),
        (r"we\.b", "A", ["NXDOMAIN"]),
        (r"web\.default.watcher.internal", "A", ["NXDOMAIN"]),
    ],
)  # fmt: skip
def test_a_name(world: World, name: str, kind: str, gets: list[str]) -> None:
    assert world.gets(WEB_AT, name, kind) == gets


@pytest.mark.parametrize(
    ("name", "gets"),
    [
        ("2.0.19.172.in-addr.arpa", ["web.default.watcher.internal."]),
        ("3.0.19.172.in-addr.arpa", ["db.default.watcher.internal."]),
        ("1.0.19.172.in-addr.arpa", ["host.watcher.internal."]),
        ("4.0.20.172.in-addr.arpa", ["NXDOMAIN"]),  # in no network of the asker's
        ("1.0.20.172.in-addr.arpa", ["NXDOMAIN"]),
        ("9.9.19.172.in-addr.arpa", ["NXDOMAIN"]),
        ("x.2.0.19.172.in-addr.arpa", ["NXDOMAIN"]),
        ("0.19.172.in-addr.arpa", ["NXDOMAIN"]),
        ("19.172.in-addr.arpa", ["NXDOMAIN"]),
        ("172.in-addr.arpa", ["FORWARDED"]),
        ("1.0.21.172.in-addr.arpa", ["FORWARDED"]),
        ("in-addr.arpa", ["FORWARDED"]),
        (f"2.{'0.' * 23}9.1.0.0.0.0.d.f.ip6.arpa", ["web.default.watcher.internal."]),
        ("0.0.9.1.0.0.0.0.d.f.ip6.arpa", ["FORWARDED"]),
        ("0.0.0.0.0.0.0.0.9.1.0.0.0.0.d.f.ip6.arpa", ["NXDOMAIN"]),
        ("1.0.0.127.in-addr.arpa", ["localhost."]),
        (f"1.{'0.' * 31}ip6.arpa", ["localhost."]),
    ],
)  # fmt: skip
def test_a_name_of_an_address(world: World, name: str, gets: list[str]) -> None:
    assert world.gets(WEB_AT, name, "PTR") == gets
    if gets not in (["NXDOMAIN"], ["FORWARDED"]):
        assert world.gets(WEB_AT, name, "A") == ["NODATA"]


def test_who_is_in_two_networks_sees_both(world: World) -> None:
    assert sorted(world.gets(DB_AT, "web")) == ["172.19.0.2", "172.20.0.4"]
    assert world.gets(DB_AT, "web.back.watcher.internal") == ["172.20.0.4"]
    assert world.gets(DB_AT, "host") == ["172.19.0.1"]
    assert world.gets("172.20.0.3", "host", at="back") == ["172.20.0.1"]
    assert world.gets(DB_AT, "host.back.watcher.internal") == ["172.20.0.1"]
    assert sorted(world.gets(DB_AT, "db")) == ["172.19.0.3", "172.20.0.3"]
    assert world.gets(DB_AT, "4.0.20.172.in-addr.arpa", "PTR") == ["web.back.watcher.internal."]
    assert world.gets(BACK_AT, "db", at="back") == ["172.20.0.3"]


def test_in_internal_networks_alone_nothing_goes_out(world: World) -> None:
    for name in ("example.com", ".", "1.0.21.172.in-addr.arpa", "metadata.google.internal"):
        answer = world.asks(BACK_AT, name, at="back")
        assert told(answer) == ["NXDOMAIN"]
        assert answer is not None
        assert not answer.authority
        assert not answer.flags & dns.flags.AA
    assert world.gets("172.20.0.3", "example.com", at="back") == ["FORWARDED"]  # default has a way
    assert world.forwarded[0][2] == DB.key


def test_the_address_alone_proves_nothing(world: World) -> None:
    assert world.gets("172.20.0.2", "db") == ["REFUSED"]  # of no subnet of that network
    assert world.gets(BACK_AT, "db") == ["REFUSED"]
    assert world.gets(WEB_AT, "db", at="back") == ["REFUSED"]
    assert world.gets("fe80::1%eth0", "db") == ["REFUSED"]
    assert world.gets(WEB_AT, "db", at="none") == ["REFUSED"]


def test_the_host_sees_one_network(world: World) -> None:
    assert world.gets("172.19.0.1", "web") == ["172.19.0.2"]
    assert world.gets("fd00:19::1", "host") == ["172.19.0.1"]
    assert world.gets("172.19.0.1", "cache") == ["NXDOMAIN"]
    assert world.gets("172.20.0.1", "db", at="back") == ["172.20.0.3"]
    assert world.gets("172.19.0.1", "example.com") == ["REFUSED"]
    assert world.forwarded == []


def test_several_of_one_name_take_turns(world: World) -> None:
    for at in range(10, 14):
        world.tell(sandbox(at, container(f"web-{at}", "web"), default=f"172.19.0.{at}"))
    firsts = {told(world.asks(WEB_AT, "web"))[0] for _ in range(5)}
    assert firsts == {"172.19.0.2", *(f"172.19.0.{at}" for at in range(10, 14))}


def test_a_long_answer_is_cut_by_udp_alone(world: World) -> None:
    for at in range(10, 110):
        world.tell(sandbox(at, container(f"web-{at}", "web"), default=f"172.19.0.{at}"))
    seen = set()
    for _ in range(101):
        answer = world.asks(WEB_AT, "web")
        assert answer is not None
        assert answer.flags & dns.flags.TC
        assert 20 < len(told(answer)) < 40
        seen |= set(told(answer))
    assert len(seen) == 101
    whole = world.asks(WEB_AT, "web", tcp=True)
    assert whole is not None
    assert not whole.flags & dns.flags.TC
    assert set(told(whole)) == seen
    more = world.asks(WEB_AT, "web", use_edns=0, payload=4096)
    assert more is not None
    assert more.flags & dns.flags.TC
    assert 70 < len(told(more)) < 80
    assert more.payload == 1232


def test_what_an_answer_says_of_itself(world: World) -> None:
    answer = world.asks(WEB_AT, "web", want_dnssec=True)
    assert answer is not None
    assert dns.flags.to_text(answer.flags) == "QR AA RD RA"
    assert answer.ednsflags & dns.flags.DO
    assert answer.answer[0].ttl == 0
    missing = world.asks(WEB_AT, "WEB.Watcher.internal", "TXT", flags=dns.flags.CD)
    assert missing is not None
    assert dns.flags.to_text(missing.flags) == "QR AA RA CD"
    assert missing.question[0].name.to_text() == "WEB.Watcher.internal."
    assert missing.authority[0].name.to_text() == "Watcher.internal."
    assert missing.authority[0].rdtype == dns.rdatatype.SOA
    assert missing.authority[0][0].minimum == 0
    single = world.asks(WEB_AT, "nobody")
    assert single is not None
    assert single.authority[0].name.to_text() == "nobody."


def test_an_own_hostname(world: World) -> None:
    world.tell(
        sandbox(5, container("a", hostname="api.example.com"), default="172.19.0.5"),
        sandbox(6, container("b", hostname="web"), default="172.19.0.6", back="172.20.0.6"),
        sandbox(7, container("c", hostname="host"), default="172.19.0.7"),
    )
    assert world.gets(WEB_AT, "box") == ["172.19.0.2"]
    assert world.gets(DB_AT, "box") == ["NXDOMAIN"]
    assert world.gets("172.19.0.5", "api.example.com") == ["172.19.0.5"]
    assert world.gets("172.19.0.5", "Api.Example.com.watcher.internal") == ["172.19.0.5"]
    assert world.gets("172.19.0.5", "api.example.com", "AAAA") == ["NODATA"]
    assert world.gets(WEB_AT, "api.example.com") == ["FORWARDED"]
    assert world.gets("172.19.0.6", "web") == ["172.19.0.6"]
    assert world.gets("172.19.0.6", "WEB.watcher.internal") == ["172.19.0.6"]
    assert world.gets("172.20.0.6", "web", at="back") == ["172.20.0.6"]
    assert world.gets(WEB_AT, "web") == ["172.19.0.2"]
    assert world.gets("172.19.0.7", "host") == ["172.19.0.1"]


def test_a_container_that_joined_captures_nothing(world: World) -> None:
    founder = container("pod", hostname="pod")
    evil = [container("e1", hostname="api.example.com"), container("e2", hostname="web")]
    mild = container("e3", hostname="side")
    world.tell(sandbox(5, [founder, *evil, mild], default="172.19.0.5"))
    assert world.gets("172.19.0.5", "pod") == ["172.19.0.5"]
    assert world.gets("172.19.0.5", "api.example.com") == ["FORWARDED"]
    assert world.gets("172.19.0.5", "web") == ["172.19.0.2"]
    assert world.gets("172.19.0.5", "side") == ["172.19.0.5"]
    world.tell(sandbox(6, container("side"), default="172.19.0.6"))
    assert world.gets("172.19.0.5", "side") == ["172.19.0.6"]


def test_the_id_of_the_founder_makes_no_founder(world: World) -> None:
    twin = container("pod", hostname="api.example.com", root="/run/limited", pid=8)
    world.tell(sandbox(5, [container("pod", hostname="pod"), twin], default="172.19.0.5"))
    founder_ended = sandbox(6, [container("pod"), twin], default="172.19.0.6")
    world.tell(structs.replace(founder_ended, containers=(twin,)))
    for source in ("172.19.0.5", "172.19.0.6"):
        assert world.gets(source, "api.example.com") == ["FORWARDED"]


def test_what_only_looks_like_a_name_of_others_goes_nowhere(world: World) -> None:
    for name in (
        r"web.watcher\.internal",
        r"web\.watcher.internal",
        r"x.LOCAL\.localhost",
        r"web.watcher.internal\.",
        r"web\.watcher\.internal.",
        r"2.0\.19.172.in-addr.arpa",
        r"2.0.19.172.in-addr\.arpa",
    ):
        world.forwarded.clear()
        world.gets(WEB_AT, name)
        assert not world.forwarded, name
    assert world.gets(WEB_AT, r"my\.printer._ipp._tcp.example.com") == ["FORWARDED"]
    mapped = dns.reversename.from_address("::ffff:172.19.0.2").to_text()
    assert world.gets(WEB_AT, mapped, "PTR") == ["web.default.watcher.internal."]
    assert world.gets(WEB_AT, mapped.partition(".")[2], "PTR") == ["NXDOMAIN"]
    other = dns.reversename.from_address("::ffff:192.0.2.2").to_text()
    assert world.gets(WEB_AT, other, "PTR") == ["FORWARDED"]


def test_members_are_called_by_their_own_names(world: World) -> None:
    pod = [container("pod"), container("side", "proxy", "metrics")]
    world.tell(sandbox(5, pod, default="172.19.0.5"))
    for name in ("pod", "side", "proxy", "metrics"):
        assert world.gets(WEB_AT, name) == ["172.19.0.5"]
    assert sorted(world.gets(WEB_AT, "5.0.19.172.in-addr.arpa", "PTR")) == [
        "pod.default.watcher.internal.", "proxy.default.watcher.internal.",
    ]  # fmt: skip


def test_which_ids_are_names(world: World) -> None:
    long_id = "0123456789ab" * 5 + "cdef"
    for number, id_ in enumerate(
        (long_id, "My_App+1", "db.default", "localhost", "host", "a b", "é", "x..y", "z" * 64), 20
    ):
        world.tell(sandbox(number, container(id_), default=f"172.19.0.{number}"))
    assert world.gets(WEB_AT, "0123456789ab") == ["172.19.0.20"]
    assert world.gets(WEB_AT, "0123456789abc") == ["NXDOMAIN"]
    assert world.gets(WEB_AT, "MY_APP+1") == ["172.19.0.21"]
    assert world.gets(WEB_AT, "db.default.watcher.internal") == ["172.19.0.22"]
    assert world.gets(WEB_AT, "localhost") == ["127.0.0.1"]
    assert world.gets(WEB_AT, "host") == ["172.19.0.1"]
    assert world.gets(WEB_AT, r"a\032b") == ["NXDOMAIN"]
    for number in range(23, 29):
        reverse = f"{number}.0.19.172.in-addr.arpa"
        assert world.gets(WEB_AT, reverse, "PTR") == ["NXDOMAIN"]


def test_the_limits_of_a_root_tell_which_ids_are_names(world: World) -> None:
    limited = "/run/limited"
    world.tell(
        sandbox(5, container("app-x", root=limited), default="172.19.0.5"),
        sandbox(6, container("db", "app-db", root=limited), default="172.19.0.6"),
        sandbox(7, container("stray", root="/run/gone"), default="172.19.0.7"),
    )
    assert world.gets(WEB_AT, "app-x") == ["172.19.0.5"]
    assert world.gets(WEB_AT, "app-db") == ["172.19.0.6"]
    assert world.gets(WEB_AT, "db") == ["172.19.0.3"]
    assert world.gets(WEB_AT, "stray") == ["NXDOMAIN"]
    assert world.gets("172.19.0.7", "db") == ["172.19.0.3"]


def test_a_network_without_guard_proves_nothing_of_who_asks() -> None:
    open_ = network("open", 21, guard=False)
    both = sandbox(
        5, container("both", hostname="me", dns=("192.0.2.1",)), open="172.21.0.5",
        default="172.19.0.5",
    )  # fmt: skip
    world = World(network(), open_, WEB, both)
    for source in ("172.21.0.5", "172.21.9.9", "fd00:21::77"):
        assert world.gets(source, "both", at="open") == ["172.21.0.5"]
        assert world.gets(source, "web", at="open") == ["NXDOMAIN"]
        assert world.gets(source, "me", at="open") == ["NXDOMAIN"]
        assert world.gets(source, "example.com", at="open") == ["FORWARDED"]
    assert {(servers, asker) for _, servers, asker in world.forwarded} == {((), "network/open")}
    assert world.gets("172.19.0.2", "both", at="open") == ["REFUSED"]
    assert world.gets("172.21.0.1", "both", at="open") == ["172.21.0.5"]
    assert world.gets("172.21.0.1", "example.com", at="open") == ["REFUSED"]
    assert sorted(world.gets("172.19.0.5", "both")) == ["172.19.0.5", "172.21.0.5"]


def test_a_network_without_names() -> None:
    quiet = network("quiet", 21, names=False)
    world = World(network(), quiet, sandbox(5, container("a"), default="172.19.0.5",
                                            quiet="172.21.0.5"))  # fmt: skip
    assert world.gets("172.19.0.5", "a") == ["172.19.0.5"]
    assert world.gets("172.19.0.5", "a.quiet.watcher.internal") == ["NXDOMAIN"]
    assert world.gets("172.19.0.5", "5.0.21.172.in-addr.arpa", "PTR") == ["NXDOMAIN"]
    assert world.gets("172.21.0.5", "a", at="quiet") == ["REFUSED"]
    assert world.gets("172.21.0.1", "a", at="quiet") == ["REFUSED"]
    world.tell(network("quiet", 21))
    assert sorted(world.gets("172.21.0.5", "a", at="quiet")) == ["172.19.0.5", "172.21.0.5"]
    world.tell(quiet)
    assert world.gets("172.19.0.5", "a") == ["172.19.0.5"]
    assert world.gets("172.21.0.5", "a", at="quiet") == ["REFUSED"]


def test_names_of_networks_may_have_dots_and_capitals() -> None:
    world = World(
        network("Lab.One", 21),
        sandbox(5, container("a"), **{"Lab.One": "172.21.0.5"}),
        sandbox(6, container("a.lab"), **{"Lab.One": "172.21.0.6"}),
    )
    for name in ("a.lab.one.watcher.internal", "A.LAB.ONE.WATCHER.INTERNAL", "a"):
        assert world.gets("172.21.0.6", name, at="Lab.One") == ["172.21.0.5"]
    assert world.gets("172.21.0.6", "host.lab.one.watcher.internal", at="Lab.One") == ["172.21.0.1"]
    assert world.gets("172.21.0.6", "5.0.21.172.in-addr.arpa", "PTR", at="Lab.One") == [
        "a.lab.one.watcher.internal."
    ]


def test_servers_of_a_sandbox_are_those_of_the_first_container_with_any(world: World) -> None:
    pod = [container("p"), container("q", dns=("192.0.2.1", "192.0.2.2")),
           container("r", dns=("192.0.2.3",))]  # fmt: skip
    world.tell(sandbox(5, pod, default="172.19.0.5"))
    world.asks("172.19.0.5", "example.com")
    world.asks(WEB_AT, "example.com")
    assert [(servers, asker) for _, servers, asker in world.forwarded] == [
        (("192.0.2.1", "192.0.2.2"), "sandbox/5"), ((), "sandbox/2"),
    ]  # fmt: skip


def test_no_server_across_the_networks(world: World) -> None:
    def servers(source: str) -> object:
        world.forwarded.clear()
        got = world.gets(source, "example.com")
        return world.forwarded[0][1] if got == ["FORWARDED"] else got

    dns = ("172.20.0.9", "fd00:20::9", "192.0.2.53")
    world.tell(sandbox(5, container("a", dns=dns), default="172.19.0.5"))
    world.tell(sandbox(6, container("b", dns=dns[:2]), default="172.19.0.6"))
    world.tell(sandbox(7, container("c", dns=dns), default="172.19.0.7", back="172.20.0.7"))
    world.tell(sandbox(8, container("d", dns=("172.21.0.9",)), default="172.19.0.8"))
    assert servers("172.19.0.5") == ("192.0.2.53",)
    assert servers("172.19.0.6") == ["SERVFAIL"]
    assert servers("172.19.0.7") == dns
    assert servers("172.19.0.8") == ("172.21.0.9",)
    world.tell(network("new", 21, names=False))
    assert servers("172.19.0.8") == ["SERVFAIL"]
    assert servers("172.19.0.5") == ("192.0.2.53",)
    lan = World(
        network(), network("lan", 21, names=False),
        sandbox(8, container("d", dns=("172.21.0.9",)), default="172.19.0.8"),
        settings=Settings(DOMAIN, foreign=("lan",)),
    )  # fmt: skip
    assert lan.gets("172.19.0.8", "example.com") == ["FORWARDED"]


@pytest.mark.parametrize("domain", ["lan", "a.b.c.example"])
def test_another_domain(domain: str) -> None:
    world = World(network(), WEB, settings=Settings(domain, (), SETTINGS.roots))
    assert world.gets(WEB_AT, f"web.{domain}") == ["172.19.0.2"]
    assert world.gets(WEB_AT, "web") == ["172.19.0.2"]
    assert world.gets(WEB_AT, domain) == ["NODATA"]
    assert world.gets(WEB_AT, domain, "NS") == [f"host.{domain}."]
    assert world.gets(WEB_AT, "web.watcher.internal") == ["FORWARDED"]
    assert world.gets(WEB_AT, "2.0.19.172.in-addr.arpa", "PTR") == [f"web.default.{domain}."]
