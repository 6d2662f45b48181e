"""`watcher check` of a host in a cluster: etcd, its name and address, and the way to others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster.conftest import ClusterMaker
from tests.support.cluster import NETWORK, Cluster, ClusterHost
from watcher.cluster.registry.keys import Keys, part_of

KEYS: Final = Keys("/watcher")
OTHER: Final = '{"incarnation": "0123456789abcdef", "address": "198.51.100.99", "machine": "other"}'

AUTO: Final = f'{NETWORK}mtu = "auto"\n'

type Finding = dict[str, Any]


@pytest.fixture
def cluster(make_cluster: ClusterMaker) -> Cluster:
    """An etcd, and a host that is to join."""
    cluster = make_cluster()
    cluster.start_etcd(tls=False)
    cluster.add("a", config=AUTO)
    return cluster


def check(host: ClusterHost, name: str) -> list[Finding]:
    """The findings of one check."""
    done = host.watcher("check", "--json", check=False)
    assert done.stderr == ""
    return [finding for finding in json.loads(done.stdout) if finding["check"] == name]


def only(host: ClusterHost, level: str, name: str) -> str:
    """The one finding of a check, in words."""
    (finding,) = check(host, name)
    assert finding["level"] == level, finding
    return f"{finding['what']}; {finding['remedy']}"


def test_a_host_that_can_join(cluster: Cluster) -> None:
    host = cluster.hosts["a"]
    assert "etcd answers" in only(host, "ok", "etcd")
    assert f"at {cluster.station('a').ipv4} on uplink" in only(host, "ok", "hosts")
    assert "joins the cluster once" in only(host, "ok", "cluster")
    assert cluster.etcd.under("/watcher") == {}, "a check writes nothing"


def test_etcd_is_away(cluster: Cluster) -> None:
    cluster.etcd.stop()
    assert "no etcd answers" in only(cluster.hosts["a"], "fail", "etcd")


def test_a_member_is_away(make_cluster: ClusterMaker) -> None:
    cluster = make_cluster()
    etcd = cluster.start_etcd(3)
    host = cluster.add("a", config=AUTO)
    leader = etcd.leader()
    follower = next(member for member in etcd.members if member is not leader)
    follower.kill()
    assert f"the member {follower.url} of etcd does not answer" in only(host, "warn", "etcd")


def test_the_user_lacks_the_role(cluster: Cluster) -> None:
    host = cluster.hosts["a"]
    cluster.etcd.ctl("role", "revoke-permission", "watcher", "/watcher/", "--prefix")
    assert "does not let its user" in only(host, "fail", "etcd")
    cluster.etcd.ctl("role", "grant-permission", "watcher", "read", "/watcher/", "--prefix")
    assert "does not let its user" in only(host, "fail", "etcd")
    assert cluster.etcd.under("/watcher") == {}


def test_the_password_is_wrong_or_others_may_read_it(cluster: Cluster) -> None:
    host, path = cluster.hosts["a"], Path(cluster.etcd.password_file)
    secret = path.read_text()
    path.write_text("another secret\n")
    assert "password" in only(host, "fail", "etcd")
    path.write_text(secret)
    path.chmod(0o644)
    assert f"chmod 600 {path}" in only(host, "fail", "etcd")
    path.chmod(0o600)
    for word in (secret.strip(), "another secret"):
        assert word not in host.watcher("check", check=False).stdout


def test_another_machine_has_the_name_or_the_address(cluster: Cluster) -> None:
    host = cluster.hosts["a"]
    cluster.etcd.put(KEYS.host("a"), OTHER)
    told = only(host, "fail", "etcd")
    assert 'another machine is the host "a" of the cluster, at 198.51.100.99' in told
    assert "watcher hosts rm a" in told
    cluster.etcd.delete(KEYS.host("a"))
    cluster.etcd.put(KEYS.address(str(cluster.station("a").ipv4)), "b")
    assert 'host "b" of the cluster has this host\'s address' in only(host, "fail", "etcd")


def test_the_port_is_another_one_elsewhere(cluster: Cluster) -> None:
    host = cluster.hosts["a"]
    for name, port in (("b", 4789), ("c", 0), ("d", 8472)):
        cluster.etcd.put(KEYS.host(name), OTHER.replace("}", f', "port": {port}}}'))
    told = only(host, "fail", "etcd")
    assert "VXLAN is at UDP port 4789 here, and at another one on d: nothing" in told


def test_a_network_is_another_one_elsewhere(cluster: Cluster) -> None:
    host = cluster.hosts["a"]
    record = '{"subnets": ["172.19.0.0/16"], "block": 256, "number": 1}'
    cluster.etcd.put(KEYS.network("default"), record)
    told = only(host, "fail", "etcd")
    assert "172.19.0.0/16, fd00:19::/64 in blocks of 256 here" in told
    assert "172.19.0.0/16 in blocks of 256 on the other hosts" in told


def test_garbage_in_etcd_is_no_problem_of_the_check(cluster: Cluster) -> None:
    for key in (KEYS.host("a"), KEYS.network("default"), KEYS.host("\N{SKULL}"), f"{KEYS.all}x"):
        cluster.etcd.put(key, "garbage")
    only(cluster.hosts["a"], "ok", "etcd")


def test_a_subnet_is_used_up(make_cluster: ClusterMaker) -> None:
    cluster = make_cluster()
    etcd = cluster.start_etcd(tls=False)
    config = (
        '[network.default]\nmode = "routed"\ncluster = true\n'
        'subnets = ["172.19.0.0/24"]\nblock = 128\n'
    )
    host = cluster.add("a", config=config)
    etcd.put(KEYS.network("default"), '{"subnets": ["172.19.0.0/24"], "block": 128, "number": 1}')
    for text in ("172.19.0.0/25", "172.19.0.128/25"):
        key = KEYS.block(part_of("default", ip_network(text)))
        etcd.put(key, '{"host": "b", "incarnation": "0123456789abcdef"}')
    assert "have taken 2 of the 2 blocks" in only(host, "fail", "etcd")


@contextmanager
def configured(host: ClusterHost, old: str, new: str) -> Iterator[None]:
    """The host's configuration has something else."""
    text = host.config.read_text()
    assert old in text
    host.config.write_text(text.replace(old, new))
    yield
    host.config.write_text(text)


