"""`watcher cluster` on real hosts, with real containers and an etcd that wants TLS and a user."""

from __future__ import annotations

import json
import signal

from tests.support.cluster import Cluster, ClusterHost
from tests.support.cluster.played import addresses
from tests.support.host import Host
from tests.support.traffic import Answer
from tests.support.waiting import eventually

PORT = 80


def blocks(cluster: Cluster, host: str) -> list[str]:
    """The keys of the blocks that a host has in etcd."""
    found = cluster.etcd.under("/watcher/v1/blocks/")
    return [key for key, value in found.items() if json.loads(value)["host"] == host]


def joined(cluster: Cluster, name: str) -> ClusterHost:
    """A host that has joined, and has a block of each family."""
    host = cluster.hosts[name].join()
    eventually(lambda: len(blocks(cluster, name)) == 2, what=f"{name} has blocks")
    return host


def test_containers_on_three_hosts_reach_each_other(cluster: Cluster) -> None:
    for name in cluster.hosts:
        joined(cluster, name)
    hosts = cluster.hosts.values()
    eventually(lambda: all(len(host.routes()) >= 4 for host in hosts), what="routes to others")
    boxes = {name: host.attach(name) for name, host in cluster.hosts.items()}
    for box in boxes.values():
        box.serve(tcp=(PORT,))
    found = {name: addresses(box) for name, box in boxes.items()}
    for name, box in boxes.items():
        for other in boxes.keys() - {name}:
            for source, to in zip(found[name], found[other], strict=True):
                assert box.reach(to, PORT) == Answer(other, source), (name, to)


def test_a_container_with_a_fixed_address_moves(cluster: Cluster) -> None:
    a, b = joined(cluster, "a"), joined(cluster, "b")
    annotations = {"io.watcher.ip": "172.19.200.7"}
    assert a.attach("web", annotations=annotations).address == "172.19.200.7"
    a.kill("web")
    a.delete("web")
    moved = b.attach("web", annotations=annotations)
    assert moved.address == "172.19.200.7"
    moved.serve(tcp=(PORT,))
    asking = a.attach("asking")
    eventually(lambda: asking.reach("172.19.200.7", PORT) is not None, what="it is reached")


def test_without_etcd_it_has_nothing_to_do(host: Host) -> None:
    done = host.watcher("cluster")
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "this host is in no cluster" in done.stderr


def test_only_one_runs_on_a_host(cluster: Cluster) -> None:
    a = joined(cluster, "a")
    done = a.watcher("cluster", check=False)
    assert done.returncode == 1
    assert "another `watcher cluster` runs on this host already" in done.stderr
    a.speaking.end()
    a.agent()


def test_a_signal_ends_it_and_says_how_to_reload(cluster: Cluster) -> None:
    a = joined(cluster, "a")
    a.speaking.signal(signal.SIGHUP)
    eventually(lambda: "restart `watcher cluster`" in a.speaking.log_text())
    a.speaking.stop()
    assert "Traceback" not in a.speaking.log_text()
    assert len(blocks(cluster, "a")) == 2
