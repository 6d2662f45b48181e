"""Very many readers, which come and go at any moment."""

from __future__ import annotations

import random
import resource
import select
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import pytest

from tests.support.broker import Reader, Service, sandbox

READERS: Final = 1000
MIB: Final = 1 << 20


@pytest.fixture
def _many_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_many_descriptors")
def test_a_thousand_readers_that_come_and_go(service: Service) -> None:
    """Each that stays sees every number, or is told how many it has missed."""
    service.start([sandbox(number) for number in range(10)])
    chance = random.Random(17)
    readers: dict[int, Reader] = {}
    poll = select.poll()
    came = 0
    try:
        while came < 2 * READERS or len(readers) < READERS:
            for _ in range(50):
                reader = service.reader()
                readers[reader.fileno()] = reader
                poll.register(reader.fileno(), select.POLLIN)
                came += 1
            service.churn(chance.choices(range(10), k=5), came)
            for descriptor, _ in poll.poll(0):
                if chance.random() < 0.3:
                    readers[descriptor].read(most=chance.choice((1, 100, 1 << 18)))
            for descriptor in chance.sample(sorted(readers), k=len(readers) // 40):
                poll.unregister(descriptor)
                readers.pop(descriptor).close()
        service.churn(range(10), came + 1)
        for reader in readers.values():
            assert service.agrees(reader.follow())
            assert all(after == before + 1 for before, after in pairwise(reader.events))
            assert reader.missed == []
        assert service.memory() < 24 * MIB
    finally:
        for reader in readers.values():
            reader.close()
    assert service.agrees(service.picture())
