"""The counters of links, while links come and go."""

from __future__ import annotations

import select

from handlers.kernel.counters import Counters, Counts
from tests.support.host import Host
from tests.support.traffic import entered
from tests.support.waiting import PATIENCE

PAIRS = 100
"""Pairs of links whose counters are more than the kernel tells at once."""


def test_a_list_that_changes_meanwhile_is_asked_for_again_but_not_for_ever(host: Host) -> None:
    batch = "\n".join(f"link add a{n} type veth peer name b{n}" for n in range(PAIRS))
    host.here.run("ip", "-batch", "-", stdin=batch)
    with entered(host.here.netns):
        counters = Counters()
    counters.ask()
    begun = 0
    found: dict[int, Counts] = {}
    last = False
    while not last:
        assert select.select([counters], [], [], PATIENCE)[0]
        part = counters.read()
        if part.anew:
            begun += 1
            found.clear()
            host.ip("link", "add", f"c{begun}", "type", "veth", "peer", "name", f"d{begun}")
        found |= dict(part.links)
        last = part.last
    assert begun == 2
    names = {counters.name(index) for index in found}
    assert {f"{end}{n}" for n in range(PAIRS) for end in "ab"} | {"c1", "d1", "lo"} <= names
    counters.close()
