"""`watcher hosts rm`, and `watcher hosts ls` that asks etcd itself."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Final

import pytest

from tests.cluster.conftest import ClusterMaker
from tests.support.cluster import Cluster, ClusterHost
from tests.support.etcd import Etcd
from watcher.cluster.registry.keys import Keys, Part, part_of
from watcher.model.cluster import claim_of

KEYS: Final = Keys("/watcher")
INCARNATION: Final = "0123456789abcdef"
BLOCKS: Final = ("172.19.4.0/24", "172.19.5.0/24", "fd00:19::400/120")
CLAIM: Final = "172.19.200.7"


@pytest.fixture
def cluster(make_cluster: ClusterMaker) -> Cluster:
    """An etcd with a silent host `b`, and a host that is to join."""
    cluster = make_cluster()
    cluster.start_etcd(tls=False)
    cluster.add("a")
    network = '{"subnets": ["172.19.0.0/16", "fd00:19::/64"], "block": 256, "number": 1}'
    cluster.etcd.put(KEYS.network("default"), network)
    add(cluster.etcd, "b", "198.51.100.99")
    return cluster


def add(etcd: Etcd, name: str, address: str) -> None:
    """Has etcd have a host with all that one may have."""
    own = f'"host": "{name}", "incarnation": "{INCARNATION}"'
    etcd.put(KEYS.host(name), f'{{"incarnation": "{INCARNATION}", "address": "{address}"}}')
    etcd.put(KEYS.address(address), name)
    for text in BLOCKS:
        etcd.put(KEYS.block(part_of("default", ip_network(text))), f"{{{own}}}")
    claim = KEYS.claim(part_of("default", claim_of(ip_address(CLAIM))))
    etcd.put(claim, f'{{{own}, "lent": "{name}"}}')
    etcd.put(KEYS.endpoint(name, "1"), "{}")


def live(etcd: Etcd, name: str) -> None:
    """Has etcd hear of a host."""
    etcd.put(KEYS.alive(name), f'{{"incarnation": "{INCARNATION}", "address": "198.51.100.99"}}')


def rows(host: ClusterHost) -> dict[str, dict[str, object]]:
    done = host.watcher("hosts", "ls", "--json")
    return {row["host"]: row for row in json.loads(done.stdout)}


def test_ls_asks_etcd_where_no_watcher_cluster_runs(cluster: Cluster) -> None:
    host = cluster.hosts["a"]
    done = host.watcher("hosts", "ls")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["HOST", "ADDRESS", "STATE", "BLOCKS", "CLAIMS", "REACHED"],
        ["b", "198.51.100.99", "silent", "default:3", "default:1", "routes,vxlan"],
    ]
    assert "no `watcher cluster` serves" in done.stderr
    live(cluster.etcd, "b")
    assert rows(host)["b"]["state"] == "alive"
    cluster.etcd.delete(KEYS.host("b"))
    row = rows(host)["b"]
    assert (row["state"], row["address"], row["reached"]) == ("removed", "", [])


def test_what_a_host_has_is_given_back(cluster: Cluster) -> None:
    host = cluster.hosts["a"]
    lines = host.watcher("hosts", "rm", "b").stdout.splitlines()
    assert lines == [
        *(f"gave back block {text} of default" for text in BLOCKS),
        f"gave back claim {CLAIM} of default",
        "removed host b",
    ]
    assert set(cluster.etcd.under("/watcher")) == {KEYS.network("default")}
    assert rows(host) == {}


def test_a_key_that_is_no_block_is_given_back_as_well(cluster: Cluster) -> None:
    host = cluster.hosts["a"]
    key = KEYS.block(Part("default", 4, int(ip_address("172.19.4.7"))))
    cluster.etcd.put(key, f'{{"host": "b", "incarnation": "{INCARNATION}"}}')
    assert rows(host)["b"]["blocks"] == {"default": list(BLOCKS)}
    done = host.watcher("hosts", "rm", "b")
    assert "gave back block 172.19.4.7 of default" in done.stdout
    assert key not in cluster.etcd.under("/watcher")


def test_one_that_lives_is_refused_without_force(cluster: Cluster) -> None:
    host = cluster.hosts["a"]
    live(cluster.etcd, "b")
    before = cluster.etcd.under("/watcher")
    done = host.watcher("hosts", "rm", "b", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert 'host "b" is alive; ' in done.stderr
    assert "--force" in done.stderr
    assert cluster.etcd.under("/watcher") == before
    assert host.watcher("hosts", "rm", "b", "--force").stdout.endswith("removed host b\n")


def test_an_unknown_one_is_refused_with_the_nearest_name(cluster: Cluster) -> None:
    host = cluster.hosts["a"]
    add(cluster.etcd, "node-17", "198.51.100.98")
    done = host.watcher("hosts", "rm", "node-71", check=False)
    assert done.returncode == 1
    assert 'there is no host "node-71" in the cluster; did you mean "node-17"?' in done.stderr


def test_what_was_cut_off_is_finished(cluster: Cluster) -> None:
    """Its own key goes first, so that it takes nothing more."""
    host = cluster.hosts["a"]
    for key in (KEYS.host("b"), KEYS.address("198.51.100.99")):
        cluster.etcd.delete(key)
    lines = host.watcher("hosts", "rm", "b").stdout.splitlines()
    assert len(lines) == len(BLOCKS) + 2
    assert set(cluster.etcd.under("/watcher")) == {KEYS.network("default")}


def test_a_host_whose_service_runs_does_not_remove_itself(cluster: Cluster) -> None:
    host = cluster.hosts["a"]
    add(cluster.etcd, "a", "198.51.100.97")
    with host.service():
        done = host.watcher("hosts", "rm", "a", check=False)
        assert done.returncode == 1
        assert '"a" is this host, whose service leases from its blocks' in done.stderr
    host.watcher("hosts", "rm", "a")


def test_no_secret_is_told(cluster: Cluster) -> None:
    host, etcd = cluster.hosts["a"], cluster.etcd
    with open(etcd.password_file, encoding="utf-8") as file:  # noqa: PTH123
        secret = file.read().strip()
    etcd.ctl("role", "revoke-permission", "watcher", "/watcher/", "--prefix")
    for arguments in (("hosts", "ls"), ("hosts", "rm", "b"), ("check",), ("config", "--json")):
        done = host.watcher("--log-level", "debug", *arguments, check=False)
        assert secret not in done.stdout + done.stderr
