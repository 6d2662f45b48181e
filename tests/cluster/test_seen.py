"""What is seen of three hosts, by commands, checks, events and metrics."""

from __future__ import annotations

import json
from functools import partial

from tests.support.checked import checked
from tests.support.cluster import Cluster, ClusterHost
from tests.support.exporter import Exporter
from tests.support.host import Json
from tests.support.waiting import eventually


def joined(cluster: Cluster) -> None:
    """Has all three join, and waits until each knows what the others have."""
    for host in cluster.hosts.values():
        host.join()
    for host in cluster.hosts.values():
        eventually(partial(knows_all, host), what="every host knows what the others have")
        host.provided()


def hosts(host: ClusterHost) -> dict[str, Json]:
    """What `watcher hosts ls` prints."""
    done = host.watcher("hosts", "ls", "--json", check=False)
    return {row["host"]: row for row in json.loads(done.stdout)}


def knows_all(host: ClusterHost) -> bool:
    rows = hosts(host)
    return len(rows) == 3 and all(
        len(row["blocks"].get("default", ())) == 2 for row in rows.values()
    )


def states(host: ClusterHost) -> dict[str, str]:
    return {name: row["state"] for name, row in hosts(host).items()}


def kinds(host: ClusterHost, *filters: str) -> list[str]:
    """The kinds of events that a host has had."""
    words = [word for one in filters for word in ("--filter", one)]
    done = host.watcher("events", "--json", "--since", "1d", *words)
    return [json.loads(line)["kind"] for line in done.stdout.splitlines()]


def wrong(host: ClusterHost) -> list[Json]:
    """What `watcher check` finds wrong of the cluster."""
    done = host.watcher("check", "--json", check=False)
    names = {"cluster", "etcd", "hosts", "routes", "firewalls", "leases", "networks"}
    found = [line for line in json.loads(done.stdout) if line["check"] in names]
    assert {line["check"] for line in found} == names
    return [line for line in found if line["level"] != "ok"]


def test_each_host_sees_the_others(cluster: Cluster) -> None:
    joined(cluster)
    a, c = cluster.hosts["a"], cluster.hosts["c"]
    assert states(a) == {"a": "this", "b": "alive", "c": "alive"}
    reached = {name: row["reached"] for name, row in hosts(a).items()}
    assert reached == {"a": [], "b": ["routes", "vxlan"], "c": ["vxlan"]}
    assert states(c) == {"a": "alive", "b": "alive", "c": "this"}
    for host in cluster.hosts.values():
        eventually(lambda host=host: wrong(host) == [])  # type: ignore[misc]
        assert {*kinds(host)} >= {"cluster-connected", "block-taken", "host-joined"}
        assert "cluster-disconnected" not in kinds(host)
    a.attach("web")
    assert "watcher cluster" not in a.watcher("ls").stderr
    lines = [line for line in checked(a, "web") if line["check"] == "hosts"]
    assert [line["level"] for line in lines] == ["ok"] * 3
    assert "b (routes and vxlan), c (vxlan)" in lines[-1]["what"]
    address = c.attach("db").address
    done = a.watcher("check", address, check=False)
    assert f"{address} is an address of host c ({cluster.station('c').ipv4})" in done.stderr


def test_a_host_goes_and_returns_and_is_removed(cluster: Cluster) -> None:
    joined(cluster)
    a, b = cluster.hosts["a"], cluster.hosts["b"]
    exporter = Exporter(a)
    eventually(lambda: exporter.value("watcher_cluster_hosts", state="alive") == 2)
    b.serving.kill9()
    b.speaking.kill9()
    eventually(lambda: states(a)["b"] == "silent", 60)
    eventually(lambda: kinds(a, "host=b")[-1] == "host-silent")
    eventually(lambda: exporter.value("watcher_cluster_hosts", state="silent") == 1)
    (line,) = wrong(a)
    assert "1 of 3 hosts are silent: b" in line["what"]
    b.join()
    eventually(lambda: states(a)["b"] == "alive")
    eventually(lambda: kinds(a, "host=b")[-1] == "host-returned")

    assert a.watcher("hosts", "rm", "b", check=False).returncode == 1
    held = hosts(a)["b"]["blocks"]["default"]
    lines = a.watcher("hosts", "rm", "b", "--force").stdout.splitlines()
    assert {*lines} == {
        *(f"gave back block {block} of default" for block in held),
        "removed host b",
    }
    eventually(lambda: "b" not in states(a))
    eventually(lambda: kinds(a, "host=b")[-1] == "host-removed")
    eventually(lambda: kinds(b).count("block-lost") == 2)
    eventually(lambda: wrong(a) == [])


def test_etcd_goes_and_returns(cluster: Cluster) -> None:
    joined(cluster)
    a = cluster.hosts["a"]
    exporter = Exporter(a)
    before = hosts(a)
    cluster.etcd.stop()
    eventually(lambda: exporter.value("watcher_cluster_connected") == 0, 60)
    eventually(lambda: kinds(a)[-1] == "cluster-disconnected")
    done = a.watcher("hosts", "ls", "--json", check=False)
    assert done.returncode == 1
    assert "etcd does not answer, and this is what it said last" in done.stderr
    assert {row["host"]: row["blocks"] for row in json.loads(done.stdout)} == {
        name: row["blocks"] for name, row in before.items()
    }
    assert {line["check"] for line in wrong(a)} == {"cluster", "etcd"}
    a.attach("web")  # from what it holds
    cluster.etcd.start()
    eventually(lambda: exporter.value("watcher_cluster_connected") == 1, 60)
    reached = ("cluster-connected", "cluster-disconnected")
    eventually(lambda: [kind for kind in kinds(a) if kind in reached][-1] == "cluster-connected")
    eventually(lambda: wrong(a) == [], 60)


def test_down_leaves_nothing_on_the_host_and_the_blocks_in_etcd(cluster: Cluster) -> None:
    joined(cluster)
    a, c = cluster.hosts["a"], cluster.hosts["c"]
    held = hosts(a)["c"]["blocks"]
    c.attach("web")
    c.serving.stop()
    c.speaking.kill9()  # it leaves its socket and its lock
    c.runc("delete", "--force", "web")
    lines = c.watcher("down").stdout.splitlines()
    assert lines[-1].endswith("keeps the blocks of this host for it until `watcher hosts rm c`")
    assert not c.run_dir.exists()
    assert c.routes() == {}
    assert c.here.links() == {"lo", "uplink"}
    eventually(lambda: states(a)["c"] == "silent", 60)
    assert hosts(a)["c"]["blocks"] == held
    c.join()
    eventually(lambda: states(a)["c"] == "alive")
    eventually(lambda: {*held["default"]} <= {*hosts(c)["c"]["blocks"].get("default", ())})
