"""Which failed repairs are told: a cause that has passed by the next look is none to tell of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import structlog

from watcher.facts.kinds import NotRepaired, Repaired, RightAgain
from watcher.facts.publisher import Publisher
from watcher.model.repair import Repair
from watcher.reconcile.repairs import Repairs

if TYPE_CHECKING:
    from watcher.facts.kinds import Fact

LINK: Final = "netnsv0-812"
FAILED: Final = Repair(
    f"attached {LINK}", "web", "the link was down", LINK, "the bridge is missing"
)
MADE: Final = Repair(f"attached {LINK}", "web", "the link was down", LINK)
OF_HOST: Final = Repair("made bridge netns0", "", "it was missing", error="no more links")


class Told:
    """What the repairs of one process have told, and which links they want looked at again."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.again: list[str] = []
        self.repairs = Repairs(Publisher([self.facts.append], structlog.get_logger()))
        self.repairs.retry = self.again.append


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.mark.parametrize("end", ["made", "right"])
def test_who_succeeds_at_the_second_try_has_not_failed(told: Told, end: str) -> None:
    for _ in range(2):  # what passed once is no reason to tell the next time
        told.repairs.publish([FAILED])
        assert told.facts == []
        assert told.again.pop() == LINK
        if end == "made":
            told.repairs.publish([MADE])
            assert told.facts.pop() == Repaired(MADE)
        else:
            told.repairs.is_right(LINK, gone=False)
            assert told.facts == []


def test_who_fails_twice_is_told_once_until_it_is_right(told: Told) -> None:
    for _ in range(3):
        told.repairs.publish([FAILED])
    assert told.facts == [NotRepaired(FAILED)]
    assert told.again == [LINK] * 3
    told.repairs.is_right(LINK, gone=False)
    assert told.facts[1:] == [RightAgain(LINK)]


def test_every_cause_is_told(told: Told) -> None:
    other = Repair(FAILED.what, "web", FAILED.why, LINK, "too many links")
    told.repairs.publish([FAILED])
    told.repairs.publish([other])
    told.repairs.publish([FAILED])
    assert told.facts == [NotRepaired(other), NotRepaired(FAILED)]


def test_what_nobody_tries_again_is_told_at_once(told: Told) -> None:
    told.repairs.publish([OF_HOST])
    assert told.facts == [NotRepaired(OF_HOST)]
    told.repairs.retry = None  # as in a command
    told.repairs.publish([FAILED])
    assert told.facts[1:] == [NotRepaired(FAILED)]
    assert told.again == []
