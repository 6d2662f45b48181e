"""What happens to etcd: each row of the table in docs/cluster.md that begins with etcd."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Final

import pytest

from tests.support.cluster.cluster import TTL
from tests.support.cluster.whole import PREFIX, Whole, key_of
from tests.support.waiting import eventually

AWAY: Final = "etcd does not answer"
SOMEBODY: Final = '{"host": "x", "incarnation": "1"}'


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_etcd_is_away_for_minutes(whole: Whole, how: str) -> None:
    etcd, began = whole.cluster.etcd, time.monotonic()
    claimed = whole.starts("b", whole.elsewhere(), keep=True)
    ended = whole.starts("c", keep=True)
    ended_at = ended.address
    whole.resolves("a", ended.id, ended_at)
    for member in etcd.members:
        member.kill() if how == "killed" else member.pause()
    whole.unheard(*"abc")
    for name in "abc":
        # New containers, and fixed addresses in the blocks of the host, are as ever.
        whole.starts(name)
        whole.fixed(name)
        whole.refuses(name, AWAY, whole.elsewhere())
        whole.refuses(name, AWAY, whole.address_in("b" if name == "a" else "a"))
    whole.end(ended)
    new = whole.starts("a", keep=True)
    whole.resolves("a", new.id, new.address)
    eventually(lambda: time.monotonic() > began + 2 * TTL, what="the leases are over")
    whole.packets()
    whole.reached(claimed)
    for name in "bc":  # they hear of nothing new, and forget nothing
        whole.resolves(name, new.id)
        whole.resolves(name, "box-a", whole.boxes["a"].address)
    whole.resolves("a", ended.id, ended_at)
    for member in etcd.members:
        member.start() if how == "killed" else member.resume()
    whole.well()
    for name in "abc":
        whole.resolves(name, ended.id)
        whole.resolves(name, new.id, new.address)
    whole.starts("c", whole.elsewhere())
    whole.end(new)
    whole.end(claimed)


@pytest.fixture
def with_three(rootfs: Path) -> Iterator[Whole]:
    """Three hosts, and an etcd of three members."""
    whole = Whole(rootfs, members=3)
    yield whole
    whole.close()


def test_one_of_three_members_of_etcd_is_killed(with_three: Whole) -> None:
    """Another one, and the one that leads."""
    whole, etcd = with_three, with_three.cluster.etcd
    for leads in (False, True):
        leader = etcd.leader()
        member = next(member for member in etcd.members if (member is leader) == leads)
        member.kill()
        whole.well()
        whole.starts("a")
        whole.fixed("b")
        whole.starts("c", whole.elsewhere())
        whole.starts("a", whole.address_in("b"))
        new = whole.starts("b", keep=True)
        for name in "abc":
            whole.resolves(name, new.id, new.address)
        whole.end(new)
        member.start()
        member.ready()
    whole.well()


def test_etcd_is_restored_from_an_older_snapshot(whole: Whole) -> None:
    """While all runs: each host puts back what it has."""
    etcd = whole.cluster.etcd
    snapshot = etcd.snapshot()
    claimed = whole.starts("b", whole.elsewhere(), keep=True)
    lent = whole.starts("a", whole.address_in("c"), keep=True)
    named = whole.starts("c", keep=True)
    whole.resolves("a", named.id, named.address)
    before = {name: whole.blocks(name) for name in "abc"}
    etcd.restore(snapshot)
    for name in "abc":
        whole.refuses_what_is_new(name)
    whole.hold()  # for longer than this takes on a slow machine
    whole.packets()
    for name in "abc":
        whole.starts(name)
        whole.fixed(name)
        whole.refuses(name, "etcd was restored", whole.elsewhere())
    whole.well()
    for container in (claimed, lent, named):
        whole.reached(container)
        for name in "abc":
            whole.resolves(name, container.id, container.address)
    assert {name: whole.blocks(name) for name in "abc"} == before
    etcd.delete(f"{PREFIX}/restored")  # as when all had the time to put theirs back
    eventually(lambda: not whole.problem("c"), what="the time is over")
    whole.starts("c", whole.elsewhere())
    for container in (claimed, lent, named):
        whole.end(container)


def test_etcd_is_restored_while_watcher_cluster_is_down(whole: Whole) -> None:
    etcd = whole.cluster.etcd
    snapshot = etcd.snapshot()
    claimed = whole.starts("b", whole.elsewhere(), keep=True)
    named = whole.starts("c", keep=True)
    whole.resolves("a", named.id, named.address)
    before = {name: whole.blocks(name) for name in "abc"}
    for name in "abc":
        whole[name].speaking.kill9()
    etcd.restore(snapshot)
    whole.packets()
    for name in "abc":
        whole.starts(name)
        whole.fixed(name)
        whole.refuses(name, "`watcher cluster` does not run", whole.elsewhere())
        whole.resolves(name, named.id, named.address)
    for name in "abc":
        whole[name].speaking.start()
    whole.well()
    assert {name: whole.blocks(name) for name in "abc"} == before
    for container in (claimed, named):
        whole.reached(container)
        for name in "abc":
            whole.resolves(name, container.id, container.address)
        whole.end(container)
    etcd.delete(f"{PREFIX}/restored")
    eventually(lambda: not whole.problem("c"), what="the time is over")
    whole.starts("c", whole.elsewhere())


def test_etcd_has_compacted_what_a_host_has_not_seen(whole: Whole) -> None:
    cluster = whole.cluster
    cluster.cut_from_etcd("c")
    whole.unheard("c")
    claimed = whole.starts("a", whole.elsewhere(), by="ab", keep=True)
    named = whole.starts("b", keep=True)
    ended = whole.starts("b", keep=True)
    whole.resolves("a", ended.id, ended.address)
    whole.end(ended)
    whole.packets()
    whole.starts("c")
    whole.fixed("c")
    cluster.etcd.compact()
    cluster.heal()
    whole.well()
    whole["c"].speaking.logged("all is read again")
    whole.reached(claimed)
    whole.resolves("c", claimed.id, claimed.address)
    whole.resolves("c", named.id, named.address)
    whole.resolves("c", ended.id)
    whole.starts("c", whole.elsewhere())
    whole.end(claimed)
    whole.end(named)


def test_etcd_has_garbage(whole: Whole) -> None:
    """What hosts have is put back by who has read it before; all else is logged and left alone."""
    etcd = whole.cluster.etcd
    claimed = whole.starts("a", whole.elsewhere(), keep=True)
    four = next(block for block in whole.blocks("a") if block.endswith("/24"))
    six = next(block for block in whole.blocks("b") if ":" in block)
    damaged = [
        "hosts/c", "alive/c", f"addresses/{whole.cluster.station('c').ipv4}", "networks/default",
        f"blocks/{key_of(four)}", f"blocks/{key_of(six)}", f"claims/{key_of(claimed.address)}",
    ]  # fmt: skip
    for value in ("", '{"host": 5, "incarnation": []}', "x" * 100_000):
        for key in damaged:
            etcd.put(f"{PREFIX}/{key}", value)
        whole.well()
    taken = ip_network(f"{whole.elsewhere()}/24", strict=False)
    strange = {
        "hosts/x": "{", "hosts/..": "{}", "alive/x": '"x"', "networks/x y": "{}", "what/x": "?",
        "addresses/x": "?", "endpoints/c/1": "[]", "endpoints/x/1": "{", "endpoints/x": "",
        "networks/x": "x" * 100_000, f"blocks/{key_of(taken)}": '{"host": "../x"}',
        f"blocks/{key_of(taken[7])}": SOMEBODY, f"claims/{key_of('10.1.2.3')}": SOMEBODY,
        f"blocks/{key_of('10.1.2.0')}": SOMEBODY, "blocks/default/9/00": SOMEBODY,
        "blocks/default/4/1": SOMEBODY, "blocks/x/4/ac130000": SOMEBODY, "claims/": SOMEBODY,
    }  # fmt: skip
    for key, value in strange.items():
        etcd.put(f"{PREFIX}/{key}", value)
    etcd.put("/elsewhere/v1/hosts/y", SOMEBODY)
    for name in "abc":
        whole[name].speaking.logged("etcd has something that is not understood", "hosts/x")
        whole.starts(name)
        whole.fixed(name)
    whole.starts("b", whole.elsewhere())
    whole.starts("b", whole.address_in("c"))
    whole.refuses("c", "cannot be claimed", str(taken[9]))
    whole.reached(claimed)
    whole.well()
    for key in strange:
        etcd.delete(f"{PREFIX}/{key}")
    etcd.delete("/elsewhere/v1/hosts/y")
    whole.end(claimed)
    whole.starts("c", str(taken[9]))


def test_etcd_says_that_a_block_is_another_hosts(whole: Whole) -> None:
    """Somebody has written so. The host takes another block, and has it again afterwards."""
    etcd, at = whole.cluster.etcd, whole.boxes["a"].address
    block = next(block for block in whole.blocks("a") if block.endswith("/24"))
    key = f"{PREFIX}/blocks/{key_of(block)}"
    etcd.put(key, SOMEBODY)
    eventually(lambda: whole.known_blocks("a").get(block) == "x", what="a has heard of it")
    for name in "bc":
        eventually(partial(whole.is_cut, name, at), what=f"no way from {name}")
        whole.resolves(name, "box-a")  # it is in no block of its host
    assert block in whole.blocks("a", "lost")
    whole.packets("ab", "ac")
    eventually(lambda: any(one.endswith("/24") for one in whole.blocks("a")), what="another block")
    whole.starts("a", by="bc")
    whole.fixed("a", by="bc")
    whole.refuses("a", "cannot be claimed", at.rpartition(".")[0] + ".77")
    whole.starts("b", by="bc")
    etcd.delete(key)
    eventually(lambda: block in whole.blocks("a"), what="a has it again")
    whole.well()


def test_etcd_has_a_layout_of_another_version(whole: Whole) -> None:
    etcd = whole.cluster.etcd
    etcd.put(f"{PREFIX}/layout", "2")
    for name in "abc":
        whole[name].speaking.logged("another version", "takes no part in the cluster")
        whole.starts(name)
        whole.fixed(name)
        whole.refuses(name, "of another version", whole.elsewhere())
    whole.packets()
    whole.silent("a", "b", "c")
    whole.resolves("a", "box-c")
    whole.resolves("a", "box-a", whole.boxes["a"].address)
    etcd.put(f"{PREFIX}/layout", "1")
    whole.well()
    whole.starts("c", whole.elsewhere())
