"""The lease by which a host is heard of lives as long as it can, and etcd is seldom asked for it.

The clock of the loop jumps to what comes next.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from typing import Any, cast

import pytest

from watcher.cluster.agent.changer import Changer
from watcher.cluster.agent.journal import Journal
from watcher.cluster.etcd.errors import Unavailable
from watcher.cluster.registry.keys import Keys
from watcher.log.logger import SILENCE

TTLS = (5, 30, 3600)
HOUR = 3600.0


class Jumping(selectors.DefaultSelector):
    """Waits for nothing; the time is over at once."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing will ever come"
        self.now += max(0.0, timeout)
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """See the module's docstring."""

    def __init__(self) -> None:
        self._jumping = Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class Leases:
    """An etcd with one lease, which does not answer from `away` on and before `back`.

    Attributes:
        asked: when it was asked, from the beginning on.
        lapses: when the lease lapses.
    """

    def __init__(self, ttl: int, away: float, back: float) -> None:
        self._ttl = ttl
        self._away, self._back = away, back
        self._began = asyncio.get_running_loop().time()
        self.asked: list[float] = []
        self.lapses = float(ttl)

    async def keep_alive(self, _: int) -> int:
        now = asyncio.get_running_loop().time() - self._began
        self.asked.append(now)
        if self._away <= now < self._back:
            raise Unavailable((("http://192.0.2.9:2379", "it is away"),))
        self.lapses = now + self._ttl if now < self.lapses else 0.0
        return self._ttl if self.lapses else 0


def played(ttl: int, away: float, back: float, until: float) -> Leases:
    """What becomes of a lease that a host keeps alive until then."""

    async def play() -> Leases:
        etcd = Leases(ttl, away, back)
        changer = Changer(
            cast("Any", etcd), Keys("/watcher"), ttl, 30, Journal(SILENCE), lambda _: None, SILENCE
        )
        changer.lease = 7
        keeping = asyncio.create_task(changer.keep_alive(lambda: True))
        await asyncio.sleep(until)
        keeping.cancel()
        return etcd

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(play())


@pytest.mark.parametrize("ttl", TTLS)
def test_an_etcd_that_is_away_is_asked_less_and_less(ttl: int) -> None:
    asked = [at for at in played(ttl, 1.0, 2 * HOUR, HOUR).asked if at >= 1.0]
    assert len(asked) <= HOUR / (ttl / 6) + 30, "twice as often as if it answered"
    assert len([at for at in asked if at < ttl]) <= 30, "while the lease may live"


def test_hosts_do_not_ask_at_the_same_time() -> None:
    one, other = (set(played(30, 1.0, 2 * HOUR, HOUR).asked[2:]) for _ in range(2))
    assert not one & other


@pytest.mark.parametrize("ttl", TTLS)
def test_the_lease_lives_if_etcd_is_back_before_its_end(ttl: int) -> None:
    """A second before that at the latest."""
    for number in range(200):
        random.seed(number)
        away = random.uniform(0.0, 2 * ttl)
        kept = [at for at in played(ttl, 4 * ttl, 4 * ttl, away).asked if at < away]
        end = kept[-1] + ttl
        back = random.choice((end - 1.0, random.uniform(away, end - 1.0)))
        random.seed(number)
        assert played(ttl, away, max(away, back), end + ttl).lapses > end, (number, away, back)
