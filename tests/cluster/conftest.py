"""Clusters that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.host import Host

type ClusterMaker = Callable[..., Cluster]
"""Makes a cluster without hosts; the MTU of a link may be named."""


@pytest.fixture
def make_cluster(rootfs: Path, hosts: list[Host]) -> Iterator[ClusterMaker]:
    """Makes clusters without hosts."""
    made: list[Cluster] = []

    def make(**mtus: int) -> Cluster:
        cluster = Cluster(rootfs, hosts, mtus)
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture
def cluster(make_cluster: ClusterMaker) -> Cluster:
    """Hosts `a` and `b` on one link, `c` behind the router, and an etcd with one member.

    Their network is clustered, and etcd wants TLS and a user. Nothing of the watcher runs.
    """
    cluster = make_cluster()
    cluster.start_etcd()
    cluster.add_three()
    return cluster
