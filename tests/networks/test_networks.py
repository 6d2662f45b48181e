"""Networks: several of them, both families, and what each lets its sandboxes reach."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest

from tests.support import packets
from tests.support.host import (
    BEYOND,
    BEYOND6,
    GATE_OFF,
    GATEWAY,
    SUBNET,
    UPLINK,
    UPLINK6,
    Container,
    Host,
)
from tests.support.packets import BROADCAST, IPV4, IPV6, Wire, ether
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO

if TYPE_CHECKING:
    from tests.support.host import HostMaker

SUBNET6 = "fd00:19::/64"
GATEWAY6 = "fd00:19::1"
DUAL = f'[network.default]\nsubnets = ["{SUBNET}", "{SUBNET6}"]\n'
FRONT = '[network.front]\nbridge = "front0"\nsubnets = ["172.21.0.0/24", "fd00:21::/64"]\n'
BACK = '[network.back]\nbridge = "back0"\nsubnets = ["172.22.0.0/24", "fd00:22::/64"]\n'
NOTHING_TO_DO = "nothing to do\n"


def join(host: Host, name: str, networks: str, **asked: str) -> Container:
    """A container in `networks`, with servers that answer on port 80 of all its addresses."""
    annotations = {f"io.watcher.{key}": value for key, value in asked.items()}
    host.run(name, annotations={"io.watcher.network": networks, **annotations})
    host.settle()
    container = host.container(name)
    container.serve(tcp=(80,), udp=(80,))
    return container


def on(container: Container, interface: str) -> tuple[str, str]:
    """The IPv4 and the IPv6 address of an interface."""
    found = sorted(container.place.addresses(interface), key=lambda address: ":" in address)
    four, six = (address.split("/")[0] for address in found)
    return four, six


def default_routes(container: Container, family: str) -> list[tuple[str, str]]:
    routes = container.place.ip(family, "route")
    return [(r["gateway"], r["dev"]) for r in routes if r["dst"] == "default"]


# --- several ---------------------------------------------------------------------------------


def test_the_default_route_is_by_the_first_network(make_host: HostMaker) -> None:
    host = make_host(FRONT + BACK)
    host.beyond.serve(tcp=(80,))
    web, db = join(host, "web", "front,back"), join(host, "db", "back,front")
    assert web.place.links() == db.place.links() == {"lo", "eth0", "eth1"}
    assert default_routes(web, "-4") == [("172.21.0.1", "eth0")]
    assert default_routes(web, "-6") == [("fd00:21::1", "eth0")]
    assert default_routes(db, "-4") == [("172.22.0.1", "eth0")]
    for address in on(db, "eth0"):
        answer = web.reach(address, 80)
        assert answer is not None
        assert ip_address(answer.seen) in ip_network(
            "fd00:22::/64" if ":" in address else "172.22.0.0/24"
        )
    assert web.reach(BEYOND, 80) == db.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert web.reach(BEYOND6, 80) == Answer("beyond", UPLINK6)


def test_the_default_route_is_by_the_first_network_that_leads_out(make_host: HostMaker) -> None:
    four = '[network.four]\nbridge = "four0"\nsubnets = ["172.23.0.0/24"]\n'
    host = make_host(FRONT + "internal = true\n" + BACK + four)
    host.beyond.serve(tcp=(80,))
    web = join(host, "web", "front,four,back", ports="8080:80")
    assert default_routes(web, "-4") == [("172.23.0.1", "eth1")]
    assert default_routes(web, "-6") == [("fd00:22::1", "eth2")]
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert web.reach(BEYOND6, 80) == Answer("beyond", UPLINK6)
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert host.beyond.reach(UPLINK6, 8080) == Answer("web", BEYOND6)


def test_an_answer_leaves_by_the_interface_that_the_request_came_in_by(
    make_host: HostMaker,
) -> None:
    host = make_host(DUAL + 'reach = ["back"]\n' + FRONT + BACK)
    web = join(host, "web", "front,back", ports="8080:80,5353:81/udp")
    client, db = join(host, "client", "default"), join(host, "db", "back")
    for version in (0, 1):
        front, back = on(web, "eth0")[version], on(web, "eth1")[version]
        uplink = (UPLINK, UPLINK6)[version]
        web.serve(udp=(81,), address=front)
        web.serve(udp=(82,), address=back)
        # Who is on neither of its networks, and would be answered by eth0.
        assert host.here.reach(back, 80, source=uplink) == Answer("web", uplink)
        assert client.reach(back, 80) == Answer("web", on(client, "eth0")[version])
        assert client.reach(back, 82, "udp") == Answer("web", on(client, "eth0")[version])
        # Who is on eth1's network, and comes in by eth0.
        assert db.reach(uplink, 8080) == Answer("web", on(db, "eth0")[version])
        assert db.reach(uplink, 5353, "udp") == Answer("web", on(db, "eth0")[version])


def test_an_answer_leaves_as_the_request_came_where_networks_are_routed(
    make_host: HostMaker,
) -> None:
    host = make_host(FRONT + 'mode = "routed"\n' + BACK + 'mode = "routed"\n')
    web, db = join(host, "web", "front,back", ports="8080:80"), join(host, "db", "back")
    for version, uplink in enumerate((UPLINK, UPLINK6)):
        back = on(web, "eth1")[version]
        assert host.here.reach(back, 80, source=uplink) == Answer("web", uplink)
        assert db.reach(uplink, 8080) == Answer("web", on(db, "eth0")[version])
    assert host.watcher("sync").stdout == NOTHING_TO_DO


@pytest.mark.parametrize(
    "damage",
    [
        "ip route flush table 101",
        "ip -6 route flush table 101",
        "ip rule flush",
        "ip -6 rule flush",
        "ip link set eth1 down",
    ],
)
def test_policy_routes_are_put_right(make_host: HostMaker, damage: str) -> None:
    host = make_host(FRONT + BACK)
    web = join(host, "web", "front,back")
    assert host.watcher("sync").stdout == NOTHING_TO_DO
    web.place.run(*damage.split())
    if "rule" in damage:
        web.place.run(*damage.replace("flush", "add table main priority 32766").split())
    assert host.watcher("sync").stdout != NOTHING_TO_DO
    for address, uplink in zip(on(web, "eth1"), (UPLINK, UPLINK6), strict=True):
        assert host.here.reach(address, 80, source=uplink) == Answer("web", uplink)
    assert host.watcher("sync").stdout == NOTHING_TO_DO


def test_one_network_needs_no_policy_routes(host: Host) -> None:
    web = host.attach("web")
    assert len(web.place.ip("rule")) == 3


def test_two_networks_do_not_reach_each_other(make_host: HostMaker) -> None:
    host = make_host(FRONT + BACK)
    web, db = join(host, "web", "front"), join(host, "db", "back")
    for one, other in ((web, db), (db, web)):
        for address in on(other, "eth0"):
            assert one.reach(address, 80, timeout=LATENCY_FREE_NO) is None
        assert one.reach(on(other, "eth0")[0], 80, "udp", timeout=LATENCY_FREE_NO) is None


def test_a_network_reaches_another_where_its_configuration_says_so(make_host: HostMaker) -> None:
    host = make_host(FRONT + 'reach = ["back"]\n' + BACK)
    web, db = join(host, "web", "front"), join(host, "db", "back")
    for mine, address in zip(on(web, "eth0"), on(db, "eth0"), strict=True):
        assert web.reach(address, 80) == Answer("db", mine)
        assert web.reach(address, 80, "udp") == Answer("db", mine)
    for address in on(web, "eth0"):
        assert db.reach(address, 80, timeout=LATENCY_FREE_NO) is None


def test_a_network_reaches_the_ports_of_another_that_its_configuration_names(
    make_host: HostMaker,
) -> None:
    host = make_host(FRONT + 'reach = ["back:80/tcp", "back:90-91", "back/icmp"]\n' + BACK)
    web, db = join(host, "web", "front"), join(host, "db", "back")
    db.serve(tcp=(91, 92), udp=(91,))
    for mine, address in zip(on(web, "eth0"), on(db, "eth0"), strict=True):
        assert web.reach(address, 80) == Answer("db", mine)
        assert web.reach(address, 91) == web.reach(address, 91, "udp") == Answer("db", mine)
        assert web.reach(address, 80, "udp", timeout=LATENCY_FREE_NO) is None
        assert web.reach(address, 92, timeout=LATENCY_FREE_NO) is None
        ping = "ping6" if ":" in address else "ping"
        assert web.exec(ping, "-c1", "-W5", address).returncode == 0


# --- families --------------------------------------------------------------------------------


def test_ipv6_is_usable_by_the_first_instruction(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.service()
    for number, address in enumerate((GATEWAY6, BEYOND6, GATEWAY, BEYOND)):
        ping = ["ping6" if ":" in address else "ping", "-c1", "-W5", address]
        assert "1 packets received" in host.run_to_end(f"c{number}", ping).stdout
    shown = host.run_to_end("shows", ["ip", "-6", "addr", "show", "dev", "eth0"]).stdout
    assert [line for line in shown.splitlines() if "fd00:19:" in line and "tentative" in line] == []
    assert "fd00:19:" in shown


def test_a_network_of_ipv6_alone(make_host: HostMaker) -> None:
    host = make_host(f'[network.default]\nsubnets = ["{SUBNET6}"]\n')
    host.beyond.serve(tcp=(80,), udp=(80,))
    web, client = join(host, "web", "default", ports="8080:80"), join(host, "client", "default")
    (address,) = web.place.addresses()
    assert ip_address(address.split("/")[0]) in ip_network(SUBNET6)
    assert web.reach(BEYOND6, 80) == web.reach(BEYOND6, 80, "udp") == Answer("beyond", UPLINK6)
    assert host.beyond.reach(UPLINK6, 8080) == Answer("web", BEYOND6)
    assert host.beyond.reach(UPLINK, 8080, timeout=LATENCY_FREE_NO) is None
    answer = client.reach(address.split("/")[0], 80)
    assert answer is not None
    assert (answer.who, answer.seen) == ("web", client.place.addresses()[0].split("/")[0])


def test_a_network_of_ipv4_alone_makes_no_ipv6_address(host: Host) -> None:
    web = host.attach("web")
    link = web.place.link("eth0")
    assert link is not None
    assert [entry["family"] for entry in link["addr_info"]] == ["inet"]


def test_without_masquerade_ipv6_keeps_its_address(make_host: HostMaker) -> None:
    host = make_host(DUAL + "masquerade = false\n")
    host.beyond.run("ip", "route", "add", SUBNET6, "via", UPLINK6)
    host.beyond.serve(tcp=(80,))
    # The host's uplink may be too new yet to ask in its own name for who is beyond it.
    assert host.here.reach(BEYOND6, 80) == Answer("beyond", UPLINK6)
    web = join(host, "web", "default")
    assert web.reach(BEYOND6, 80) == Answer("beyond", on(web, "eth0")[1])


def test_router_advertisements_are_not_accepted(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    web = join(host, "web", "default")
    before = web.place.picture()
    link = host.here.link("netns0")
    assert link is not None
    mac = link["address"]
    advert = packets.router_advert(mac, "2001:db8:66::")
    wire, listener = Wire(host, host.here, "netns0"), Wire(host, web.place)
    wire.send(
        ether(
            mac, BROADCAST, IPV6, packets.icmp6(packets.link_local(mac), packets.ALL_NODES, advert)
        )
    )
    listener.until(lambda frame: advert[4:] in frame)
    assert host.here.reach(on(web, "eth0")[1], 80) == Answer("web", GATEWAY6)
    assert web.place.picture() == before


def test_ula_is_a_prefix_that_stays(make_host: HostMaker) -> None:
    host = make_host('[network.default]\nsubnets = ["172.19.0.0/16", "ula"]\n')
    host.beyond.serve(tcp=(80,))
    web = join(host, "web", "default")
    address = on(web, "eth0")[1]
    assert ip_address(address) in ip_network("fd00::/8")
    assert web.reach(BEYOND6, 80) == Answer("beyond", UPLINK6)
    assert host.watcher("sync").stdout == NOTHING_TO_DO
    (row,) = json.loads(host.watcher("network", "ls", "--json").stdout)
    assert ip_address(address) in ip_network(row["subnets"][1])


# --- what may be reached ---------------------------------------------------------------------


def test_an_internal_network_has_no_way_out_or_in(make_host: HostMaker) -> None:
    host = make_host(DUAL + FRONT + "internal = true\n")
    for subnet, uplink in (("172.21.0.0/24", UPLINK), ("fd00:21::/64", UPLINK6)):
        host.beyond.run("ip", "route", "add", subnet, "via", uplink)
    host.beyond.serve(tcp=(80,), udp=(80,))
    inner, friend = join(host, "inner", "front"), join(host, "friend", "front")
    outer = join(host, "outer", "default", ports="8080:80")
    assert default_routes(inner, "-4") == default_routes(inner, "-6") == []
    gateways = ("172.21.0.1", "fd00:21::1")
    for version, beyond in enumerate((BEYOND, BEYOND6)):
        assert inner.reach(on(friend, "eth0")[version], 80) is not None
        assert host.here.reach(on(inner, "eth0")[version], 80) == Answer("inner", gateways[version])
        # Not even by a route that it makes itself.
        inner.place.ip("route", "add", "default", "via", gateways[version])
        assert inner.reach(beyond, 80, timeout=LATENCY_FREE_NO) is None
        assert inner.reach(on(outer, "eth0")[version], 80, timeout=LATENCY_FREE_NO) is None
        assert host.beyond.reach(on(inner, "eth0")[version], 80, timeout=LATENCY_FREE_NO) is None
        assert outer.reach(on(inner, "eth0")[version], 80, timeout=LATENCY_FREE_NO) is None
    assert inner.reach(UPLINK, 8080, timeout=LATENCY_FREE_NO) is None


def test_an_internal_network_publishes_nothing(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF + FRONT + "internal = true\n")
    host.run("web", annotations={"io.watcher.network": "front"}, ports="8080:80")
    assert 'io.watcher.ports = "8080:80/tcp": its network is internal' in host.fails("web")
    assert host.leftovers() == []


def test_isolated_sandboxes_do_not_reach_each_other(make_host: HostMaker) -> None:
    host = make_host(DUAL + "isolate = true\n")
    host.beyond.serve(tcp=(80,))
    web, thief = join(host, "web", "default", ports="8080:80"), join(host, "thief", "default")
    for address, gateway in zip(on(web, "eth0"), (GATEWAY, GATEWAY6), strict=True):
        assert thief.reach(address, 80, timeout=LATENCY_FREE_NO) is None
        thief.place.ip("route", "add", address, "via", gateway)
        assert thief.reach(address, 80, timeout=LATENCY_FREE_NO) is None, "by the gateway"
        assert host.here.reach(address, 80) == Answer("web", gateway)
    assert thief.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert thief.reach(BEYOND6, 80) == Answer("beyond", UPLINK6)
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def test_isolated_sandboxes_hear_nothing_of_each_other(make_host: HostMaker) -> None:
    host = make_host("[network.default]\nisolate = true\n")
    web, thief = join(host, "web", "default"), join(host, "thief", "default")
    link, victim = thief.place.link("eth0"), web.place.link("eth0")
    assert link is not None
    assert victim is not None
    wire = Wire(host, thief.place)
    listeners = {"host": Wire(host, host.here, "netns0"), "web": Wire(host, web.place)}
    said, end = packets.mark(), packets.mark()
    for destination in (BROADCAST, victim["address"]):
        wire.send(
            ether(
                link["address"],
                destination,
                IPV4,
                packets.udp(thief.address, web.address, 9, said),
            )
        )
    bridge = host.here.link("netns0")
    assert bridge is not None
    Wire(host, host.here, "netns0").send(
        ether(bridge["address"], BROADCAST, IPV4, packets.udp(GATEWAY, "172.19.255.255", 9, end))
    )
    assert not [f for f in listeners["web"].until(lambda frame: end in frame) if said in f]
    listeners["host"].until(lambda frame: said in frame)


# --- what a network sets ---------------------------------------------------------------------


def test_fixed_addresses_of_both_families_and_of_a_second_network(make_host: HostMaker) -> None:
    host = make_host(FRONT + BACK)
    web = join(
        host,
        "web",
        "front,back",
        ip="fd00:21::50, 172.22.0.50",
        mac="02:42:ac:15:00:32",
    )
    assert on(web, "eth0")[1] == "fd00:21::50"
    assert on(web, "eth1")[0] == "172.22.0.50"
    link = web.place.link("eth0")
    assert link is not None
    assert link["address"] == "02:42:ac:15:00:32"
    assert host.here.reach("fd00:21::50", 80) == Answer("web", "fd00:21::1")
    assert host.here.reach("172.22.0.50", 80) == Answer("web", "172.22.0.1")


def test_an_mtu_of_auto_is_that_of_the_uplink(make_host: HostMaker) -> None:
    host = make_host('[network.default]\nmtu = "auto"\n')
    host.ip("link", "set", "uplink", "mtu", "1380")
    web = join(host, "web", "default")
    links = [web.place.link("eth0"), host.here.link(web.veth), host.here.link("netns0")]
    assert [link and link["mtu"] for link in links] == [1380] * 3
    assert host.watcher("sync").stdout == NOTHING_TO_DO


def test_a_networks_mtu_is_what_passes(make_host: HostMaker) -> None:
    host = make_host("[network.default]\nmtu = 9000\n")
    web, client = join(host, "web", "default"), join(host, "client", "default")
    size = 9000 - 28
    sent = f"{size + 8} bytes from {web.address}"
    assert sent in client.exec("ping", "-c1", "-W5", "-s", str(size), web.address).stdout
    assert web.place.ip("-statistics", "link", "show", "eth0")[0]["mtu"] == 9000


def test_static_routes_lead_to_a_neighbour(make_host: HostMaker) -> None:
    routes = (
        '{ to = "198.51.100.0/24", via = "172.19.0.9" }, { to = "2001:db8:9::/48", via ='
        ' "fd00:19::9" }'
    )
    host = make_host(DUAL + f"guard = false\nroutes = [{routes}]\n")
    router = join(host, "router", "default", ip="172.19.0.9,fd00:19::9")
    router.place.ip("addr", "add", "198.51.100.7/32", "dev", "lo")
    router.place.ip("addr", "add", "2001:db8:9::7/128", "dev", "lo")
    web = join(host, "web", "default")
    four, six = on(web, "eth0")
    assert web.reach("198.51.100.7", 80) == Answer("router", four)
    assert web.reach("2001:db8:9::7", 80) == Answer("router", six)
    assert host.watcher("sync").stdout == NOTHING_TO_DO
    web.place.ip("route", "del", "198.51.100.0/24")
    assert "route to 198.51.100.0/24" in host.watcher("sync").stdout
    assert web.reach("198.51.100.7", 80) == Answer("router", four)


def test_a_static_default_route_takes_the_place_of_the_gateway(make_host: HostMaker) -> None:
    host = make_host(DUAL + 'routes = [{ to = "0.0.0.0/0", via = "172.19.0.9" }]\n')
    web = join(host, "web", "default")
    assert default_routes(web, "-4") == [("172.19.0.9", "eth0")]
    assert default_routes(web, "-6") == [(GATEWAY6, "eth0")]
    assert host.watcher("sync").stdout == NOTHING_TO_DO


def test_the_default_route_has_the_networks_metric(make_host: HostMaker) -> None:
    host = make_host(DUAL + "metric = 70\n")
    host.beyond.serve(tcp=(80,))
    web = join(host, "web", "default")
    for family, beyond, uplink in (("-4", BEYOND, UPLINK), ("-6", BEYOND6, UPLINK6)):
        routes = web.place.ip(family, "route")
        assert [r["metric"] for r in routes if r["dst"] == "default"] == [70]
        assert web.reach(beyond, 80) == Answer("beyond", uplink)
    assert host.watcher("sync").stdout == NOTHING_TO_DO


# --- a bridge of somebody else ---------------------------------------------------------------

THEIRS = '[network.default]\nbridge = "theirs0"\nmanaged = false\n'


def their_bridge(host: Host) -> None:
    """A bridge that somebody made, with a machine of theirs on it that beyond has a route to."""
    host.command(
        "sh",
        "-ec",
        """
        echo 1 > /proc/sys/net/ipv4/ip_forward
        ip link add theirs0 address 02:00:00:00:00:aa type bridge ageing_time 1000
        ip link set theirs0 mtu 1450 up
        ip addr add 172.19.0.1/16 dev theirs0
        """,
    )


def their_machine(host: Host) -> str:
    """A machine of theirs on that bridge, which answers on port 80; its address."""
    theirs = host.machine("vm0", "172.19.200.0/24")
    host.command("ip", "addr", "flush", "dev", "vm0")
    host.command("ip", "link", "set", "vm0", "master", "theirs0")
    theirs.ip("addr", "flush", "dev", "uplink")
    theirs.ip("addr", "add", "172.19.200.2/16", "dev", "uplink")
    theirs.ip("route", "replace", "default", "via", GATEWAY)
    theirs.serve(tcp=(80,), udp=(80,))
    host.beyond.run("ip", "route", "add", SUBNET, "via", UPLINK)
    return "172.19.200.2"


def settings_of(host: Host) -> object:
    """All that there is to say of the bridge, but for what its ports and its clock change."""
    (link,) = host.ip("link", "show", "dev", "theirs0")
    changing = ("_timer", "fdb_n_learned")
    data = {k: v for k, v in link["linkinfo"]["info_data"].items() if not k.endswith(changing)}
    rest = {key: link[key] for key in ("ifindex", "address", "mtu", "group", "promiscuity")}
    below = "cd /proc/sys/net; grep -s . ipv4/conf/theirs0/* ipv6/conf/theirs0/* || true"
    return data, rest, host.here.addresses("theirs0"), host.command("sh", "-c", below).stdout


def test_a_bridge_of_somebody_else_is_used_and_left_as_it_is(make_host: HostMaker) -> None:
    host = make_host(THEIRS)
    their_bridge(host)
    host.beyond.serve(tcp=(80,))
    before = settings_of(host)
    web = join(host, "web", "default", ports="8080:80")
    assert (host.here.link(web.veth) or {})["master"] == "theirs0"
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert settings_of(host) == before

    host.delete("web")
    host.gone(web)
    host.watcher("down")
    assert settings_of(host) == before
    assert host.sysctl("net/ipv4/ip_forward") == "1"


def test_others_on_a_bridge_of_somebody_else_are_left_alone(make_host: HostMaker) -> None:
    host = make_host(THEIRS)
    their_bridge(host)
    vm = their_machine(host)
    theirs = host.beyond  # it is asked from there, and asks there
    theirs.serve(tcp=(81,))
    before = theirs.reach(vm, 80)
    assert before == Answer("vm0", BEYOND)
    web = join(host, "web", "default")

    assert theirs.reach(vm, 80) == before
    assert theirs.reach(vm, 80, "udp") == before
    assert web.reach(vm, 80) == Answer("vm0", web.address)
    assert theirs.reach(web.address, 80, timeout=LATENCY_FREE_NO) is None, "ours are guarded"


def test_a_bridge_of_somebody_else_has_to_be_there(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF + THEIRS)
    host.run("web")
    assert "bridge theirs0 of network default is missing" in host.fails("web")
    assert "theirs0" not in host.here.links()
    their_bridge(host)
    host.watcher("sync")
    assert host.status("web") == "attached"
