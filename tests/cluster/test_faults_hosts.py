"""What happens to hosts: each row of the table in docs/cluster.md that begins with a host."""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.cluster.hosts import NETWORK
from tests.support.cluster.whole import Whole
from tests.support.waiting import eventually

FULL: Final = "no free address in the blocks"


@pytest.mark.parametrize("store", [True, False], ids=["with-its-store", "without"])
def test_a_host_dies_and_returns(whole: Whole, store: bool) -> None:
    claimed = whole.starts("c", whole.elsewhere(), keep=True)
    address, inside, at = claimed.address, whole.address_in("c"), whole.boxes["c"].address
    blocks = whole.blocks("c")
    dead = whole.die("c")
    for name in "ab":
        assert whole.boxes[name].reach(at, 80, timeout=0.4) is None
        whole.silent(name, "c")
        whole.resolves(name, "box-c")
    whole.packets()
    whole.starts("a")
    whole.fixed("b")
    whole.starts("a", whole.elsewhere())
    whole.refuses("a", 'host "c" has it', address)
    whole.refuses("b", "is not heard of", inside)
    assert blocks <= {*whole.known_blocks("a")}
    whole.returns(dead, store=store)
    whole["c"].provided()
    whole.box("c")
    whole.well()
    assert {block for block in blocks if not block.endswith("/32")} <= whole.blocks("c")
    whole.starts("c")
    whole.starts("c", address)
    whole.starts("a", address)
    whole.starts("a", whole.address_in("c"))


def test_a_dead_host_is_removed_and_returns(whole: Whole) -> None:
    claimed = whole.starts("c", whole.elsewhere(), keep=True).address
    inside, at = whole.address_in("c"), whole.boxes["c"].address
    before = whole.incarnation("c")
    dead = whole.die("c")
    whole.silent("a", "c")
    whole.removes("a", "c")
    for name in "ab":
        whole.forgotten("c", name)
        whole.resolves(name, "box-c")
        assert whole.boxes[name].reach(at, 80, timeout=0.4) is None
    whole.packets()
    whole.starts("a")
    whole.starts("a", claimed)
    kept = whole.starts("b", inside, keep=True)
    whole.returns(dead)
    eventually(lambda: whole.incarnation("c") != before, what="it takes part anew")
    whole["c"].provided()
    whole.box("c")
    whole.well()
    whole.reached(kept)
    whole.starts("c")
    whole.refuses("c", 'host "b" has it', inside)
    whole.end(kept)


def test_a_living_host_is_removed(whole: Whole) -> None:
    """It is refused; by force, the host stops to lease, until `watcher cluster` is restarted."""
    done = whole["a"].watcher("hosts", "rm", "c", check=False)
    assert (done.returncode, 'host "c" is alive' in done.stderr) == (1, True)
    whole.well()
    before, at = whole.incarnation("c"), whole.boxes["c"].address
    neighbour = whole.starts("c", keep=True)
    whole.removes("a", "c", "--force")
    eventually(lambda: not whole.blocks("c"), what="it has heard of it")
    # The host itself: what runs goes on, and nothing starts.
    whole.reached(neighbour, "c")
    whole.refuses("c", FULL)
    whole.refuses("c", 'host "c" was removed', at.rpartition(".")[0] + ".77")
    whole.refuses("c", 'host "c" was removed', whole.elsewhere())
    whole.resolves("c", "box-a", whole.boxes["a"].address)
    whole.resolves("c", "box-c", at)
    # The others: nobody has its blocks.
    for name in "ab":
        whole.forgotten("c", name)
        assert whole.boxes[name].reach(at, 80, timeout=0.4) is None
        whole.resolves(name, "box-c")
    whole.packets("ac", "bc")
    whole.starts("a", by="ab")
    whole.starts("b", whole.elsewhere(), by="ab")
    whole["c"].speaking.restart()
    whole.well()
    assert whole.incarnation("c") != before
    whole.reached(neighbour)
    whole["c"].provided()
    whole.starts("c")
    whole.fixed("c")
    whole.end(neighbour)


def test_two_hosts_have_one_name(whole: Whole) -> None:
    with whole.more("d", called="c") as host:
        host.speaking.logged("another machine is host", "takes no part in the cluster")
        assert not whole.blocks("d")
        whole.refuses("d", FULL)
        whole.refuses("d", "another machine is host", whole.elsewhere())
        whole.well()
        whole.starts("c")
        whole.fixed("c")
        whole.starts("c", whole.elsewhere())
    whole.well()


def test_two_hosts_have_one_address(whole: Whole) -> None:
    with whole.more("d", address=str(whole.cluster.station("c").ipv4)) as host:
        host.speaking.logged("is the address of host", "takes no part in the cluster")
        assert not whole.blocks("d")
        whole.refuses("d", FULL)
        whole.refuses("d", "is the address of host", whole.elsewhere())
        whole.well()
        whole.starts("c")
        whole.fixed("c")
        whole.starts("c", whole.elsewhere())
    whole.well()


@pytest.mark.parametrize(
    "config",
    [NETWORK.replace("172.19.0.0/16", "172.19.0.0/17"), f"{NETWORK}block = 128\n"],
    ids=["subnet", "block"],
)
def test_a_host_has_another_subnet_or_block_size(whole: Whole, config: str) -> None:
    with whole.more("d", config) as host:
        host.speaking.logged("the other hosts have", "takes no part in a network")
        assert not whole.blocks("d")
        whole.refuses("d", FULL)
        whole.refuses("d", "the other hosts have", "172.19.3.4")
        for name in "abc":
            whole.hears(name, "d")
        whole.packets()
        whole.starts("a")
        whole.fixed("c")
        whole.starts("b", whole.elsewhere())
    for name in "abc":
        whole.silent(name, "d")
    whole.removes("a", "d")
    whole.well()
