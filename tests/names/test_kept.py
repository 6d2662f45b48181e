"""Answers are kept: never longer than they are true, nor more of them than there is room for."""

from __future__ import annotations

import gc
import weakref

import dns.message
import pytest

from tests.names.world import World, container, network, sandbox
from watcher.feed.lines import SandboxLine
from watcher.names.zone.views import View

AT = "172.19.0.2"
WEB = sandbox(2, container("web", hostname="box"), default=AT)


@pytest.fixture
def world() -> World:
    return World(network(), network("back", 20), WEB)


def view(world: World) -> View:
    return world.directory.segments["default"].askers[AT].view


def named(number: int, *names: str) -> SandboxLine:
    return sandbox(number, container(f"c{number}", *names), default=f"172.19.0.{number}")


def test_what_changes_is_asked_anew_and_nothing_else(world: World) -> None:
    assert world.gets(AT, "web") == [AT]
    assert world.gets(AT, "db") == ["NXDOMAIN"]
    assert world.gets(AT, "3.0.19.172.in-addr.arpa", "PTR") == ["NXDOMAIN"]
    assert world.gets(AT, "db.default.watcher.internal") == ["NXDOMAIN"]
    kept = dict(view(world).answers)
    assert len(kept) == 4
    world.tell(named(3, "db"))
    assert list(view(world).answers.values()) == [next(iter(kept.values()))]
    assert world.gets(AT, "db") == ["172.19.0.3"]
    assert world.gets(AT, "db.default.watcher.internal") == ["172.19.0.3"]
    assert world.gets(AT, "3.0.19.172.in-addr.arpa", "PTR") == ["db.default.watcher.internal."]
    world.tell(sandbox(4, container("db.default"), default="172.19.0.4"))
    assert world.gets(AT, "db.default.watcher.internal") == ["172.19.0.4"]
    world.directory.forget("sandbox/4")
    assert world.gets(AT, "db.default.watcher.internal") == ["172.19.0.3"]
    world.directory.forget("sandbox/3")
    for name in ("db", "db.default.watcher.internal"):
        assert world.gets(AT, name) == ["NXDOMAIN"]
    assert world.gets(AT, "3.0.19.172.in-addr.arpa", "PTR") == ["NXDOMAIN"]


def test_an_interface_that_comes_and_goes(world: World) -> None:
    world.tell(sandbox(3, container("db"), back="172.20.0.3"))
    assert world.gets(AT, "db") == ["NXDOMAIN"]
    both = sandbox(2, container("web", hostname="box"), default=AT, back="172.20.0.2")
    world.tell(both)
    assert world.gets(AT, "db") == ["172.20.0.3"]
    assert world.gets("172.20.0.2", "box", at="back") == ["172.20.0.2"]
    world.tell(WEB)
    assert world.gets(AT, "db") == ["NXDOMAIN"]
    assert world.gets("172.20.0.2", "db", at="back") == ["FORWARDED"]  # it waits
    assert world.timers
    assert world.forwarded == []


def test_an_address_that_is_anothers_before_its_former_owner_is_gone(world: World) -> None:
    world.tell(named(3, "old"))
    world.tell(sandbox(4, container("new", hostname="new"), default="172.19.0.3"))
    world.directory.forget("sandbox/3")
    assert world.gets("172.19.0.3", "old") == ["NXDOMAIN"]
    assert world.gets("172.19.0.3", "new") == ["172.19.0.3"]
    assert world.gets(AT, "3.0.19.172.in-addr.arpa", "PTR") == ["new.default.watcher.internal."]


def test_a_network_that_changes(world: World) -> None:
    assert world.gets(AT, "5.0.21.172.in-addr.arpa", "PTR") == ["FORWARDED"]
    world.tell(network("other", 21))
    assert world.gets(AT, "5.0.21.172.in-addr.arpa", "PTR") == ["NXDOMAIN"]
    world.tell(network("other", 22))
    assert world.gets(AT, "5.0.21.172.in-addr.arpa", "PTR") == ["FORWARDED"]
    assert world.gets(AT, "example.com") == ["FORWARDED"]
    world.tell(network(internal=True))
    assert world.gets(AT, "example.com") == ["NXDOMAIN"]
    assert world.gets(AT, "web") == [AT]
    world.tell(network(guard=False))
    assert world.gets("172.19.7.7", "web") == [AT]


