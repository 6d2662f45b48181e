"""Facts are published once, in order, behind the work; no subscriber hurts another."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from watcher.config.settings import Config
from watcher.facts.kinds import Fact, HeldTooLong, LeftNamespace, RightAgain
from watcher.facts.publisher import Publisher
from watcher.facts.subscribers import make_publisher
from watcher.log.logger import make_log

FIRST, SECOND = RightAgain("netnsv0-1"), RightAgain("netnsv0-2")


def publisher(*subscribers: Callable[[Fact], object]) -> Publisher:
    return Publisher(subscribers, make_log("info", "json"))


def test_all_are_told_in_order() -> None:
    one: list[Fact] = []
    other: list[Fact] = []
    facts = publisher(one.append)
    facts.subscribe(other.append)
    facts.publish(FIRST)
    facts.publish(SECOND)
    assert one == other == [FIRST, SECOND]


def test_a_subscriber_that_raises_hurts_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    def fail(fact: Fact) -> None:
        raise RuntimeError(fact)

    told: list[Fact] = []
    facts = publisher(fail, told.append)
    facts.publish(FIRST)
    facts.publish(SECOND)
    assert told == [FIRST, SECOND]
    assert "netnsv0-1" in capfd.readouterr().err


def test_they_are_told_behind_the_present_work() -> None:
    told: list[Fact] = []
    due: list[Callable[[], None]] = []
    facts = publisher(told.append)
    facts.defer(due.append)
    facts.publish(FIRST)
    facts.publish(SECOND)
    assert told == []
    (deliver,) = due
    deliver()
    assert told == [FIRST, SECOND]


def test_what_waits_is_told_at_the_end() -> None:
    told: list[Fact] = []
    facts = publisher(told.append)
    facts.defer(lambda _: None)
    facts.publish(FIRST)
    facts.defer_no_more()
    facts.publish(SECOND)
    assert told == [FIRST, SECOND]


def test_what_a_subscriber_publishes_comes_after_what_it_was_told() -> None:
    told: list[Fact] = []

    def answer(fact: Fact) -> None:
        if fact == FIRST:
            facts.publish(SECOND)

    facts = publisher(answer, told.append)
    facts.publish(FIRST)
    assert told == [FIRST, SECOND]


def test_the_gate_waits_for_nobody() -> None:
    told: list[Fact] = []
    facts = publisher(told.append)
    facts.defer(lambda _: None)
    facts.publish(FIRST)
    late = HeldTooLong("/run/runc", "web", 5.0, "allow")
    facts.publish_at_once(late)
    assert told == [late]


def test_the_log_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    facts = make_publisher(Config(), make_log("info", "json"))
    facts.publish(LeftNamespace("/run/runc", "web"))
    line = json.loads(capfd.readouterr().err)
    assert (line["level"], line["container"], line["root"]) == ("warning", "web", "/run/runc")
    assert line["event"].startswith("its init has left its network namespace")
