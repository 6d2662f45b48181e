"""Clusters that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import FAR, LAN, Cluster
from tests.support.cluster.played import Played
from tests.support.cluster.whole import Whole
from tests.support.etcd import Etcd as RealEtcd
from tests.support.host import Host
from tests.support.host.machine import Machine

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


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine of its own, for members of an etcd."""
    with Machine() as machine:
        yield machine


@pytest.fixture(scope="module")
def real() -> Iterator[RealEtcd]:
    """An etcd that lets everybody in; each test has a prefix of its own there."""
    with Machine() as machine:
        yield RealEtcd((machine.here, "192.0.2.2"))


@pytest.fixture(scope="module")
def strict() -> Iterator[RealEtcd]:
    """An etcd with TLS and users, which no test changes; each has a prefix of its own there."""
    with Machine() as machine:
        yield RealEtcd((machine.here, "192.0.2.2"), tls=True, auth=True)


type PlayedMaker = Callable[..., Played]
"""Makes hosts whose registry is played; see the fixture."""


@pytest.fixture
def played(make_cluster: ClusterMaker) -> Iterator[PlayedMaker]:
    """Makes hosts whose registry is played: by default a and b on one link, c behind a router."""
    made: list[Played] = []

    def make(
        *, hosts: str = "abc", mtus: dict[str, int] | None = None, version: int = 4,
        more: str = "", subnets: tuple[str, ...] = ("10.9.0.0/16", "fd09::/64"),
        told: bool = True,
    ) -> Played:  # fmt: skip
        one = Played(make_cluster(**(mtus or {})), subnets, version=version, more=more, told=told)
        made.append(one)
        for name in hosts:
            one.add(name, FAR if name == "c" else LAN)
        one.tell()
        for name in hosts:
            one.known(name)
        return one

    yield make
    for one in made:
        one.close()


@pytest.fixture
def three(played: PlayedMaker) -> Played:
    """Hosts a and b on one link, and c behind a router."""
    return played()


@pytest.fixture(scope="session")
def _wholes() -> Iterator[list[Whole]]:
    """The hosts of :func:`whole`, which tests of one process use one after another."""
    made: list[Whole] = []
    yield made
    for one in made:
        one.close()


@pytest.fixture
def whole(_wholes: list[Whole], rootfs: Path) -> Iterator[Whole]:
    """Three hosts with all that runs on them, well, and an etcd of one member.

    A test that passes leaves them well. After one that fails, the next gets others.
    """
    if not _wholes:
        _wholes.append(Whole(rootfs))
    whole = _wholes[0]
    yield whole
    if whole.broken:
        _wholes.remove(whole)
        whole.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Shows what the services of :func:`whole` have logged since the test began."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    whole = getattr(item, "funcargs", {}).get("whole")
    if isinstance(whole, Whole) and call.when == "call" and report.failed:
        whole.broken = True
        report.sections.append(("log of all hosts", whole.logs()))
    return report  # type: ignore[return-value]
