"""`watcher check` and `watcher check CONTAINER` where the service knows of other hosts."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from tests.support.checked import Line, checked
from tests.support.clustering import CONFIG, Registry, own, peer, theirs
from tests.support.host import GATE_OFF, UPLINK, Host, HostMaker, Service
from tests.support.waiting import eventually
from watcher.cluster.protocol import RefusedRow

BLOCK, THEIRS, FAR = "10.9.4.0/28", "10.9.7.16/28", "10.9.9.0/28"
B, C = "192.0.2.1", "203.0.113.9"
"""The machine beyond the uplink, and one that is behind it."""


class Bed:
    """A host whose service knows of two others, and a container."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.service: Service = host.service()
        self.registry = Registry(host.run_dir)
        self.registry.whole(
            own(BLOCK), peer("b", B), theirs(THEIRS, "b"), peer("c", C, alive=False),
            theirs(FAR, "c"),
        )  # fmt: skip
        eventually(lambda: self.routes() >= {THEIRS, FAR})
        host.attach("web")

    def routes(self) -> set[str]:
        return {route["dst"] for route in self.host.ip("route", "show", "proto", "119")}

    def of_container(self) -> list[Line]:
        return [line for line in checked(self.host, "web") if line["check"] == "hosts"]

    def of_host(self, check: str) -> list[Line]:
        done = self.host.watcher("check", "--json", check=False)
        return [line for line in json.loads(done.stdout) if line["check"] == check]


@pytest.fixture
def bed(make_host: HostMaker) -> Iterator[Bed]:
    bed = Bed(make_host(GATE_OFF + CONFIG.replace('"192.0.2.1"', f'"{UPLINK}"')))
    with bed.registry:
        yield bed


def test_a_container_that_others_reach(bed: Bed) -> None:
    address, silent, routes = bed.of_container()
    assert address["level"] == "ok"
    assert f"is of {BLOCK}, which this host holds" in address["what"]
    assert silent["level"] == "warn"
    assert "c did not tell etcd lately" in silent["what"]
    assert routes["level"] == "ok"
    assert routes["what"].endswith("b (routes), c (vxlan)")
    bed.registry.tell(peer("c", C))
    eventually(lambda: [line["level"] for line in bed.of_container()] == ["ok", "ok"])


def test_a_route_is_missing(bed: Bed) -> None:
    assert [line["level"] for line in bed.of_host("routes")] == ["ok"]
    bed.service.signal(signal.SIGSTOP)  # it would make it again at once
    bed.host.ip("route", "del", THEIRS)
    (line,) = bed.of_host("routes")
    assert line["level"] == "fail"
    assert f"made routes to {THEIRS}: they were missing" in line["what"]
    lines = [line for line in bed.of_container() if line["level"] == "fail"]
    assert [f"no route to {THEIRS} of b" in line["what"] for line in lines] == [True]
    bed.service.signal(signal.SIGCONT)
    eventually(lambda: not [line for line in bed.of_container() if line["level"] == "fail"])


def test_a_block_is_lost(bed: Bed) -> None:
    bed.registry.take_back(own(BLOCK))
    bed.registry.tell(RefusedRow("default", own(BLOCK).prefix, "host b has it"))
    eventually(lambda: bed.registry.blocks()[BLOCK] == "lost")
    assert f"is of {BLOCK}, which this host has lost" in bed.of_container()[0]["what"]
    lost, short = (line for line in bed.of_host("cluster") if BLOCK in line["what"]
                   or "0 free addresses" in line["what"])  # fmt: skip
    assert (lost["level"], short["level"]) == ("warn", "fail")


def test_whose_an_address_is(bed: Bed) -> None:
    for address, told in (
        ("10.9.7.20", f"10.9.7.20 is an address of host b ({B}), of network default"),
        ("10.9.4.9", "10.9.4.9 is in a block of this host, of network default"),
        ("10.9.200.1", 'there is no container "10.9.200.1"'),
    ):
        done = bed.host.watcher("check", address, check=False)
        assert done.returncode == 1
        assert told in done.stderr


def test_watcher_cluster_does_not_run(bed: Bed) -> None:
    """Though somebody is connected to the service."""
    lines = bed.of_host("cluster")
    assert [line["level"] for line in lines] == ["fail", "ok"]
    assert "no `watcher cluster` serves" in lines[0]["what"]
    assert "14 free addresses of 10.9.0.0/16 in 1 block" in lines[1]["what"]