def test_ports_and_pids_are_none_of_its_business(world: World) -> None:
    world.gets(AT, "web")
    kept = dict(view(world).answers)
    part = WEB.containers[0]
    again = type(part)(part.root, part.id, 99, part.names, ("80:80",), part.hostname)
    world.tell(SandboxLine(WEB.key, WEB.id, WEB.netns, (again,), WEB.interfaces, 99))
    assert view(world).answers == kept


def test_views_end_with_who_has_them(world: World) -> None:
    before = set(world.directory.views)
    world.tell(sandbox(3, container("db"), default="172.19.0.3", back="172.20.0.3"))
    assert set(world.directory.views) - before == {("default", "back"), ("back", "default")}
    world.directory.forget("sandbox/3")
    assert set(world.directory.views) == before
    assert all(len(segment.views) == 1 for segment in world.directory.segments.values())
    world.directory.forget("sandbox/2")
    assert world.directory.sandboxes == world.directory.names == 0


def test_a_replaced_directory_leaves_nothing_to_the_garbage_collector(world: World) -> None:
    for number in range(10, 30):
        world.tell(named(number, "db"))
        world.gets(f"172.19.0.{number}", "db")
    gone = weakref.ref(world.directory)  # each view has it
    world.answers.directory = other = World(network(), WEB).directory
    gc.disable()
    try:
        while world.directory.empty(8):
            pass
        world.directory = other
        assert gone() is None
    finally:
        gc.enable()
    assert world.gets(AT, "web") == [AT]


def test_whoever_asks_for_very_much_has_so_much_kept(world: World) -> None:
    room = world.directory.share()
    for number in range(32_000):
        world.send(b"\0\0\1\0\0\1\0\0\0\0\0\0\x0a%010d\0\0\1\0\1" % number, AT)
    answers = view(world).answers
    kept = sum(len(key) + answer.length for key, answer in answers.items())
    assert room // 8 < kept < room
    assert len(answers) < 32_000
    assert b"\1\0\0\1\0\0\0\0\0\0\x0a%010d\0\0\1\0\1" % 31_999 in answers
    assert b"\1\0\0\1\0\0\0\0\0\0\x0a%010d\0\0\1\0\1" % 0 not in answers


def test_capitals_fill_nothing_that_has_to_be_dropped_at_once(world: World) -> None:
    name = "abcdefghijkl"
    world.tell(named(3, name))
    for number in range(1000):
        odd = "".join(c.upper() if number >> at & 1 else c for at, c in enumerate(name))
        answer = world.asks(AT, odd)
        assert answer is not None
        assert answer.question[0].name.to_text() == f"{odd}."
    assert len(view(world).answers) <= 64
    world.directory.forget("sandbox/3")
    assert not view(world).answers
    for number in range(100):
        odd = "".join(c.upper() if number >> at & 1 else c for at, c in enumerate("box"))
        assert world.gets(AT, f"{odd}.{number}.watcher.internal") == ["NXDOMAIN"]
        world.asks(AT, "box", flags=number)
    assert len(world.directory.segments["default"].askers[AT].answers) <= 32


def test_tcp_and_udp_have_their_own_lengths(world: World) -> None:
    for number in range(10, 60):
        world.tell(named(number, "many"))
    query = dns.message.make_query("many", "A").to_wire()
    for tcp in (True, False, True, False):
        raw = world.send(query, AT, tcp=tcp)
        assert raw is not None
        assert (len(raw) > 512, bool(raw[2] & 2)) == (tcp, not tcp)


def test_thousands_of_one_name_are_put_together_once() -> None:
    """However it is asked for them: capitals, sizes of EDNS, TCP. No answer of that is kept."""
    everybody = [
        sandbox(n, container(f"c{n}", "web"), default=f"172.19.{n >> 8}.{n & 255}")
        for n in range(2, 2002)
    ]
    world = World(network(), *everybody)
    web = world.directory.segments["default"].called[b"web"]

    def gets(name: str, kind: str = "A") -> int:
        answer = world.asks("172.19.0.2", name, kind, tcp=True)
        assert answer is not None
        return sum(map(len, answer.answer))

    assert gets("web") == 2000
    put_together = web.records(4, b"")
    for name in ("WEB", "wEb", "Web.watcher.internal", "web.default.watcher.internal"):
        assert gets(name) == gets(name, "ANY") == 2000
    assert web.records(4, b"") is put_together
    world.directory.forget("sandbox/3")
    assert gets("web") == 1999
