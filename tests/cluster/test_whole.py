"""Three hosts with everything that runs on them: containers, both processes, and a real etcd."""

from __future__ import annotations

from functools import partial

from tests.support.cluster import Cluster
from tests.support.cluster.played import addresses
from tests.support.traffic import Answer
from tests.support.waiting import eventually

PORT = 80


def test_containers_of_three_hosts_reach_each_other(cluster: Cluster) -> None:
    for host in cluster.hosts.values():
        host.join()
    containers = {name: host.provided().attach(name) for name, host in cluster.hosts.items()}
    for container in containers.values():
        container.serve(tcp=(PORT,), udp=(PORT,))
    for one, asking in containers.items():
        for other, asked in containers.items():
            if one == other:
                continue
            for source, to in zip(addresses(asking), addresses(asked), strict=True):
                eventually(partial(asking.reach, to, PORT), what=f"{other}, asked by {one}")
                assert asking.reach(to, PORT) == Answer(other, source)
                assert asking.reach(to, PORT, "udp") == Answer(other, source)
                assert len(asking.place.stream(to, PORT).say("x" * 100_000)) == 100_000
    for host in cluster.hosts.values():
        assert not host.speaking.warnings()
