"""Connecting a container that does with its own network what it likes, or ends meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.connected import (
    as_never_connected,
    defaults,
    is_right,
    on,
    refused,
    rules,
    server,
)
from tests.support.host import GATEWAY, Host
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO, eventually

if TYPE_CHECKING:
    pass

BEFORE = {
    "a link called eth1": "ip link add eth1 type veth peer name own1",
    "a link called eth1 in our group": "ip link add eth1 group 2002875491 type veth peer name own1",
    "eth0 is called eth1": "ip link set eth0 down; ip link set eth0 name eth1;"
    " ip link set eth1 up || :",  # a service may have given it its name back
}
"""What takes the name that the new interface is to have."""

BESIDE = {
    "a route to the network": "ip route add 172.22.0.0/24 dev lo; ip route add fd00:22::/64 dev lo",
    "rules of our numbers": "ip rule add from 172.22.0.2 table 100 priority 32000;"
    " ip rule add from 10.1.1.1 table 101 priority 32001;"
    " ip rule add to 10.2.2.2 table 101 priority 32001",
    "routes of our tables": "ip route add blackhole default table 101;"
    " ip route add default dev lo table 100",
    "the address itself": "ip address add 172.22.0.2/32 dev lo; ip address add fd00:22::2 dev lo",
    "no default route": "ip route delete default",
    "another default route": "ip route replace default dev eth0",
    "eth0 is down": "ip link set eth0 down",
    "eth0 has gone": "ip link delete eth0",
    "eth0 is elsewhere": "ip link set eth0 netns {base}/beyond",
    "forwarding": "echo 1 > /proc/sys/net/ipv4/ip_forward",
    "no IPv6": "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6",
}
"""What it may have done before, none of which is in the way."""


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_what_has_the_name_is_not_taken_for_ours(live: Host, before: str) -> None:
    web, db = live.attach("web"), server(live, "db", "back")
    web.place.run("sh", "-ec", before)
    done = live.watcher("connect", "web", "back", check=False)
    if "eth0" not in before:  # else a service may have put eth0 right by now
        assert done.returncode == 1
    if done.returncode:
        assert "the container has an interface eth1 that is not ours already" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert live.ls()["web"]["network"] == ["default"]
        assert db.address in live.leases()
        live.watcher("connect", "web", "back", "--interface", "data0")
    name = "eth1" if done.returncode == 0 else "data0"
    assert web.reach(db.address, 80) == Answer("db", on(web, name))
    live.watcher("disconnect", "web", "back")
    assert name not in web.place.links()
    live.watcher("sync")
    eventually(lambda: is_right(live))


@pytest.mark.parametrize("before", BESIDE.values(), ids=BESIDE)
def test_what_it_has_made_is_not_in_the_way(live: Host, before: str) -> None:
    web, db = live.attach("web"), server(live, "db", "back")
    web.place.run("sh", "-ec", before.format(base=live.base))
    live.watcher("connect", "web", "back")
    assert live.ls()["web"]["network"] == ["default", "back"]
    live.settle()
    if "172.22.0" not in before and "our tables" not in before and "101" not in before:
        eventually(lambda: web.reach(db.address, 80, timeout=0.5) == Answer("db", on(web, "eth1")))
    live.watcher("disconnect", "web", "back")
    assert "eth1" not in web.place.links()
    assert all(one.startswith("netnsv0-") for one in live.veths())
    assert db.address in live.leases()
    assert len(live.leases()) == 3


@pytest.mark.parametrize(
    "then",
    [
        "ip link delete eth1",
        "ip link set eth1 down",
        "ip link set eth1 down; ip link set eth1 name other0",
        "ip rule flush; ip rule add table main priority 32766",
        "ip route flush table 101",
        "ip address flush dev eth1",
    ],
)
def test_what_was_made_and_is_removed_can_be_disconnected(alone: Host, then: str) -> None:
    web, db = alone.attach("web"), server(alone, "db", "back")
    alone.watcher("connect", "web", "back")
    web.place.run("sh", "-ec", then)
    alone.watcher("disconnect", "web", "back")
    assert web.place.links() == {"lo", "eth0"}
    assert alone.veths() == {web.veth, db.veth}
    assert defaults(web) == [(GATEWAY, "eth0")]
    is_right(alone)


def test_it_cannot_keep_an_interface_by_what_it_does_to_another(live: Host) -> None:
    """Whoever is cut off is cut off, though the rest cannot be made right."""
    web, db = live.attach("web"), server(live, "db", "back")
    live.watcher("connect", "web", "back")
    address = on(web, "eth1")
    # At once: between two commands, a service would put it right.
    away = "link set eth0 down\nlink set eth0 name mine0\n"
    web.place.run("ip", "-batch", "-", stdin=f"{away}link add eth0 type veth peer name own1\n")
    done = live.watcher("disconnect", "web", "back", check=False)
    assert "Traceback" not in done.stderr
    assert "eth1" not in web.place.links()
    assert address not in live.leases()
    assert db.reach(address, 80, timeout=LATENCY_FREE_NO) is None
    web.place.run("ip", "link", "delete", "eth0")
    live.settle()
    eventually(lambda: is_right(live))
    assert defaults(web) == [(GATEWAY, "eth0")]


def test_nor_by_more_rules_than_are_read(live: Host) -> None:
    web = live.attach("web")
    live.watcher("connect", "web", "back")
    many = "".join(f"rule add from 10.0.{n >> 8}.{n & 255} table 500\n" for n in range(6000))
    web.place.run("ip", "-batch", "-", stdin=many)
    done = live.watcher("disconnect", "web", "back", check=False)
    assert "Traceback" not in done.stderr
    assert web.place.links() == {"lo", "eth0"}
    assert set(live.leases().values()) == {"web"}
    web.place.run("sh", "-c", "ip rule flush; ip rule add table main priority 32766")
    live.watcher("sync")
    assert 32000 not in rules(web)


def test_names_that_the_kernel_or_a_shell_might_take_for_more(alone: Host) -> None:
    alone.attach("web")
    for name in ("a b", "../x", "x/y", "a\n", "all", "default", ".", "..", "ü0", 'a"b', "a*"):
        assert "not an interface's name" in refused(
            alone, "connect", "web", "back", "--interface", name, status=2
        )
    for network in ("", "../back", "back\n", "none", "b" * 300):
        assert "there is no such network" in refused(alone, "connect", "web", network)
    as_never_connected(alone.container("web"))
