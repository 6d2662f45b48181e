"""Where etcd is in a cluster, and who is cut off from it."""

from __future__ import annotations

import socket
from functools import partial

from tests.cluster.conftest import ClusterMaker
from tests.support.cluster import FAR, Cluster, ClusterHost, Station
from tests.support.etcd import CLIENTS
from tests.support.traffic import make_socket
from tests.support.waiting import LATENCY_FREE_NO, eventually


def hears(host: ClusterHost, member: Station) -> bool:
    """Whether a member of etcd takes a connection of the host."""
    try:
        with make_socket(host.here.netns, socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(LATENCY_FREE_NO)
            client.connect((str(member.ipv4), CLIENTS))
    except OSError:
        return False
    return True


def test_hosts_reach_all_members_unless_they_are_cut_off(make_cluster: ClusterMaker) -> None:
    cluster = make_cluster()
    cluster.start_etcd(3)
    a, c = cluster.add("a"), cluster.add("c", FAR)
    for host in (a, c):
        assert all(eventually(partial(hears, host, member)) for member in cluster.members)
    cluster.cut_from_etcd("c")
    assert not any(hears(c, member) for member in cluster.members)
    assert all(eventually(partial(hears, a, member)) for member in cluster.members)
    cluster.heal()
    assert all(eventually(partial(hears, c, member)) for member in cluster.members)


def test_a_member_that_is_cut_off_has_no_leader(make_cluster: ClusterMaker) -> None:
    cluster = make_cluster()
    etcd = cluster.start_etcd(3)
    leader = etcd.leader()
    others = [member for member in etcd.members if member is not leader]
    cluster.cut_member(etcd.members.index(leader))
    eventually(lambda: etcd.ctl("put", "/x", "y", at=others, check=False).returncode == 0)
    assert not leader.is_healthy()
    cluster.heal()
    leader.ready()


def test_each_host_is_configured_to_speak_to_etcd(cluster: Cluster) -> None:
    for name, host in cluster.hosts.items():
        config = host.watcher("config").stdout
        assert cluster.etcd.members[0].url in config
        assert f'host = "{name}"' in config
    twin = cluster.add("d", called="a", address=str(cluster.station("a").ipv4))
    assert 'host = "a"' in twin.watcher("config").stdout
