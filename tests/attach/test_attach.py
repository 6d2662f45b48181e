"""A container that appears gets its bridge, veth pair, lease, address, route and way out.

Rows 1 to 4 of what the watcher does in place of a hook.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest

from tests.support.host import BEYOND, GATEWAY, SUBNET, UPLINK, Host, HostMaker, Json
from tests.support.traffic import Answer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    pass


def bridge_of(host: Host, name: str = "netns0") -> Json:
    link = host.here.link(name)
    assert link is not None, f"no {name} among {host.here.links()}"
    assert link["linkinfo"]["info_kind"] == "bridge"
    return link


# --- bridge ----------------------------------------------------------------------------------


def test_nothing_is_made_on_a_host_without_containers(kept: Host) -> None:
    """But for the bridge that a service makes at its start."""
    links = kept.here.links()
    kept.settle()
    assert kept.here.links() == links
    assert links - {"netns0"} == {"lo", "uplink"}
    assert kept.sysctl("net/ipv4/ip_forward") == "0"
    assert kept.leftovers() == []


def test_the_bridge_is_made_when_the_first_container_needs_it(kept: Host) -> None:
    kept.attach("web")
    bridge = bridge_of(kept)
    assert "UP" in bridge["flags"]
    assert kept.here.addresses("netns0") == [f"{GATEWAY}/16"]


def test_the_bridge_has_a_fixed_mac(make_host: HostMaker) -> None:
    macs = set()
    for _ in range(2):
        host = make_host()
        first = host.attach("first")
        macs.add(bridge_of(host)["address"])
        host.attach("second")
        macs.add(bridge_of(host)["address"])
        host.delete("first")
        host.gone(first)
        macs.add(bridge_of(host)["address"])
    assert len(macs) == 1, macs
    assert int(macs.pop()[:2], 16) & 0b11 == 0b10, "not a locally administered unicast MAC"


def make_bridge(host: Host, *then: str) -> None:
    """Has somebody else make the bridge anew. A service that is quicker is in their way."""
    lines = ("link del netns0", "link add netns0 type bridge", *then)
    host.command("ip", "-force", "-batch", "-", stdin="\n".join(lines), check=False)


def test_a_bridge_that_is_there_is_adopted(kept: Host) -> None:
    addresses = (f"{GATEWAY}/16", "198.51.100.1/24")
    added = [f"address add {address} dev netns0" for address in addresses]
    make_bridge(kept, *added, "link set netns0 up")
    index = bridge_of(kept)["ifindex"]

    web = kept.attach("web")
    web.serve(tcp=(80,))

    assert bridge_of(kept)["ifindex"] == index
    assert set(kept.here.addresses("netns0")) == set(addresses)
    assert kept.here.reach(web.address, 80) == Answer("web", GATEWAY)


@pytest.mark.parametrize(
    "damage",
    [
        "ip link set netns0 down",
        "ip address flush dev netns0",
        "ip link set {veth} nomaster",
        "ip link set {veth} down",
        "ip link delete netns0",
    ],
)
def test_half_of_a_bridge_is_repaired(host: Host, damage: str) -> None:
    web = host.attach("web")
    web.serve(tcp=(80,))
    assert host.here.reach(web.address, 80)

    host.command(*damage.format(veth=web.veth).split())
    assert host.here.reach(web.address, 80, timeout=0.3) is None
    repairs = host.watcher("sync").stdout

    assert repairs.strip() != "nothing to do"
    # The kernel gives up on an address three seconds after it first asked who has it.
    eventually(lambda: host.here.reach(web.address, 80) == Answer("web", GATEWAY))
    assert web.reach(GATEWAY, 1, timeout=0.1) is None  # refused: its gateway answers
    assert host.watcher("sync").stdout == "nothing to do\n"


def test_a_half_made_bridge_is_completed_by_the_first_container(kept: Host) -> None:
    make_bridge(kept)
    web = kept.attach("web")
    web.serve(tcp=(80,))
    assert kept.here.addresses("netns0") == [f"{GATEWAY}/16"]
    assert kept.here.reach(web.address, 80) == Answer("web", GATEWAY)


# --- veth pair -------------------------------------------------------------------------------


def test_a_veth_pair_leads_from_the_bridge_into_the_container(kept: Host) -> None:
    web = kept.attach("web")
    outer = kept.here.link(f"netnsv0-{web.pid}")
    inner = web.place.link("eth0")
    assert outer is not None
    assert inner is not None

    assert outer["linkinfo"]["info_kind"] == inner["linkinfo"]["info_kind"] == "veth"
    assert outer["master"] == "netns0"
    assert outer["link_index"] == inner["ifindex"]
    assert inner["link_index"] == outer["ifindex"]
    assert {"UP", "LOWER_UP"} <= set(outer["flags"])
    assert {"UP", "LOWER_UP"} <= set(inner["flags"])
    assert inner["mtu"] == outer["mtu"] == 1500
    assert web.place.links() == {"lo", "eth0"}


def test_a_veth_pair_has_one_queue_however_many_processors_there_are(host: Host) -> None:
    web = host.attach("web")
    links = (host.here.link(web.veth), web.place.link("eth0"))
    assert {link[f"num_{way}_queues"] for link in links for way in ("tx", "rx") if link} == {1}


def test_the_loopback_of_a_container_is_up(kept: Host) -> None:
    web = kept.attach("web")
    assert "UP" in (web.place.link("lo") or {})["flags"]
    web.serve(tcp=(80,))
    assert web.reach("127.0.0.1", 80) == Answer("web", "127.0.0.1")


def test_mtu_and_the_interfaces_name_come_from_the_configuration(
    make_host: HostMaker,
) -> None:
    host = make_host('[network.default]\nmtu = 1400\ninterface = "net0"\nbridge = "lan0"\n')
    web = host.attach("web")
    assert web.place.links() == {"lo", "net0"}
    assert (web.place.link("net0") or {})["mtu"] == 1400
    assert (host.here.link(web.veth) or {})["mtu"] == 1400
    assert (host.here.link(web.veth) or {})["master"] == "lan0"


# --- lease, address, route -------------------------------------------------------------------


def test_a_container_has_an_address_of_the_subnet_and_a_default_route(kept: Host) -> None:
    web = kept.attach("web")
    (address,) = web.place.addresses()
    assert ip_address(web.address) in ip_network(SUBNET)
    assert web.address not in ("172.19.0.0", GATEWAY, "172.19.255.255")
    assert address == f"{web.address}/16"
    (default,) = (route for route in web.place.ip("route") if route["dst"] == "default")
    assert (default["gateway"], default["dev"]) == (GATEWAY, "eth0")
    assert kept.leases() == {web.address: "web"}


def test_containers_have_different_addresses_and_reach_each_other(kept: Host) -> None:
    web, client = kept.attach("web"), kept.attach("client")
    web.serve(tcp=(80,), udp=(53,))
    assert web.address != client.address
    assert client.reach(web.address, 80) == Answer("web", client.address)
    assert client.reach(web.address, 53, "udp") == Answer("web", client.address)


def test_the_host_and_its_containers_reach_each_other(kept: Host) -> None:
    web = kept.attach("web")
    web.serve(tcp=(80,))
    kept.here.serve(tcp=(8000,))
    assert kept.here.reach(web.address, 80) == Answer("web", GATEWAY)
    assert web.reach(GATEWAY, 8000) == Answer("host", web.address)
    assert web.reach(UPLINK, 8000) == Answer("host", web.address)


def test_the_same_container_id_gets_its_old_address_back(kept: Host) -> None:
    web = kept.attach("web")
    old = web.address
    kept.delete("web")
    kept.gone(web)
    other = kept.attach("other")
    assert other.address != old
    assert kept.attach("web").address == old


def test_an_old_address_that_was_given_away_is_not_given_twice(kept: Host) -> None:
    web = kept.attach("web")
    old = web.address
    kept.delete("web")
    kept.gone(web)
    assert kept.attach("other", annotations={"io.watcher.ip": old}).address == old
    assert kept.attach("web").address != old


def test_a_freed_address_is_the_last_to_be_handed_out_again(make_host: HostMaker) -> None:
    host = make_host('[network.default]\nsubnets = ["172.19.0.0/29"]\n')
    containers = [host.run(f"c{number}") for number in range(3)]
    host.settle()
    freed = containers[0].address
    host.delete("c0")
    host.gone(containers[0])

    later = [host.attach(f"later{number}").address for number in range(3)]
    assert freed not in later[:2]
    assert later[2] == freed


def test_a_fixed_address_and_mac_are_given(kept: Host) -> None:
    web = kept.attach(
        "web",
        annotations={"io.watcher.ip": "172.19.7.50", "io.watcher.mac": "02:42:AC:13:07:32"},
    )
    assert web.place.addresses() == ["172.19.7.50/16"]
    assert (web.place.link("eth0") or {})["address"] == "02:42:ac:13:07:32"
    web.serve(tcp=(80,))
    assert kept.here.reach("172.19.7.50", 80) == Answer("web", GATEWAY)


def test_a_mac_is_derived_from_the_address(host: Host) -> None:
    web = host.attach("web", annotations={"io.watcher.ip": "172.19.7.50"})
    mac = (web.place.link("eth0") or {})["address"]
    host.delete("web")
    host.gone(web)
    again = host.attach("again", annotations={"io.watcher.ip": "172.19.7.50"})
    assert (again.place.link("eth0") or {})["address"] == mac


def test_a_container_may_be_in_several_networks(make_host: HostMaker) -> None:
    host = make_host('[network.back]\nbridge = "back0"\nsubnets = ["172.20.0.0/24"]\n')
    host.service()
    web = host.attach("web", annotations={"io.watcher.network": "default,back"})
    db = host.attach("db", annotations={"io.watcher.network": "back"})
    db.serve(tcp=(5432,))

    assert web.place.links() == {"lo", "eth0", "eth1"}
    assert {f"netnsv0-{web.pid}", f"netnsv1-{web.pid}", f"netnsv0-{db.pid}"} == host.veths()
    assert (host.here.link(f"netnsv1-{web.pid}") or {})["master"] == "back0"
    (back,) = web.place.addresses("eth1")
    assert ip_address(back.split("/")[0]) in ip_network("172.20.0.0/24")
    assert db.place.links() == {"lo", "eth0"}
    assert web.reach(db.address, 5432) == Answer("db", back.split("/")[0])
    host.delete("web")
    host.delete("db")
    host.empty()


# --- the way out -----------------------------------------------------------------------------


def test_a_container_reaches_a_machine_beyond_as_the_host(kept: Host) -> None:
    kept.beyond.serve(tcp=(80,), udp=(53,))
    web = kept.attach("web")
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert web.reach(BEYOND, 53, "udp") == Answer("beyond", UPLINK)
    assert "1 packets received" in web.exec("ping", "-c1", "-W10", BEYOND).stdout


def test_containers_see_each_other_without_masquerade(kept: Host) -> None:
    kept.here.serve(tcp=(80,))
    web = kept.attach("web")
    assert web.reach(GATEWAY, 80) == Answer("host", web.address)


def test_without_masquerade_the_machine_beyond_sees_the_container(
    make_host: HostMaker,
) -> None:
    host = make_host("[network.default]\nmasquerade = false\n")
    host.beyond.run("ip", "route", "add", SUBNET, "via", UPLINK)
    host.beyond.serve(tcp=(80,))
    web = host.attach("web")
    assert web.reach(BEYOND, 80) == Answer("beyond", web.address)


def test_an_internal_network_has_no_way_out(make_host: HostMaker) -> None:
    host = make_host("[network.default]\ninternal = true\n")
    host.beyond.run("ip", "route", "add", SUBNET, "via", UPLINK)
    host.beyond.serve(tcp=(80,))
    for name in ("web", "client"):
        host.run(name)
    host.settle()
    web, client = host.container("web"), host.container("client")
    eventually(lambda: host.ls()["client"]["status"] == "attached")
    web.serve(tcp=(80,))

    assert client.reach(web.address, 80) == Answer("web", client.address)
    assert host.here.reach(web.address, 80) == Answer("web", GATEWAY)
    assert web.reach(BEYOND, 80, timeout=0.4) is None
    assert host.beyond.reach(web.address, 80, timeout=0.4) is None


def test_isolated_containers_do_not_reach_each_other(make_host: HostMaker) -> None:
    host = make_host("[network.default]\nisolate = true\n")
    host.beyond.serve(tcp=(80,))
    web, client = host.attach("web"), host.attach("client")
    web.serve(tcp=(80,))
    assert client.reach(web.address, 80, timeout=0.4) is None
    assert client.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert host.here.reach(web.address, 80) == Answer("web", GATEWAY)


def test_the_machine_beyond_cannot_open_connections_to_a_container(kept: Host) -> None:
    web = kept.attach("web")
    web.serve(tcp=(80,))
    assert kept.beyond.reach(web.address, 80, timeout=0.4) is None
