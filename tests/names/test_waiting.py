"""Questions from an address that nobody has told of yet."""

from __future__ import annotations

import dns.message
import pytest

from tests.names.world import World, container, network, sandbox, told
from watcher.names.waiting import AT_MOST, OF_ONE

NEW = sandbox(3, container("new"), default="172.19.0.3")
PLAIN = dns.message.make_query("new", "A").to_wire()


@pytest.fixture
def world() -> World:
    return World(network(), sandbox(2, container("web"), default="172.19.0.2"))


def late(world: World) -> list[list[str]]:
    return [told(dns.message.from_wire(raw)) for raw in world.late]


def test_it_is_answered_when_it_is_told_of(world: World) -> None:
    assert world.asks("172.19.0.3", "web") is None
    assert world.asks("172.19.0.3", "new", tcp=True) is None
    assert world.asks("172.19.0.3", "example.com") is None
    assert world.counts.waiting == 3
    world.tell(sandbox(4, container("other"), default="172.19.0.4"))
    assert world.late == []
    world.tell(NEW)
    assert late(world) == [["172.19.0.2"], ["172.19.0.3"]]
    assert [asker for _, _, asker in world.forwarded] == ["sandbox/3"]
    assert world.timers == []
    assert world.counts.waiting == 0
    assert world.totals.waited == {"answered": 3, "refused": 0}


def test_it_is_refused_when_it_is_not(world: World) -> None:
    assert world.asks("172.19.0.3", "web") is None
    world.timers.pop()()
    assert late(world) == [["REFUSED"]]
    world.tell(NEW)
    assert len(world.late) == 1
    assert world.totals.waited == {"answered": 0, "refused": 1}
    assert world.counts.waiting == 0


def test_there_is_room_for_so_many(world: World) -> None:
    for _ in range(OF_ONE):
        assert world.send(PLAIN, "172.19.0.3") is None
    assert told(world.asks("172.19.0.3", "web")) == ["REFUSED"]
    for number in range(AT_MOST - OF_ONE):
        assert world.send(PLAIN, f"172.19.{1 + number // 250}.{number % 250}") is None
    assert told(world.asks("172.19.77.1", "web")) == ["REFUSED"]
    assert len(world.timers) == world.counts.waiting == AT_MOST
    world.timers.pop()()
    assert world.asks("172.19.77.1", "web") is None
    while world.timers:
        world.timers.pop()()
    assert world.counts.waiting == 0
    assert world.asks("172.19.0.3", "web") is None


def test_a_sandbox_that_comes_back_in_another_directory(world: World) -> None:
    assert world.asks("172.19.0.3", "new") is None
    other = World(network(), NEW)
    world.answers.directory = other.directory
    world.answers.learned()
    assert late(world) == [["172.19.0.3"]]