def test_the_address_is_none_of_this_host(cluster: Cluster) -> None:
    host = cluster.hosts["a"]
    with configured(host, "[cluster]\n", '[cluster]\naddress = "198.51.100.77"\n'):
        told = only(host, "fail", "hosts")
        assert "no interface of this host has its address 198.51.100.77" in told
    host.ip("route", "del", "default")
    host.ip("-6", "route", "del", "default")
    assert "no default route" in only(host, "fail", "hosts")


def test_packets_that_would_be_too_large(cluster: Cluster) -> None:
    host = cluster.hosts["a"]
    with configured(host, AUTO, f"{NETWORK}mtu = 1500\n"):
        told, _ = check(host, "hosts")
        assert "has an MTU of 1450 here, not of 1500" in told["what"]
        assert "that of uplink is 1500, less 50 for VXLAN" in told["what"]
    with configured(host, AUTO, f"{NETWORK}mtu = 1450\n"):
        only(host, "ok", "hosts")
    with configured(host, AUTO, f'{NETWORK}mtu = 1500\nbackend = "routes"\n'):
        only(host, "ok", "hosts")


def follow(host: ClusterHost, remedy: str) -> None:
    """Runs the commands of a remedy."""
    for command in re.findall("`([^`]*)`", remedy):
        host.command("sh", "-ec", command)


def test_a_firewall_drops_what_hosts_send_each_other(cluster: Cluster) -> None:
    host = cluster.hosts["a"]
    assert [finding["level"] for finding in check(host, "firewalls")] == ["ok", "ok"]
    hooks = ("forward", "input", "output")
    chains = (f"chain {h} {{ type filter hook {h} priority 0; policy drop; }};" for h in hooks)
    host.nft(f"table inet own {{ {' '.join(chains)} }}")

    def told() -> list[Finding]:
        between = ("other hosts",)
        found = [f for f in check(host, "firewalls") if any(word in f["what"] for word in between)]
        assert {finding["level"] for finding in found} <= {"fail"}
        return found

    first = [finding["what"] for finding in told()]
    assert len(first) == 4
    assert "get from them, by uplink" in first[0]
    assert "get from them, by netnsx1" in first[1]
    assert "drops packets of VXLAN to other hosts (UDP port 4789)" in first[2]
    assert "drops packets of VXLAN from other hosts (UDP port 4789)" in first[3]
    for finding in told():
        follow(host, finding["remedy"])
    assert told() == []


def test_somebody_else_has_the_port_of_vxlan(cluster: Cluster) -> None:
    host = cluster.hosts["a"]
    external = ["link", "add", "theirs", "type", "vxlan", "external", "dstport", "4789"]
    host.ip(*external)
    assert "VXLAN device theirs takes all packets on UDP port 4789" in only(host, "fail", "hosts")
    host.ip("link", "del", "theirs")
    host.ip(*["link", "add", "theirs", "type", "vxlan", "id", "42", "dstport", "4789"])
    only(host, "ok", "hosts")  # both can be
    host.ip("link", "del", "theirs")
    host.here.serve(udp=(4789,))
    assert "listens on UDP port 4789" in only(host, "fail", "hosts")
    with configured(host, "[cluster]\n", "[cluster]\nport = 4790\n"):
        only(host, "ok", "hosts")


def test_strict_filters_of_ways_back_are_told(cluster: Cluster) -> None:
    host = cluster.hosts["a"]
    host.command("sh", "-ec", "echo 1 > /proc/sys/net/ipv4/conf/uplink/rp_filter")
    told, well = check(host, "hosts")
    assert (told["level"], well["level"]) == ("ok", "ok")
    assert "rp_filter is strict on uplink" in told["what"]
    host.command("sh", "-ec", "echo 2 > /proc/sys/net/ipv4/conf/all/rp_filter")
    only(host, "ok", "hosts")
