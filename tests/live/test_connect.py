"""A running container gets one more interface, with all that belongs to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.connected import defaults, is_right, on, refused, rules, server
from tests.support.host import BEYOND, GATEWAY, UPLINK, UPLINK6, Host
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO, eventually

if TYPE_CHECKING:
    from tests.support.bundles import Spec
    from tests.support.host import HostMaker


def test_it_is_in_both_networks(live: Host) -> None:
    web, db = live.attach("web"), server(live, "db", "back")
    web.serve(tcp=(80,))
    assert web.reach(db.address, 80, timeout=LATENCY_FREE_NO) is None
    done = live.watcher("connect", "web", "back")
    assert done.stdout == f"eth1 {on(web, 'eth1')}/24 {on(web, 'eth1', 6)}/64\n"
    for version in (4, 6):
        there = on(db, "eth0", version)
        assert web.reach(there, 80) == Answer("db", on(web, "eth1", version))
        assert db.reach(on(web, "eth1", version), 80) == Answer("web", there)
    assert defaults(web) == [(GATEWAY, "eth0")]
    assert web.reach("172.22.0.1", 81, timeout=LATENCY_FREE_NO) is None
    assert live.here.reach(web.address, 80) == Answer("web", GATEWAY)
    is_right(live)


def test_it_has_all_that_an_interface_has_from_the_start(live: Host) -> None:
    both = live.attach("both", annotations={"io.watcher.network": "default,back"})
    web = live.attach("web")
    live.watcher("connect", "web", "back")
    one, other = web.place.link("eth1"), both.place.link("eth1")
    assert one is not None
    assert other is not None
    for key in ("mtu", "flags", "operstate", "group"):
        assert one.get(key) == other.get(key), key
    assert rules(web) == rules(both)
    assert rules(web, 6) == rules(both, 6)
    shown = live.inspect("web")["interfaces"]
    assert [one["guarded"] for one in shown] == [True, True]
    assert [one["connected"] for one in shown] == [None, "web"]
    assert live.ls()["web"]["network"] == ["default", "back"]
    assert live.ls()["web"]["veth"] == [web.veth, web.veth.replace("netnsv0", "netnsv1")]


def test_an_answer_leaves_by_the_interface_that_the_request_came_in_by(live: Host) -> None:
    web = live.attach("web", annotations={"io.watcher.network": "front"})
    web.serve(tcp=(80,))
    live.watcher("connect", "web", "back")
    for version, uplink in ((4, UPLINK), (6, UPLINK6)):
        back = on(web, "eth1", version)
        assert live.here.reach(back, 80, source=uplink) == Answer("web", uplink)


def test_a_connection_goes_on(live: Host) -> None:
    web, db = server(live, "web", "default"), server(live, "db", "default")
    inside, outside = db.place.stream(web.address, 80), live.here.stream(web.address, 80)
    live.watcher("connect", "web", "back")
    assert inside.say("still") == "still"
    live.watcher("disconnect", "web", "back")
    assert inside.say("there") == "there"
    assert outside.say("too") == "too"


def test_the_bridge_of_a_network_that_nobody_used_is_made(alone: Host) -> None:
    web = alone.attach("web")
    assert "back0" not in alone.here.links()
    alone.watcher("connect", "web", "back")
    alone.here.serve(tcp=(90,), address="172.22.0.1")
    assert web.reach("172.22.0.1", 90) == Answer("host", on(web, "eth1"))
    assert "is in use by web" in refused(alone, "network", "rm", "back")
    alone.watcher("disconnect", "web", "back")
    alone.watcher("network", "rm", "back")
    assert "back0" not in alone.here.links()


def test_the_way_out_is_by_the_network_that_has_one(live: Host) -> None:
    live.beyond.serve(tcp=(80,))
    live.run("web", annotations={"io.watcher.network": "inner"})
    live.settle()
    web = live.container("web")
    assert defaults(web) == []
    assert web.reach(BEYOND, 80, timeout=LATENCY_FREE_NO) is None
    live.watcher("connect", "web", "back")
    assert defaults(web) == [("172.22.0.1", "eth1")]
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    is_right(live)


def test_address_mac_and_name_may_be_chosen(live: Host) -> None:
    web, db = live.attach("web"), server(live, "db", "back")
    asked = (
        "--ip",
        "172.22.0.50,fd00:22::50",
        "--mac",
        "02:42:AA:00:00:01",
        "--interface",
        "data0",
    )
    live.watcher("connect", "web", "back", *asked)
    link = web.place.link("data0")
    assert link is not None
    assert link["address"] == "02:42:aa:00:00:01"
    assert (on(web, "data0"), on(web, "data0", 6)) == ("172.22.0.50", "fd00:22::50")
    assert web.reach(db.address, 80) == Answer("db", "172.22.0.50")
    is_right(live)


def test_an_option_may_be_given_for_each_family(alone: Host) -> None:
    web = alone.attach("web")
    alone.watcher("connect", "web", "back", "--ip", "172.22.0.50", "--ip", "fd00:22::50")
    assert (on(web, "eth1"), on(web, "eth1", 6)) == ("172.22.0.50", "fd00:22::50")


def test_neighbours_hear_of_another_mac(live: Host) -> None:
    """Who had talked to the former holder of the address talks to the new one at once."""
    web, db = live.attach("web"), server(live, "db", "back")
    web.serve(tcp=(80,))
    for mac in ("02:42:aa:00:00:01", "02:42:aa:00:00:02"):
        live.watcher("connect", "web", "back", "--ip", "172.22.0.50", "--mac", mac)
        assert db.reach("172.22.0.50", 80) == Answer("web", db.address)
        live.watcher("disconnect", "web", "back")


def test_the_guard_holds(live: Host) -> None:
    web, db = live.attach("web"), server(live, "db", "back")
    live.watcher("connect", "web", "back")
    own = on(web, "eth1")
    web.place.run("ip", "address", "add", "172.22.0.77/32", "dev", "eth1")
    asked = web.place.reach(db.address, 80, source="172.22.0.77", timeout=LATENCY_FREE_NO)
    assert asked is None
    assert web.place.reach(db.address, 80, source=own) == Answer("db", own)


def test_ports_lead_to_the_network_that_can_carry_them(live: Host) -> None:
    web = live.attach("web", ports="8080:80,5353:53/udp")
    web.serve(tcp=(80,), udp=(53,))
    live.watcher("connect", "web", "back")
    assert live.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert live.beyond.reach(UPLINK6, 8080) is not None, "back has IPv6"
    assert live.beyond.reach(UPLINK, 5353, "udp") == Answer("web", BEYOND)


def test_a_connected_link_is_healed(live: Host) -> None:
    web, db = live.attach("web"), server(live, "db", "back")
    live.watcher("connect", "web", "back")
    address = on(web, "eth1")
    for damage in (
        "ip link delete eth1",
        f"ip address delete {address}/24 dev eth1",
        "ip link set eth1 down",
        "ip route flush table 101",
        "ip link set eth1 name other0",
    ):
        web.place.run(*damage.split())
        live.settle()
        eventually(
            lambda: db.reach(address, 81, timeout=0.1) is None and on(web, "eth1") == address
        )
        eventually(lambda: web.reach(db.address, 80, timeout=0.5) == Answer("db", address))
    eventually(lambda: is_right(live))


@pytest.mark.parametrize("serves", [True, False])
def test_it_outlives_restarts_and_goes_with_its_container(alone: Host, *, serves: bool) -> None:
    live, service = alone, alone.service() if serves else None
    web, db = live.attach("web"), server(live, "db", "back")
    live.watcher("connect", "web", "back")
    before = web.place.picture()
    if service is not None:
        service.restart()
    assert web.place.picture() == before
    live.delete("web")
    live.forgotten("web")
    assert live.veths() == {db.veth}
    assert live.leases() == {db.address: "db", on(db, "eth0", 6): "db"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("back",), "network \"back\": it is connected already; disconnect it first"),
        (("nowhere",), "there is no such network; name one of back, default, front, inner"),
        (("front", "--ip", "172.22.0.9"), "is in no subnet of its networks (front)"),
        (("front", "--ip", "172.21.0.1"), "172.21.0.1 is the gateway of 172.21.0.0/24"),
        (("front", "--ip", "172.21.0.255"), "is the broadcast address"),
        (("front", "--ip", "172.21.0.40"), '172.21.0.40 is held by sandbox "other"'),
        (("front", "--mac", "02:42:aa:00:00:09"), "is in use in network front by sandbox"),
        (("front", "--interface", "eth0"), "another interface of it has that name"),
        (("front", "--interface", "eth1"), "another interface of it has that name"),
        (("front", "--interface", "own0"), "has an interface own0 that is not ours already"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_changes_nothing(
    alone: Host, args: tuple[str, ...], said: str
) -> None:
    web = alone.attach("web")
    asked = {"network": "front", "ip": "172.21.0.40", "mac": "02:42:aa:00:00:09"}
    alone.attach("other", annotations={f"io.watcher.{k}": v for k, v in asked.items()})
    alone.watcher("connect", "web", "back")
    web.place.run("ip", "link", "add", "own0", "type", "veth", "peer", "name", "own1")
    before, leases = web.place.picture(), alone.leases()
    line = refused(alone, "connect", "web", *args)
    assert line.startswith('container "web": ')
    assert said in line
    assert web.place.picture() == before
    assert alone.leases() == leases
    is_right(alone)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--ip", "172.22.0", '"172.22.0" is no address'),
        ("--ip", "172.22.0.5/24", "has a prefix length"),
        ("--ip", "172.22.0.5,172.22.0.6", "more than one IPv4 address"),
        ("--mac", "02:42", "not a MAC address"),
        ("--mac", "03:42:aa:00:00:01", "a multicast MAC address"),
        ("--interface", "a" * 16, "not an interface's name"),
        ("--interface", "lo", "not an interface's name"),
        ("--interface", "eth%d", "not an interface's name"),
    ],
)
def test_an_option_that_cannot_be_read_is_wrong_usage(
    alone: Host, option: str, value: str, said: str
) -> None:
    assert said in refused(alone, "connect", "web", "back", option, value, status=2)


def test_who_has_no_network_cannot_be_connected(alone: Host) -> None:
    alone.run("none", annotations={"io.watcher.network": "none"})
    alone.run("late")
    said = refused(alone, "connect", "none", "back")
    assert 'container "none" has no network: it is ignored (io.watcher.network = none)' in said
    assert "run `watcher sync`" in refused(alone, "connect", "late", "back")
    assert 'there is no container "nobody"' in refused(alone, "connect", "nobody", "back")
    alone.attach("web")
    alone.kill("web")
    assert 'container "web" has ended; start it again' in refused(alone, "connect", "web", "back")


def test_ten_networks_are_the_most(make_host: HostMaker) -> None:
    more = "".join(
        f'[network.n{n}]\nbridge = "n{n}"\nsubnets = ["172.30.{n}.0/24"]\n' for n in range(10)
    )
    host = make_host(more)
    web = host.attach("web")
    for number in range(9):
        assert host.watcher("connect", "web", f"n{number}").stdout.startswith(f"eth{number + 1} ")
    assert "it has 10 networks already; disconnect one of" in refused(host, "connect", "web", "n9")
    assert web.place.links() == {"lo", *(f"eth{number}" for number in range(10))}
    host.watcher("disconnect", "web", "n4")
    assert host.watcher("connect", "web", "n9").stdout.startswith("eth5 172.30.9.2/24")
    is_right(host)
    host.delete("web")
    host.settle()
    assert host.leftovers() == []


def test_a_network_that_the_host_uses_elsewhere_is_refused(live: Host) -> None:
    web = live.attach("web")
    live.here.run("ip", "address", "add", "172.22.0.200/24", "dev", "uplink")
    said = refused(live, "connect", "web", "back")
    assert "overlaps the host's own" in said
    assert web.place.links() == {"lo", "eth0"}
    live.here.run("ip", "address", "delete", "172.22.0.200/24", "dev", "uplink")
    live.watcher("connect", "web", "back")
    is_right(live)


def test_no_free_address_is_said(make_host: HostMaker) -> None:
    host = make_host('[network.tiny]\nbridge = "tiny0"\nsubnets = ["172.30.0.0/30"]\n')
    host.attach("web")
    host.attach("other", annotations={"io.watcher.network": "tiny"})
    said = refused(host, "connect", "web", "tiny")
    assert 'container "web": network "tiny": no free address in 172.30.0.0/30 (1 in use)' in said
    host.delete("other")  # nobody has told the watcher, whose store has it still
    host.watcher("connect", "web", "tiny")
    assert set(host.leases().values()) == {"web"}


def test_without_ipv6_inside_it_gets_ipv4_alone(alone: Host) -> None:
    def turned_off(spec: Spec) -> None:
        spec["linux"]["sysctl"] = {
            "net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1",
        }  # fmt: skip

    web = alone.attach("web", edit=turned_off)
    said = refused(alone, "connect", "web", "back", "--ip", "fd00:22::9")
    assert "IPv6 is turned off in its network namespace" in said
    alone.watcher("connect", "web", "back")
    assert web.place.addresses("eth1") == ["172.22.0.2/24"]
    is_right(alone)


def test_settings_of_the_container_stay(alone: Host) -> None:
    """`io.watcher.sysctl` applied when it was attached; what it has changed since stays."""
    asked = '{"net.ipv4.ip_default_ttl": "70", "net.ipv4.conf.eth0.arp_notify": "1"}'
    web = alone.attach("web", annotations={"io.watcher.sysctl": asked})
    for name, value in (("ip_default_ttl", "80"), ("conf/eth0/arp_notify", "0")):
        web.place.run("sh", "-c", f"echo {value} > /proc/sys/net/ipv4/{name}")
    alone.watcher("connect", "web", "back")
    alone.watcher("disconnect", "web", "default")
    alone.watcher("connect", "web", "default")
    shown = web.place.run("cat", "/proc/sys/net/ipv4/ip_default_ttl").stdout
    assert shown.strip() == "80"
