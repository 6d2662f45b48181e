"""Hosts that are cut off: each row of the table in docs/cluster.md that begins so."""

from __future__ import annotations

from typing import Final

from tests.support.cluster.whole import Whole

AWAY: Final = "etcd does not answer"


def test_a_host_is_cut_off_from_etcd_alone(whole: Whole) -> None:
    whole.cluster.cut_from_etcd("c")
    whole.unheard("c")
    for name in "ab":
        whole.silent(name, "c")
    whole.packets()
    # The host itself:
    whole.starts("c")
    whole.fixed("c")
    whole.refuses("c", AWAY, whole.elsewhere())
    for other in whole.boxes:
        whole.resolves("c", f"box-{other}", whole.boxes[other].address)
    # The others:
    whole.starts("a")
    whole.fixed("b")
    whole.starts("a", whole.elsewhere(), by="ab")  # it hears of no new claim
    whole.refuses("a", 'host "c" has the addresses around it, and is not heard of',
                  whole.address_in("c"))  # fmt: skip
    for name in "ab":
        whole.resolves(name, "box-c")
        whole.resolves(name, "box-a", whole.boxes["a"].address)
    whole.cluster.heal()
    whole.well()


def test_a_host_is_cut_off_from_its_peers_alone(whole: Whole) -> None:
    whole.cluster.cut("a")
    whole.packets("ab", "ac")
    for name, by in (("a", "a"), ("b", "bc"), ("c", "bc")):
        whole.starts(name, by=by)
        whole.fixed(name, by=by)
        whole.starts(name, whole.elsewhere(), by=by)
        whole.starts(name, whole.address_in("b" if name == "a" else "a"), by=by)
        for other in whole.boxes:
            whole.resolves(name, f"box-{other}", whole.boxes[other].address)
    whole.cluster.heal()
    whole.well()


def test_a_host_is_cut_off_from_etcd_and_its_peers(whole: Whole) -> None:
    whole.cluster.cut("a")
    whole.cluster.cut_from_etcd("a")
    whole.unheard("a")
    for name in "bc":
        whole.silent(name, "a")
    whole.packets("ab", "ac")
    # The host itself:
    whole.starts("a", by="a")
    whole.fixed("a", by="a")
    whole.refuses("a", AWAY, whole.elsewhere())
    for other in whole.boxes:
        whole.resolves("a", f"box-{other}", whole.boxes[other].address)
    # The others:
    whole.starts("b", by="bc")
    whole.fixed("c", by="bc")
    whole.starts("b", whole.elsewhere(), by="bc")
    whole.refuses("c", "is not heard of", whole.address_in("a"))
    for name in "bc":
        whole.resolves(name, "box-a")
        whole.resolves(name, "box-b", whole.boxes["b"].address)
    whole.cluster.heal()
    whole.well()
