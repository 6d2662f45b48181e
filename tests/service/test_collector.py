"""The garbage collector runs when it is told to, and what it has to collect does not pile up."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from watcher.service.collector import YOUNG, Collector


class Cycle:
    """Something that only a collector frees."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    collector.begin()
    collector.settle()
    yield collector
    collector.stop()


@pytest.mark.usefixtures("collector")
def test_python_does_not_collect_by_itself() -> None:
    lost = weakref.ref(Cycle())
    kept = [[number] for number in range(100 * YOUNG)]
    assert lost() is not None
    del kept


def test_after_a_while_all_is_collected(collector: Collector) -> None:
    lost = weakref.ref(Cycle())
    collector.collect_all()
    assert lost() is None


def test_under_constant_load_nothing_piles_up(collector: Collector) -> None:
    alive: weakref.WeakSet[Cycle] = weakref.WeakSet()
    most = 0
    for _ in range(50 * YOUNG):
        alive.add(Cycle())
        most = max(most, len(alive))
        collector.collect_due()
    assert most <= YOUNG


def test_what_became_older_under_constant_load_is_collected_as_well(collector: Collector) -> None:
    old = [Cycle()]
    lost = weakref.ref(old[0])
    collections = 0

    def work() -> None:
        nonlocal collections
        kept = [[number] for number in range(2 * YOUNG)]
        collector.collect_due()
        collections += 1
        del kept

    work()
    old.clear()  # it has outlived a collection of the youngest
    while lost() is not None:
        work()
        assert collections < 1000


def test_afterwards_python_collects_again() -> None:
    collector = Collector()
    collector.begin()
    collector.settle()
    collector.stop()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
