"""`kill -9` of the service at every point of taking a block and of giving one back.

`watcher cluster` is killed at each of its requests in `test_agreeing`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import pytest

from tests.cluster.conftest import PlayedMaker
from tests.support.cluster import ClusterHost
from tests.support.clustering import Registry, own
from tests.support.killer import READY, Killer, every_point
from tests.support.waiting import eventually
from watcher.cluster.protocol import BlockRow
from watcher.store.leases import LeaseStore

pytestmark = pytest.mark.accident

FEW: Final = 3
"""Every so-manieth point. `make soak` takes all."""

FIRST: Final = "10.9.1.0/28"
SIX: Final = "fd09::100/124"
ALL: Final = frozenset({FIRST, "10.9.2.0/28", "10.9.3.0/28", SIX})
"""One of them is more than the service needs."""


def blocks(host: ClusterHost) -> dict[str, str]:
    """The state of each block of the host's lease store."""
    path = host.state_dir / "leases.db"
    if not path.exists():
        return {}
    with LeaseStore.open(path, read_only=True) as store:
        return {str(block.prefix): block.state for block in store.cluster.blocks()}


@pytest.fixture
def a(played: PlayedMaker) -> ClusterHost:
    """A host that has no service yet."""
    return played(hosts="").add("a", started=False)


def test_taking_one(a: ClusterHost) -> None:
    killer = Killer(a)
    held = {FIRST: "held", SIX: "held"}

    def taken() -> bool:
        return blocks(a) == held

    def take(at: int) -> bool:
        killer.run("down")
        killer.start("run", at=at, after="READY=1")
        assert killer.until(READY)
        with Registry(a.run_dir, killer.has_ended) as registry:
            with suppress(OSError):  # it may have been killed before
                registry.whole(own(FIRST), own(SIX))
            return killer.stopped_when(taken)

    def check() -> None:
        killer.start("run")
        assert killer.until(READY)
        with Registry(a.run_dir) as registry:
            registry.whole(own(FIRST), own(SIX))
            eventually(taken)
            assert not killer.stopped_when(lambda: True)

    every_point(take, check, step=FEW)


def test_giving_one_back(a: ClusterHost) -> None:
    """It has left the block before it says so, and etcd has it until then."""
    killer = Killer(a)
    in_etcd: set[str] = set()

    def follow(registry: Registry) -> bool:
        """What etcd has follows what the service tells; whether it has done its part."""
        registry.hear()
        rows = registry.heard.of(BlockRow).values()
        leaving = {str(row.prefix) for row in rows if row.state == "leaving"} & in_etcd
        if leaving:
            in_etcd.difference_update(leaving)
            registry.whole(*map(own, in_etcd))
        return in_etcd < ALL and blocks(a) == dict.fromkeys(in_etcd, "held")

    def give_back(at: int) -> bool:
        killer.run("down")
        in_etcd.update(ALL)
        killer.start("run", at=at, after="READY=1")
        assert killer.until(READY)
        with Registry(a.run_dir, killer.has_ended) as registry:
            with suppress(OSError):  # it may have been killed before
                registry.whole(*map(own, in_etcd))
            return killer.stopped_when(lambda: follow(registry))

    def check() -> None:
        held = {prefix for prefix, state in blocks(a).items() if state == "held"}
        assert held <= in_etcd  # nothing is leased from what etcd has no more
        killer.start("run")
        assert killer.until(READY)
        with Registry(a.run_dir) as registry:
            registry.whole(*map(own, in_etcd))
            eventually(lambda: follow(registry))
            assert not killer.stopped_when(lambda: True)

    every_point(give_back, check, step=FEW)
