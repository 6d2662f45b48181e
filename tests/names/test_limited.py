"""Sandboxes with names in a list of `egress`: which names they may ask for, and what that opens."""

from __future__ import annotations

import random

import dns.edns
import dns.message
import pytest

from tests.names.world import World, container, limited, network, sandbox, told
from watcher.model.policy.access import AccessList
from watcher.model.policy.entries import parse_list
from watcher.names.opening.limits import host_name, name_list

WEB = "172.19.0.2"
OTHER = "172.19.0.3"
LIST = parse_list("api.github.com:443/tcp,*.pypi.org,!evil.pypi.org,10.0.0.0/8", "egress")


@pytest.fixture
def world() -> World:
    return World(
        network(),
        network("back", 20, internal=True),
        network("front", 21),
        limited(sandbox(2, container("web"), default=WEB, back="172.20.0.2"), LIST),
        sandbox(3, container("other"), default=OTHER),
    )


def test_only_names_of_the_list_are_asked_for(world: World) -> None:
    for name in ("api.github.com", "API.GitHub.com.", "files.pypi.org", "a.b.pypi.org"):
        assert world.gets(WEB, name) == ["FORWARDED"]
        assert world.gets(WEB, name, "AAAA") == ["FORWARDED"]
    assert set(world.opened) == {
        (name, (("default", WEB),))
        for name in (b"api.github.com", b"files.pypi.org", b"a.b.pypi.org")
    }
    count = len(world.forwarded)
    for name in (
        "github.com", "x.api.github.com", "pypi.org", "evil.pypi.org", "evil-pypi.org", "com", ".",
        "example.com", r"a\.pypi.org", r"a.b\.pypi.org", r"\000.pypi.org", "*.pypi.org",
        "a" * 63 + ".pypi.org.example.com", "api.github.com.example.com",
    ):  # fmt: skip
        assert world.gets(WEB, name) == ["NXDOMAIN"], name
    assert len(world.forwarded) == count
    assert {asker for _, _, asker in world.forwarded} == {"sandbox/2"}
    assert (b"example.com", "default", WEB) in world.rejected
    assert world.gets(OTHER, "example.com") == ["FORWARDED"]


def test_what_a_name_has_beside_addresses_stays_out(world: World) -> None:
    for kind in ("TXT", "HTTPS", "SVCB", "MX", "SRV", "NS", "CNAME", "ANY", "PTR", "TYPE65400"):
        assert world.gets(WEB, "api.github.com", kind) == ["NODATA"]
        assert world.gets(WEB, "example.com", kind) == ["NXDOMAIN"]
    assert world.gets(WEB, "8.8.8.8.in-addr.arpa", "PTR") == ["NXDOMAIN"]
    any_class = dns.message.make_query("api.github.com", "A", "ANY")
    raw = world.send(any_class.to_wire(), WEB)
    assert raw is not None
    assert told(dns.message.from_wire(raw)) == ["NODATA"]
    assert world.forwarded == []
    assert {name for name, *_ in world.rejected} == {b"example.com"}


def test_our_own_names_resolve_and_open_nothing(world: World) -> None:
    assert world.gets(WEB, "other") == [OTHER]
    assert world.gets(WEB, "other.watcher.internal") == [OTHER]
    assert world.gets(WEB, "host") == ["172.19.0.1"]
    assert world.gets(WEB, "3.0.19.172.in-addr.arpa", "PTR") == ["other.default.watcher.internal."]
    assert world.gets(WEB, "example.com.watcher.internal") == ["NXDOMAIN"]
    assert not world.opened
    assert not world.rejected


def test_the_refusal_says_why(world: World) -> None:
    answer = world.asks(WEB, "example.com", use_edns=True)
    assert answer is not None
    (option,) = answer.options
    assert isinstance(option, dns.edns.EDEOption)
    assert option.code == dns.edns.EDECode.BLOCKED


