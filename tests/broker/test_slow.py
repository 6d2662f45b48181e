"""Readers that read slowly, or never: they cost others nothing, and the broker little memory."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import pytest

from tests.support.broker import Reader, Service, sandbox
from tests.support.waiting import eventually
from watcher.observe.broker.ring import EVENTS

MANY: Final = 5000
MIB: Final = 1 << 20


@pytest.fixture
def wide(service: Service) -> Service:
    """A broker that has been told of many sandboxes."""
    service.start([sandbox(number) for number in range(MANY)])
    return service


def test_a_slow_reader_of_many_sandboxes_under_churn_converges(wide: Service) -> None:
    """It reads 1 KiB while 200 events happen. Nothing but the end of the churn lets it catch up."""
    with wide.reader() as slow, wide.reader() as quick:
        quick.follow()
        for change in range(1, 6):
            for first in range(0, MANY, 200):
                wide.churn(range(first, first + 200), change)
                slow.read(most=1024)
                quick.follow()
        assert wide.agrees(quick.known)
        assert quick.events == list(range(1, wide.seq + 1))
        assert quick.missed == []
        assert wide.agrees(slow.follow())
        assert slow.seen["Missed"] >= 1


def test_a_slow_reader_gets_a_picture_from_one_moment(wide: Service) -> None:
    """Its state is that of its number, whatever has changed before it has read it."""
    with wide.reader() as slow, wide.reader() as quick:
        slow.read(most=1024)
        before = dict(wide.lines)
        quick.until(lambda: quick.known.complete)
        wide.churn(range(MANY - 100, MANY), 7)
        wide.event(
            *map(sandbox, range(MANY, MANY + 100)), unset=[sandbox(17).key, sandbox(4900).key]
        )
        quick.follow()
        slow.until(lambda: slow.known.complete)
        if slow.known.seq == 0:
            assert slow.known.sandboxes == before
        assert wide.agrees(slow.follow())
        assert slow.missed == []


def test_readers_that_do_not_read_cost_little_and_delay_nobody(wide: Service) -> None:
    with wide.reader() as quick:
        quick.follow()
        _churn(wide, quick, rounds=3)
        before = wide.memory()
        asleep = [wide.reader() for _ in range(200)]
        try:
            asleep[-1].read(most=1)  # they are accepted in order
            _churn(wide, quick, rounds=3)
            grown = wide.memory() - before
            assert grown < 4 * MIB, f"{grown >> 10} KiB"
            assert quick.missed == []
            for reader in (asleep[0], asleep[150]):
                assert wide.agrees(reader.follow())
                assert reader.missed == [wide.seq - 3 * 10_000]
        finally:
            for reader in asleep:
                reader.close()


def _churn(service: Service, reader: Reader, rounds: int) -> None:
    for change in range(rounds):
        for first in range(0, MANY, 500):
            service.churn(range(first, first + 500), change)
            service.churn(range(first, first + 500), change + 1)
            reader.follow()


def test_it_is_told_exactly_how_many_it_has_missed(service: Service) -> None:
    service.start([sandbox(1)])
    with service.reader() as slow, service.reader() as quick:
        slow.follow()
        for _ in range(3 * EVENTS // 100):
            service.churn(range(100), service.seq)
            quick.follow()
        assert service.agrees(slow.follow())
        assert slow.missed == [service.seq - len(slow.events)]
        assert all(after == before + 1 for before, after in pairwise(slow.events))
        eventually(lambda: _missed(service) == slow.missed[0])


def _missed(service: Service) -> int:
    """How many events readers have missed; what a reader gets of that may be a second old."""
    readers = service.picture().readers
    assert readers is not None
    return readers.missed
