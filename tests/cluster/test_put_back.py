"""What hosts put back into an etcd that was restored from an older snapshot."""

from __future__ import annotations

from tests.support.cluster.whole import Whole
from tests.support.waiting import eventually


def test_it_is_heard_by_a_host_that_did_not_notice(whole: Whole) -> None:
    """It has read etcd, with more than it had seen, before the others put back what they have."""
    etcd = whole.cluster.etcd
    snapshot = etcd.snapshot()
    claimed = whole.starts("b", whole.elsewhere(), keep=True)
    for name in "abc":
        whole[name].speaking.kill9()
    seen = etcd.revision()
    etcd.restore(snapshot)
    while etcd.revision() <= seen:
        etcd.put("/elsewhere/written", "since")
    whole["c"].speaking.start()
    claim = f"{claimed.address}/32"
    eventually(lambda: claim not in whole.known_blocks("c"), what="c has read etcd")
    lease = whole.hold()
    for name in "ab":
        whole[name].speaking.start()
    whole.reached(claimed)
    for name in "abc":
        whole.resolves(name, claimed.id, claimed.address)
        whole.refuses(name, "etcd was restored", whole.elsewhere())
    etcd.ctl("lease", "revoke", lease)
    whole.well()
    whole.end(claimed)
