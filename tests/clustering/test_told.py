"""What becomes of the cluster is told: as events, in the state, and as metrics."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from jsonschema import Draft202012Validator

from tests.support import schema
from tests.support.clustering import CONFIG, REACHED, Registry, own, peer, theirs
from tests.support.exporter import Exporter
from tests.support.host import Host, HostMaker, Json
from tests.support.waiting import PATIENCE, eventually
from watcher.cluster.protocol import NumberRow, RefusedRow, StatusRow
from watcher.feed.names import EVENTS

BLOCK, SECOND = "10.9.4.0/28", "10.9.7.16/28"
VALIDATOR: Final = Draft202012Validator(json.loads(schema.FILE.read_text()))


@pytest.fixture
def host(make_host: HostMaker) -> Host:
    host = make_host(CONFIG)
    host.service()
    return host


class Reader:
    """A reader of the events socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._lines = connection.makefile("rb")

    def line(self) -> Json:
        """The next line, as the schema says."""
        line: Json = json.loads(self._lines.readline())
        VALIDATOR.validate(line)
        return line

    def event(self) -> dict[str, str]:
        """The next event, with what it tells."""
        while (line := self.line())["type"] != "event":
            pass
        return {key: value for key, value in line.items() if key not in ("type", "seq", "time")}


@contextmanager
def reading(host: Host) -> Iterator[Reader]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(host.run_dir / EVENTS))
        reader = Reader(connection)
        while reader.line()["type"] != "ready":
            pass
        yield reader


def test_each_change_is_an_event(host: Host) -> None:
    with reading(host) as reader, Registry(host.run_dir) as registry:
        registry.whole(own(BLOCK), peer("b", "192.0.2.2"))
        events = [reader.event() for _ in range(3)]
        for expected in (
            {"kind": "cluster-connected"},
            {"kind": "block-taken", "network": "default", "block": BLOCK},
            {"kind": "host-joined", "host": "b", "address": "192.0.2.2"},
        ):
            assert expected in events
        registry.tell(peer("b", "192.0.2.2", alive=False))
        assert reader.event() == {"kind": "host-silent", "host": "b"}
        registry.tell(peer("b", "192.0.2.2"))
        assert reader.event() == {"kind": "host-returned", "host": "b"}
        registry.take_back(peer("b", "192.0.2.2"))
        assert reader.event() == {"kind": "host-removed", "host": "b"}
        registry.take_back(own(BLOCK))
        registry.tell(RefusedRow("default", own(BLOCK).prefix, "host b has it"))
        assert reader.event() == {
            "kind": "block-lost",
            "network": "default",
            "block": BLOCK,
            "reason": "host b has it",
        }
        registry.tell(StatusRow(False, "no etcd answers", cluster_id="c1", revision=1))
        assert reader.event() == {"kind": "cluster-disconnected", "reason": "no etcd answers"}
        registry.tell(REACHED)
        assert reader.event() == {"kind": "cluster-connected"}
    shown = host.watcher("events", "--since", "1h", "--filter", "host=b").stdout.splitlines()
    assert [line.split()[2] for line in shown] == [
        "host-joined",
        "host-silent",
        "host-returned",
        "host-removed",
    ]


def test_the_state_has_it(host: Host) -> None:
    def state() -> tuple[Json, Json]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(host.run_dir / EVENTS))
            reader = Reader(connection)
            lines: dict[str, Json] = {}
            while "ready" not in lines:
                line = reader.line()
                lines[line["type"]] = line
            return lines["cluster"], lines["network"]

    cluster, network = state()
    assert cluster["host"] == "a"
    assert "connected" not in cluster
    assert "does not run" in cluster["reason"]
    assert network["cluster"]
    assert network["subnets"][0]["leases"] == 0
    with Registry(host.run_dir) as registry:
        registry.whole(
            own(BLOCK), own("10.9.9.9/32"), peer("b", "192.0.2.2"),
            peer("c", "192.0.2.3", alive=False), theirs(SECOND, "b"),
        )  # fmt: skip

        def is_told() -> bool:
            cluster, network = state()
            (subnet,) = network["subnets"]
            return (
                cluster.get("connected"), cluster.get("alive"), cluster.get("silent"),
                "changed" in cluster, subnet.get("blocks"), subnet["leases"],
            ) == (True, 1, 1, True, 1, 15)  # fmt: skip

        eventually(is_told)
        registry.tell(NumberRow("default", 0, "other hosts have other subnets"))
        eventually(lambda: state()[1].get("refuses") == "other hosts have other subnets")


def test_metrics_have_it(host: Host) -> None:
    exporter = Exporter(host)
    assert exporter.value("watcher_cluster_connected") == 0
    with Registry(host.run_dir) as registry:
        registry.whole(own(BLOCK), own(SECOND), peer("b", "192.0.2.2", alive=False))
        eventually(lambda: exporter.value("watcher_network_blocks", network="default") == 2)
        eventually(lambda: exporter.value("watcher_cluster_hosts", state="silent") == 1)
        for name in ("x", "y"):
            host.attach(name)

        def is_counted() -> bool:
            seen = exporter.scrape()
            used = seen.value("watcher_network_leases_used", network="default")
            free = seen.value("watcher_network_leases_free", network="default")
            return (used, free) == (2, 2 * 15 - 2)

        eventually(is_counted)
        seen = exporter.scrape()
        assert seen.value("watcher_cluster_connected") == 1
        assert seen.value("watcher_cluster_last_change_timestamp_seconds") > 0
        assert seen.value("watcher_events_total", kind="block-taken") == 2
    eventually(lambda: exporter.value("watcher_cluster_connected") == 0)