def test_every_list_counts(world: World) -> None:
    world.tell(
        network(egress=("*.pypi.org", "*.python.org")),
        network("strict", 22, egress=("files.pypi.org", "!x.python.org")),
    )
    assert world.gets(OTHER, "www.python.org") == ["FORWARDED"]
    assert world.gets(WEB, "www.python.org") == ["NXDOMAIN"]
    assert world.gets(WEB, "api.github.com") == ["NXDOMAIN"]
    assert world.gets(WEB, "www.pypi.org") == ["FORWARDED"]
    world.tell(limited(sandbox(3, container("other"), default=OTHER), policy="strict"))
    assert world.gets(OTHER, "files.pypi.org") == ["FORWARDED"]
    assert world.gets(OTHER, "www.pypi.org") == ["NXDOMAIN"]
    world.tell(network("strict", 22))
    assert world.gets(OTHER, "www.pypi.org") == ["FORWARDED"]
    world.tell(network())
    assert world.gets(OTHER, "example.com") == ["FORWARDED"]


def test_lists_that_nobody_has_told_of_allow_no_name() -> None:
    world = World(network(), limited(sandbox(2, container("web"), default=WEB), policy="strict"))
    assert world.gets(WEB, "example.com") == ["NXDOMAIN"]
    world.tell(network("strict", 22, egress=("10.0.0.0/8",)))
    assert world.gets(WEB, "example.com") == ["FORWARDED"]
    assert not world.opened
    assert not world.rejected


def test_several_networks(world: World) -> None:
    """Asked at the gateway of any of them, a name is looked up if one of them allows it."""
    assert world.gets("172.20.0.2", "example.com", at="back") == ["NXDOMAIN"]
    assert world.gets("172.20.0.2", "files.pypi.org", at="back") == ["FORWARDED"]
    assert world.opened[0] == (b"files.pypi.org", (("default", WEB),))
    world.opened.clear()
    world.tell(network("front", 21, egress=("example.com",)))
    two = sandbox(5, container("two"), default="172.19.0.5", front="172.21.0.5")
    world.tell(two)
    assert world.gets("172.19.0.5", "example.com") == ["FORWARDED"]
    assert world.gets("172.19.0.5", "a.example.com") == ["FORWARDED"]
    assert world.gets("172.19.0.5", "a.example.com", "TXT") == ["FORWARDED"]
    assert set(world.opened) == {(b"example.com", (("front", "172.21.0.5"),))}


def test_servers_of_its_own_do_not_choose_its_addresses(world: World) -> None:
    part = container("web", dns=("192.0.2.1",))
    world.tell(limited(sandbox(2, part, default=WEB), LIST))
    assert world.gets(WEB, "files.pypi.org") == ["FORWARDED"]
    assert [servers for _, servers, _ in world.forwarded] == [(), ()]


def test_the_names_of_a_list_are_those_that_the_service_allows() -> None:
    rng = random.Random(7)
    labels = ("a", "b", "xn--c", "d-e", "_f")
    for _ in range(300):

        def name(most: int) -> str:
            return ".".join(rng.choice(labels) for _ in range(rng.randint(2, most)))

        def entry() -> str:
            return rng.choice(("", "!")) + rng.choice(("", "", "*.")) + name(3)

        lists = tuple(
            parse_list(",".join([name(3), *(entry() for _ in range(rng.randint(0, 5)))]), "egress")
            for _ in range(rng.randint(1, 3))
        )
        names, access = name_list(lists), AccessList("egress", lists)
        assert names is not None
        for _ in range(40):
            asked = name(4)
            wire = host_name(label.encode() for label in asked.split("."))
            assert (wire in names) == access.asks(asked), (lists, asked)
    assert name_list((("10.0.0.0/8",),)) is None
    some = name_list((("!a.example:80/tcp", "a.example"),))  # its other ports are left
    assert some is not None
    assert b"a.example" in some
