"""The ways to other hosts beside what others have, and after restarts, reloads and moves."""

from __future__ import annotations

from functools import partial

from tests.cluster.conftest import PlayedMaker
from tests.cluster.test_ways import all_reach_all, all_serve
from tests.support.cluster import FAR
from tests.support.cluster.pictures import picture
from tests.support.cluster.played import DEVICE, PORT, Played, addresses, serving
from tests.support.waiting import eventually

FOREIGN = """
ip link add theirs type vxlan id 42 dstport 4789 local {own} nolearning
ip link set theirs up
ip route add 10.77.0.0/16 dev theirs
ip neigh add 10.77.0.1 lladdr 02:00:00:00:00:99 dev theirs nud permanent
bridge fdb add 02:00:00:00:00:99 dev theirs dst 198.51.100.99
"""
SHOWN = (
    "ip route show 10.77.0.0/16; bridge fdb show dev theirs;"
    " ip neigh show dev theirs; ip -br link show theirs"
)


def test_what_others_have_stays(played: PlayedMaker) -> None:
    three = played(hosts="")
    a = three.add("a", started=False)
    a.command("sh", "-c", FOREIGN.format(own="198.51.100.11"))
    before = a.command("sh", "-c", SHOWN).stdout
    three.start("a")
    three.add("b")
    three.add("c", FAR)
    three.tell()
    for name in "abc":
        three.known(name)
    assert all_reach_all(all_serve(three))
    assert a.command("sh", "-c", SHOWN).stdout == before
    three.service("a").stop()
    a.delete("a")
    a.watcher("down")
    assert a.command("sh", "-c", SHOWN).stdout == before
    assert a.routes() == {}
    assert a.here.link(DEVICE) is None


def test_a_device_of_others_with_the_name_is_named_and_stays(played: PlayedMaker) -> None:
    three = played(hosts="")
    a = three.add("a", started=False)
    a.command("ip", "link", "add", DEVICE, "type", "bridge")
    three.start("a")
    three.add("b")
    three.add("c", FAR)
    three.tell()
    three.known("b")
    eventually(lambda: f"{DEVICE} is another program's" in a.logs())
    containers = all_serve(three)
    assert containers["a"].reach(containers["b"].address, PORT)  # plain routes go on
    a.command("ip", "link", "del", DEVICE)
    eventually(partial(all_reach_all, containers))


def test_a_port_that_another_program_has_is_named(played: PlayedMaker) -> None:
    three = played(hosts="")
    a = three.add("a", started=False)
    a.command("ip", "link", "add", "theirs", "type", "vxlan", "external", "dstport", "4789")
    a.command("ip", "link", "set", "theirs", "up")
    three.start("a")
    three.add("c", FAR)
    three.tell()
    eventually(lambda: "UDP port 4789 has another program's VXLAN" in a.logs())
    a.command("ip", "link", "del", "theirs")
    containers = all_serve(three)
    eventually(partial(all_reach_all, containers))


def test_a_restart_changes_nothing(three: Played) -> None:
    containers = all_serve(three)
    a = three.cluster.hosts["a"]
    before = picture(a)
    three.service("a").kill9()
    assert all_reach_all(containers)
    three.again("a")
    assert a.watcher("sync", "--dry-run").stdout == "nothing to do\n"
    assert picture(a) == before
    assert all_reach_all(containers)
    a.command("ip", "neigh", "del", "203.0.113.13", "dev", DEVICE)  # it hears of that again
    eventually(lambda: picture(a) == before)


def test_a_network_that_is_no_cluster_s_any_more_leaves_nothing(three: Played) -> None:
    a = three.cluster.hosts["a"]
    serving(a, "web")
    a.delete("web")
    text = three.config("a").replace("cluster = true", "cluster = false").replace("block = 16", "")
    three.service("a").stop()
    a.configure(text)
    a.service()
    assert a.routes() == {}
    assert a.here.link(DEVICE) is None
    assert "10.9.1.0" not in str(picture(a)["addresses"])


def test_a_host_gets_another_address(played: PlayedMaker) -> None:
    """Its device then sends from that, and the others find it there once they are told."""
    three = played(hosts="ac", told=False)
    containers = all_serve(three)
    a = three.cluster.hosts["a"]
    asked = three.registry("a")
    assert asked.address() == "198.51.100.11"
    a.command("ip", "addr", "add", "198.51.100.66/24", "dev", "uplink")
    a.command("ip", "route", "replace", "default", "via", "198.51.100.1", "src", "198.51.100.66")
    eventually(lambda: asked.address() == "198.51.100.66")
    a.command("ip", "addr", "del", "198.51.100.11/24", "dev", "uplink")
    a.command("ip", "addr", "replace", "198.51.100.66/24", "dev", "uplink")
    a.command("ip", "route", "replace", "default", "via", "198.51.100.1")
    three.readdress("a", "198.51.100.66")
    three.tell("c")
    eventually(partial(all_reach_all, containers))
    assert addresses(containers["a"])
