"""`watcher hosts ls`, as long as `watcher cluster` has not told anything else."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Final

import pytest

from tests.support.host import Host, HostMaker
from watcher.model.cluster import Peer, PeerBlock
from watcher.store.leases import LeaseStore

CLUSTER: Final = """
[network.back]
mode = "routed"
bridge = "back0"
subnets = ["10.9.0.0/16", "fd09::/64"]
cluster = true
[cluster]
etcd = ["http://127.0.0.1:9"]
host = "a"
address = "192.0.2.2"
"""


@pytest.fixture
def host(make_host: HostMaker) -> Host:
    """A host that knows of others."""
    host = make_host(CLUSTER)
    host.state_dir.mkdir()
    with LeaseStore.open(host.state_dir / "leases.db") as store:
        store.cluster.take("back", ip_network("10.9.4.0/24"))
        store.cluster.take("back", ip_network("10.9.7.9/32"))
        store.cluster.meet(
            [
                Peer("b", ip_address("192.0.2.1")),
                Peer("c", ip_address("203.0.113.9"), alive=False),
                Peer("d", ip_address("203.0.113.10")),
            ],
            [
                PeerBlock("back", ip_network("10.9.1.0/24"), "b"),
                PeerBlock("back", ip_network("10.9.2.0/24"), "b"),
                PeerBlock("back", ip_network("fd09::100/120"), "b"),
                PeerBlock("back", ip_network("10.9.3.0/24"), "c"),
            ],
        )
    return host


def test_it_shows_what_the_service_was_told_last(host: Host) -> None:
    done = host.watcher("hosts", "ls", check=False)
    assert done.returncode == 1
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["HOST", "ADDRESS", "STATE", "BLOCKS", "CLAIMS", "REACHED"],
        ["a", "192.0.2.2", "this", "back:1", "back:1", "-"],
        ["b", "192.0.2.1", "alive", "back:3", "-", "routes,vxlan"],
        ["c", "203.0.113.9", "silent", "back:1", "-", "vxlan"],
        ["d", "203.0.113.10", "alive", "-", "-", "-"],
    ]
    (line,) = done.stderr.splitlines()
    assert "no `watcher cluster` serves" in line
    assert line.endswith("start it, e.g. `systemctl start watcher-cluster`")


def test_as_json(host: Host) -> None:
    done = host.watcher("hosts", "ls", "--json", check=False)
    rows = {row["host"]: row for row in json.loads(done.stdout)}
    assert rows["a"] == {
        "host": "a",
        "address": "192.0.2.2",
        "state": "this",
        "blocks": {"back": ["10.9.4.0/24"]},
        "claims": {"back": ["10.9.7.9"]},
        "reached": [],
        "program": "",
    }
    assert rows["b"]["blocks"] == {"back": ["10.9.1.0/24", "10.9.2.0/24", "fd09::100/120"]}
    assert rows["b"]["reached"] == ["routes", "vxlan"]
    assert (rows["c"]["state"], rows["c"]["reached"]) == ("silent", ["vxlan"])


def test_without_a_cluster_it_says_so(make_host: HostMaker) -> None:
    done = make_host().watcher("hosts", "ls", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "this host is in no cluster" in done.stderr
