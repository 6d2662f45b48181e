"""A member of etcd that is named: its address comes from the host's resolver."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from tests.cluster.conftest import ClusterMaker
from tests.support import traffic
from tests.support.cluster import Cluster, ClusterHost
from tests.support.cluster.hosts import NETWORK
from tests.support.host import Service
from tests.support.waiting import PATIENCE, eventually

LONGEST = "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n"
"""How long the C library waits for an answer: minutes (RES_MAXRETRANS and RES_MAXRETRY)."""


def named(cluster: Cluster) -> ClusterHost:
    """A host whose etcd is named."""
    config = f'{NETWORK}\n[cluster]\nhost = "a"\netcd = ["http://etcd.test:2379"]\n'
    return cluster.add("a", config=config, whole=True)


def put(host: ClusterHost, path: str, text: str) -> None:
    """Another file of the system, on that host alone."""
    file = host.base / Path(path).name
    file.write_text(text)
    host.command("mount", "--bind", str(file), path)


def test_it_is_found(make_cluster: ClusterMaker) -> None:
    cluster = make_cluster()
    etcd = cluster.start_etcd(tls=False, auth=False)
    host = named(cluster)
    put(host, "/etc/hosts", f"{cluster.members[0].ipv4} etcd.test\n")
    host.join()

    def holders() -> set[str]:
        return {json.loads(value)["host"] for value in etcd.under("/watcher/v1/blocks/").values()}

    eventually(lambda: holders() == {"a"}, what="a has blocks")
    host.speaking.stop()


def test_a_resolver_that_hangs_does_not_hold_up_the_end(make_cluster: ClusterMaker) -> None:
    host = named(make_cluster())
    put(host, "/etc/resolv.conf", LONGEST)
    with traffic.make_socket(host.here.netns, socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.bind(("127.0.0.1", 53))
        resolver.settimeout(PATIENCE)
        speaking = Service(host, command="cluster", cold=True)
        host.on_close(speaking.end)
        speaking.start()
        assert b"\x04etcd\x04test" in resolver.recv(512)
        speaking.stop()
    assert "Traceback" not in speaking.log_text()
