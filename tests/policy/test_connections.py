"""How many connections a sandbox may have at once, counted by what the kernel keeps of them."""

from __future__ import annotations

from typing import Final

import pytest

from tests.config.test_reload import reload
from tests.support.host import BEYOND, BEYOND6, GATEWAY, UPLINK, UPLINK6, Host, HostMaker
from tests.support.refused import REJECTED, attempt, opened
from tests.support.waiting import eventually

DUAL: Final = """
[network.default]
mode = "{mode}"
subnets = ["172.19.0.0/16", "fd00:19::/64"]
{more}
"""


def count(host: Host) -> int:
    """The entries of the host's table of connections."""
    return int(host.sysctl("net/netfilter/nf_conntrack_count"))


@pytest.mark.parametrize("mode", ["bridge", "routed"])
def test_a_sandbox_cannot_fill_the_table_of_connections(make_host: HostMaker, mode: str) -> None:
    host = make_host(DUAL.format(mode=mode, more="connections = 100"))
    host.service()
    host.beyond.serve(tcp=(80,))
    hoarder = host.attach("hoarder", ports="8080:80")
    hoarder.serve(tcp=(80,))
    other = host.attach("other")
    before = count(host)
    # Both families, and what is outside, of the host, and of a neighbour by way of the host.
    tried = [BEYOND, BEYOND6, GATEWAY, "198.51.100.7"]
    assert opened(hoarder.place, tried, range(1000, 1100)) == 400
    assert 90 <= count(host) - before <= 100
    assert attempt(hoarder.place, BEYOND, 80) == REJECTED[4]
    assert attempt(hoarder.place, BEYOND6, 80) == REJECTED[6]
    # What it publishes counts as well: a friend outside could fill the table otherwise.
    assert attempt(host.beyond, UPLINK, 8080) == REJECTED[4]
    assert attempt(host.beyond, UPLINK6, 8080) == REJECTED[6]
    assert attempt(other.place, BEYOND, 80) == "beyond"
    host.command("conntrack", "-D", "-s", hoarder.address, check=False)
    assert attempt(hoarder.place, BEYOND, 80) == "beyond"
    assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"


def test_a_large_bound_is_kept_in_parts(make_host: HostMaker) -> None:
    host = make_host()
    host.service()
    hoarder = host.attach("hoarder", annotations={"io.watcher.connections": "3000"})
    exact = host.attach("exact", annotations={"io.watcher.connections": "1"})
    host.here.serve(tcp=(9,))
    assert attempt(exact.place, UPLINK, 9) == "host"
    before = count(host)
    opened(hoarder.place, ["198.51.100.7"], range(1, 2001))
    assert 1990 <= count(host) - before <= 2000  # what was there before ends by itself
    opened(hoarder.place, ["198.51.100.8"], range(1, 6001))
    assert 2900 < count(host) - before <= 3000
    assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"


def test_the_smallest_number_counts_and_follows_the_configuration(make_host: HostMaker) -> None:
    limits = "[root.limits]\nconnections = 50\n"
    host = make_host(limits + DUAL.format(mode="bridge", more="connections = 100"))
    service = host.service()
    hoarder = host.attach("hoarder")
    before = count(host)
    opened(hoarder.place, ["198.51.100.7"], range(1, 101))
    assert 45 <= count(host) - before <= 50
    reload(host, service, limits + DUAL.format(mode="bridge", more="connections = 20"))
    host.command("conntrack", "-F", check=False)
    opened(hoarder.place, ["198.51.100.7"], range(101, 201))
    assert 15 <= count(host) <= 25  # with a few of others
    host.nft("flush", "ruleset")  # it is counted anew, and no more than that
    eventually(lambda: host.nft("list", "map", "inet", "watcher", "connections4"))
    opened(hoarder.place, ["198.51.100.7"], range(201, 301))
    assert count(host) <= 45
    assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"
    reload(host, service, DUAL.format(mode="bridge", more=""))
    host.attach("free")
    assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"
