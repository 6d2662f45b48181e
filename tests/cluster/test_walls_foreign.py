"""Other firewalls of the host, the real ones, between the hosts of a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.cluster.conftest import ClusterMaker
from tests.cluster.test_walls import NET, both, healthy, on, serving
from tests.firewall.test_foreign_firewalls import (
    DOCKER,
    INTEGRATE,
    Firewalld,
    paste,
    restored,
    restored_both,
    ufw,
)
from tests.support.cluster.agreed import Agreed
from tests.support.host import Host
from tests.support.traffic import ENOUGH
from tests.support.waiting import LATENCY_FREE_NO

NAMED = "-m comment --comment watcher"


def rules(host: Host) -> list[str]:
    """Our rules in chains of iptables."""
    saved = host.command("iptables-save").stdout + host.command("ip6tables-save").stdout
    return [line for line in saved.splitlines() if NAMED in line]


def docker(host: Host) -> None:
    restored("iptables", DOCKER)(host)
    restored("ip6tables", DOCKER)(host)


def agreed(make_cluster: ClusterMaker, config: str = "") -> Agreed:
    made = Agreed(make_cluster(), NET.config("names = false") + config)
    for name in "abc":
        serving(made, name, f"on-{name}")
    made.join()
    return made


def reached(three: Agreed, timeout: float = ENOUGH) -> bool:
    """Whether everybody is reached by everybody, from and to host b."""
    pairs = [pair for one in "ac" for pair in ((one, "b"), ("b", one))]
    return all(
        on(three, asking).reach(to, 80, timeout=timeout) is not None
        for asking, asked in pairs
        for to in both(on(three, asked))
    )


@pytest.mark.parametrize("make", [docker, restored_both("iptables")], ids=["docker", "iptables"])
def test_other_firewalls_let_pass_what_hosts_send_each_other(
    make_cluster: ClusterMaker, make: Callable[[Host], object]
) -> None:
    three = agreed(make_cluster, INTEGRATE)
    host = three["b"]
    assert reached(three)
    assert rules(host) == []
    make(host)
    assert not reached(three, LATENCY_FREE_NO)
    host.watcher("sync")
    assert reached(three)
    assert rules(host)
    healthy(three)
    host.delete("on-b")
    host.watcher("down")
    assert rules(host) == []


def test_firewalld_lets_pass_what_hosts_send_each_other(make_cluster: ClusterMaker) -> None:
    three = agreed(make_cluster, INTEGRATE)
    host = three["b"]
    firewalld = Firewalld(host)
    assert not reached(three, LATENCY_FREE_NO)
    host.watcher("sync")
    assert reached(three)
    assert dropped(host) == []
    subnets = ["172.19.0.0/16", "fd00:19::/64"]
    assert firewalld.zones("sources") == (subnets, subnets)
    port, later = firewalld.ports()
    assert port == later == ["4789/udp"]
    firewalld.cmd("--reload")
    assert reached(three)
    healthy(three)
    host.delete("on-b")
    host.watcher("down")
    assert firewalld.zones("sources") == firewalld.ports() == ([], [])


def dropped(host: Host) -> list[dict[str, str]]:
    """What `watcher check` finds of other firewalls and other hosts."""
    found = json.loads(host.watcher("check", "--json", check=False).stdout)
    return [f for f in found if f["level"] in ("fail", "warn") and "other hosts" in f["what"]]


@pytest.mark.parametrize(
    "make",
    [docker, restored_both("iptables"), ufw, Firewalld],
    ids=["docker", "iptables", "ufw", "firewalld"],
)
def test_the_remedies_are_the_right_ones(
    make_cluster: ClusterMaker, make: Callable[[Host], object]
) -> None:
    three = agreed(make_cluster)
    assert dropped(three["b"]) == []
    make(three["b"])
    assert not reached(three, LATENCY_FREE_NO)
    for finding in dropped(three["b"]):
        paste(three["b"], finding["remedy"])
    assert reached(three)
    assert dropped(three["b"]) == []
