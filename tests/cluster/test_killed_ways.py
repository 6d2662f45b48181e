"""`kill -9` at every point of a change of the ways to other hosts: the next sync ends it."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Final

import pytest

from tests.cluster.conftest import ClusterMaker, PlayedMaker
from tests.support.cluster.agreed import Agreed, Net
from tests.support.cluster.pictures import picture
from tests.support.clustering import Registry
from tests.support.killer import KILLED, READY, Killer, every_point
from tests.support.waiting import eventually
from watcher.model.cluster import Block, Peer, PeerBlock
from watcher.store.leases import LeaseStore

pytestmark = pytest.mark.accident

FEW: Final = 3
"""Every so-manieth point. `make soak` takes all."""

RAZE: Final = (
    "ip route flush proto 119; ip -6 route flush proto 119; ip link del netnsx1;"
    " ip addr del 172.19.1.0/32 dev netns0; ip addr del fd00:19::100/128 dev netns0"
)
MOVED: Final = (
    PeerBlock("default", ip_network("172.19.2.0/24"), "c"),
    PeerBlock("default", ip_network("172.19.9.0/24"), "b"),
    PeerBlock("default", ip_network("fd00:19::309/128"), "b"),
)


@pytest.fixture
def agreed(make_cluster: ClusterMaker) -> Agreed:
    """Three hosts, of which a has a container."""
    agreed = Agreed(make_cluster(), Net().config())
    agreed["a"].run("web")
    return agreed


def test_making_and_removing_them(agreed: Agreed) -> None:
    a = agreed["a"]
    killer = Killer(a)
    fresh = picture(a)
    killer.sync()
    whole = picture(a)
    assert len(whole["routes"]) == 3

    def make(at: int) -> bool:
        a.command("sh", "-c", RAZE)
        return killer.run("sync", at=at) == KILLED

    def check() -> None:
        killer.sync()
        assert picture(a) == whole

    every_point(make, check, step=FEW)

    def down(at: int) -> bool:
        agreed.tell("a")
        killer.sync()
        return killer.run("down", at=at) == KILLED

    def check_again() -> None:
        agreed.tell("a")
        check()
        assert killer.run("down") == 0
        assert picture(a) == fresh

    every_point(down, check_again, step=FEW)


def test_changing_them(agreed: Agreed) -> None:
    """Blocks move, a host gets another address, and this one has another block."""
    a = agreed["a"]
    killer = Killer(a)
    killer.sync()
    before = picture(a)
    others = agreed.of_others("a")
    own = [Block("default", block, "held") for block in Net().blocks("a")]
    moved = Peer("c", ip_address("203.0.113.77"))
    after: list[dict[str, list[str]]] = []

    def change(at: int) -> bool:
        tell(*others.peers, *others.blocks, *own, gone=MOVED[1:])
        killer.sync()
        assert picture(a) == before
        tell(moved, *MOVED, Block("default", own[0].prefix, "lost"))
        return killer.run("sync", at=at) == KILLED

    def tell(*rows: Peer | PeerBlock | Block, gone: tuple[PeerBlock, ...] = ()) -> None:
        with LeaseStore.open(a.state_dir / "leases.db") as store:
            for row in rows:
                if isinstance(row, Block):
                    store.cluster.turn(row.network, row.prefix, row.state)
            store.cluster.meet(
                [row for row in rows if isinstance(row, Peer)],
                [row for row in rows if isinstance(row, PeerBlock)],
                (), [(row.network, row.prefix) for row in gone],
            )  # fmt: skip

    def check() -> None:
        killer.sync()
        after.append(picture(a))
        assert after[-1] == after[0] != before

    every_point(change, check, step=FEW)


def test_hearing_of_them(played: PlayedMaker) -> None:
    """The service is killed while it does what it has been told."""
    one = played(hosts="")
    a = one.add("a", started=False)
    killer = Killer(a)
    a.run("web")
    rows = one.rows("a", peers={"b": "198.51.100.12", "c": "203.0.113.13"}, blocks={
        "10.9.2.0/28": "b", "10.9.3.0/28": "c", "fd09::200/124": "b", "fd09::300/124": "c",
        "10.9.3.9/32": "b",
    })  # fmt: skip
    whole: list[dict[str, list[str]]] = []

    def hear(at: int) -> bool:
        killer.run("down")
        killer.start("run", at=at, after="READY=1")
        assert killer.until(READY)
        with Registry(a.run_dir, killer.has_ended) as registry:
            with suppress(OSError):  # it may have been killed before
                registry.whole(*rows)
            return killer.stopped_when(lambda: len(a.routes()) == 7)

    def check() -> None:
        killer.start("run")
        assert killer.until(READY)
        with Registry(a.run_dir) as registry:
            registry.whole(*rows)
            eventually(lambda: len(a.routes()) == 7)
            eventually(lambda: "web" in a.leases().values())  # then the host forwards
            eventually(lambda: a.ls()["web"]["status"] == "attached")
            assert not killer.stopped_when(lambda: True)
        whole.append(picture(a))
        assert whole[-1] == whole[0]

    every_point(hear, check, step=FEW)
