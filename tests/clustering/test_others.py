"""The lease store has of other hosts what was told, in whatever order, and nothing else."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from tests.support.clustering import asked, theirs
from watcher.cluster.protocol import AskedRow, Begin, End, PeerBlockRow, Row, key_of, removal_of
from watcher.clustering.others import Others
from watcher.clustering.tables import Heard
from watcher.model.cluster import PeerBlock
from watcher.store.leases import LeaseStore

BLOCKS = ("10.9.1.0/28", "10.9.2.0/28", "fd09::10/124", "10.9.3.1/32")
CLAIMS = ("10.9.0.1/32", "fd09::1/128")

rows = st.one_of(
    st.builds(theirs, st.sampled_from(BLOCKS), st.sampled_from("ab")),
    st.builds(asked, st.sampled_from(CLAIMS), st.sampled_from("ab")),
)
steps = st.one_of(
    rows.map(lambda row: [row]),
    rows.map(lambda row: [removal_of(row)]),
    st.lists(rows, max_size=4).map(lambda some: [Begin(), *some, End()]),
    st.sampled_from(("read anew", "changed by somebody", "lost")),
)


@given(st.lists(steps, max_size=10))
def test_the_store_has_what_was_told(steps: list[list[Row] | str]) -> None:
    heard, others = Heard(), Others(lambda _: None)
    heard.take([Begin(), End()])
    with TemporaryDirectory() as directory, LeaseStore.open_anew(Path(directory, "store")) as store:
        for step in steps:
            if not isinstance(step, str):
                heard.take(step)
            else:
                others.read_anew()
            if step == "changed by somebody":
                changed = [PeerBlock("default", ip_network(text), "c") for text in BLOCKS[1:]]
                store.cluster.meet((), changed)
            elif step == "lost":
                gone = [(one.network, one.prefix) for one in store.cluster.peer_blocks()]
                store.cluster.meet((), (), (), gone)
            others.meet(store.cluster, heard)
            told: list[AskedRow | PeerBlockRow] = [
                *heard.of(AskedRow).values(),
                *heard.of(PeerBlockRow).values(),
            ]
            there = {
                (one.network, str(one.prefix)): one.host for one in store.cluster.peer_blocks()
            }
            assert there == {key_of(row): row.host for row in told}
            assert not others.meet(store.cluster, heard)
            assert all(map(others.have_lent, heard.of(AskedRow).values()))
