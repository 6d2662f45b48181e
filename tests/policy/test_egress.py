"""Where a sandbox may open connections to: packets that arrive, and those that are rejected."""

from __future__ import annotations

from tests.support.host import BEYOND, HostMaker

ROUTED = """
[network.default]
mode = "routed"
subnets = ["172.19.0.0/16"]
"""


def test_only_what_the_list_has_is_reached(make_host: HostMaker) -> None:
    host = make_host()
    host.service()
    host.beyond.serve(tcp=(80, 443), udp=(53,))
    limited = host.attach("limited", annotations={"io.watcher.egress": f"{BEYOND}:443/tcp"})
    free = host.attach("free")
    assert limited.reach(BEYOND, 443) is not None
    assert limited.reach(BEYOND, 80) is None
    assert limited.reach(BEYOND, 53, "udp") is None
    assert free.reach(BEYOND, 80) is not None
    assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"
