"""The firewall: what nobody outside reaches, and what of the host's own is left as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import packets
from tests.support.host import BEYOND, BEYOND6, GATEWAY, SUBNET, UPLINK, UPLINK6, Container, Host
from tests.support.packets import BROADCAST, IPV4, IPV6, Wire, ether
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO

if TYPE_CHECKING:
    from tests.support.host import HostMaker

SUBNET6 = "fd00:19::/64"
DUAL = f'[network.default]\nsubnets = ["{SUBNET}", "{SUBNET6}"]\n'
ACCEPTING = """
table inet own {
    chain forward { type filter hook forward priority 0; policy accept; accept; }
}
"""
OWN = """
table inet own {
    set blocked { type ipv4_addr; elements = { 203.0.113.9 } }
    chain input { type filter hook input priority 0; policy accept; ip saddr @blocked drop; }
    chain forward { type filter hook forward priority 0; policy accept; ip saddr @blocked drop; }
}
table ip own_nat {
    chain post { type nat hook postrouting priority 100; oifname "uplink" masquerade; }
}
table bridge own {
    chain forward { type filter hook forward priority 0; policy accept; }
}
"""


def serve(host: Host, name: str, **asked: Any) -> Container:
    container = host.attach(name, **asked)
    container.serve(tcp=(80, 81), udp=(80, 81))
    return container


def route_from_beyond(host: Host) -> None:
    """Has the machine beyond send what is for the sandboxes to this host."""
    host.beyond.run("ip", "route", "add", SUBNET, "via", UPLINK)
    host.beyond.run("ip", "-6", "route", "add", SUBNET6, "via", UPLINK6)


# --- from outside ----------------------------------------------------------------------------


@pytest.mark.parametrize("ruleset", ["", ACCEPTING], ids=["no firewall", "an accepting one"])
def test_an_unpublished_port_is_not_reached_by_a_route_to_the_subnet(
    make_host: HostMaker, ruleset: str
) -> None:
    host = make_host(DUAL)
    host.command("nft", "-f", "-", stdin=ruleset)
    route_from_beyond(host)
    web = serve(host, "web", ports="8080:80,8080:80/udp")
    other = serve(host, "other")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert host.beyond.reach(UPLINK6, 8080) == Answer("web", BEYOND6)
    for container in (web, other):
        for address in (a.split("/")[0] for a in container.place.addresses()):
            for port in (80, 81):
                no = host.beyond.reach(address, port, timeout=LATENCY_FREE_NO)
                assert no is None, (container.id, address, port)
            no = host.beyond.reach(address, 80, "udp", timeout=LATENCY_FREE_NO)
            assert no is None, (container.id, address)


def test_nothing_of_outside_comes_in_but_what_was_asked_for(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    route_from_beyond(host)
    host.beyond.serve(udp=(53,))
    web = serve(host, "web")
    (uplink,) = host.ip("link", "show", "dev", "uplink")
    (theirs,) = host.beyond.ip("link", "show", "dev", "uplink")
    wire, listener = Wire(host, host.beyond, "uplink"), Wire(host, web.place)
    unasked = packets.mark()
    four, six = (a.split("/")[0] for a in sorted(web.place.addresses(), key=lambda a: ":" in a))
    for kind, packet in (
        (IPV4, packets.udp(BEYOND, four, 80, unasked)),
        (IPV4, packets.ipv4(BEYOND, four, 1, b"\x08\x00" + unasked)),
        (IPV4, packets.ipv4(BEYOND, four, 47, unasked)),
        (IPV6, packets.udp(BEYOND6, six, 80, unasked)),
        (IPV6, packets.icmp6(BEYOND6, six, b"\x80\x00\x00\x00" + unasked)),
    ):
        wire.send(ether(theirs["address"], uplink["address"], kind, packet))
    asking = web.place.datagrams(BEYOND, 53)
    assert asking.ask() == Answer("beyond", UPLINK)
    heard = listener.until(lambda frame: b"beyond " in frame)
    assert not [frame for frame in heard if unasked in frame]


def test_another_machine_may_not_speak_for_a_sandbox(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    far = host.machine("far", "198.51.100.0/24")
    web, other = serve(host, "web"), host.attach("other")
    (link,) = host.ip("link", "show", "dev", "far")
    (theirs,) = far.ip("link", "show", "dev", "uplink")
    listener, forged = Wire(host, web.place), packets.mark()
    Wire(host, far, "uplink").send(
        ether(
            theirs["address"],
            link["address"],
            IPV4,
            packets.udp(other.address, web.address, 80, forged),
        )
    )
    assert host.here.reach(web.address, 80) == Answer("web", GATEWAY)
    end = packets.mark()
    (mine,) = other.place.ip("link", "show", "dev", "eth0")
    Wire(host, other.place).send(
        ether(mine["address"], BROADCAST, IPV4, packets.udp(other.address, web.address, 9, end))
    )
    assert not [f for f in listener.until(lambda frame: end in frame) if forged in f]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_of_localhost_is_not_reached_from_the_wire(host: Host, protocol: str) -> None:
    host.command("sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/uplink/route_localnet")
    web = serve(host, "web", ports=f"127.0.0.1:8080:80/{protocol},8081:80/udp")
    assert host.sysctl("net/ipv4/conf/uplink/route_localnet") == "1"
    (uplink,) = host.ip("link", "show", "dev", "uplink")
    (theirs,) = host.beyond.ip("link", "show", "dev", "uplink")
    wire, listener = Wire(host, host.beyond, "uplink"), Wire(host, web.place)
    end = packets.mark()
    for source in (BEYOND, "127.0.0.1"):
        packet = (
            packets.tcp_syn(source, "127.0.0.1", 8080)
            if protocol == "tcp"
            else packets.udp(source, "127.0.0.1", 8080, b"forged")
        )
        wire.send(ether(theirs["address"], uplink["address"], IPV4, packet))
    packet = packets.udp(BEYOND, UPLINK, 8081, end)
    wire.send(ether(theirs["address"], uplink["address"], IPV4, packet))
    (heard,) = [f for f in listener.until(lambda frame: end in frame) if f[12:14] == b"\x08\x00"]
    assert end in heard


def test_a_server_of_the_hosts_localhost_is_not_reached_by_a_sandbox(host: Host) -> None:
    host.here.serve(tcp=(631,), address="127.0.0.1")
    web = serve(host, "web", ports="8080:80")
    web.place.run("ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
    web.place.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet")
    web.place.ip("route", "add", "127.0.0.1", "via", GATEWAY)
    source = web.address
    assert web.place.reach("127.0.0.1", 631, source=source, timeout=LATENCY_FREE_NO) is None
    assert host.here.reach("127.0.0.1", 631) == Answer("host", "127.0.0.1")


def test_the_host_takes_no_router_for_true_that_is_a_sandbox(make_host: HostMaker) -> None:
    host = make_host(DUAL + "guard = false\n")
    web = serve(host, "web")
    (link,) = web.place.ip("link", "show", "dev", "eth0")
    mac = link["address"]
    before = host.here.picture()
    advert = packets.router_advert(mac, "2001:db8:66::")
    listener = Wire(host, host.here, "netns0")
    packet = packets.icmp6(packets.link_local(mac), packets.ALL_NODES, advert)
    Wire(host, web.place).send(ether(mac, BROADCAST, IPV6, packet))
    listener.until(lambda frame: advert[4:] in frame)
    assert host.here.reach(web.address, 80) == Answer("web", GATEWAY)
    assert host.here.picture() == before


def test_ipv6_of_outside_reaches_a_new_sandbox_at_once(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.service()
    web = host.run("web", ports="8080:80")
    web.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK6, 8080) == Answer("web", BEYOND6)
    # The kernel asks for the way to a sandbox in the name of this address alone.
    (link,) = host.ip("addr", "show", "dev", "netns0")
    (local,) = (entry for entry in link["addr_info"] if entry["scope"] == "link")
    assert not local.get("tentative")


# --- what is the host's own ------------------------------------------------------------------

CHANGED = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")


def sysctls(host: Host) -> dict[str, str]:
    """Every setting of the host's network that has nothing to do with a link of the watcher."""
    below = "cd /proc/sys/net; grep -rs . ipv4 ipv6 bridge core netfilter || true"
    lines = host.command("sh", "-c", below).stdout.splitlines()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    counting = ("nf_conntrack_count", "netnsv", "netns0", "random/", "stats", "fs/")
    return {name: v for name, v in found.items() if not any(word in name for word in counting)}


def others_rules(host: Host) -> list[Any]:
    """The whole ruleset without the watcher's own tables."""
    return [
        {kind: {k: v for k, v in value.items() if k != "handle"}}
        for item in host.nft_list()
        for kind, value in item.items()
        if kind != "metainfo"
        and (value["name"] if kind == "table" else value.get("table")) != "watcher"
    ]


def test_the_hosts_own_is_as_it_was(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.command("nft", "-f", "-", stdin=OWN)
    host.ip("link", "add", "mine", "type", "bridge")
    host.ip("rule", "add", "from", "203.0.113.1", "table", "77")
    settings = {
        # What the kernel changes as forwarding is turned on, and again as it is turned off.
        "ipv4/conf/all/accept_redirects": "0",
        "ipv4/conf/mine/forwarding": "1",
        "ipv6/conf/mine/forwarding": "1",
        "ipv6/conf/uplink/accept_ra": "1",
        "ipv4/conf/all/rp_filter": "2",
    }
    for name, value in settings.items():
        host.command("sh", "-c", f"echo {value} > /proc/sys/net/{name}")
    rules, before = others_rules(host), sysctls(host)
    links, routing = host.here.picture(), host.ip("rule")
    web = serve(host, "web", ports="8080:80,127.0.0.1:8081:80")
    host.beyond.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert web.reach(BEYOND6, 80) == Answer("beyond", UPLINK6)
    assert others_rules(host) == rules
    assert host.ip("rule") == routing

    during = sysctls(host)
    changed = {name: value for name, value in during.items() if before.get(name) != value}
    allowed = {name: "1" for name in during if name.endswith("/forwarding")}
    allowed |= {"ipv4/ip_forward": "1", "ipv6/conf/uplink/accept_ra": "2"}
    allowed |= {"ipv6/conf/mine/accept_ra": "2"}
    assert {name: v for name, v in changed.items() if allowed.get(name) != v} == {}

    host.delete("web")
    host.gone(web)
    host.watcher("down")
    assert {n: (before.get(n), v) for n, v in sysctls(host).items() if before.get(n) != v} == {}
    assert others_rules(host) == rules
    assert host.here.picture() == links
    assert host.ip("rule") == routing


def test_forwarding_that_was_on_stays_on(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    for name in CHANGED:
        host.command("sh", "-c", f"echo 1 > /proc/sys/net/{name}")
    before = sysctls(host)
    web = serve(host, "web")
    host.delete("web")
    host.gone(web)
    host.watcher("down")
    assert sysctls(host) == before


def test_a_host_that_learns_its_way_from_a_router_goes_on_to_do_so(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.ip("-6", "route", "del", "default")
    host.command("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/uplink/accept_ra")
    serve(host, "web")
    (theirs,) = host.beyond.ip("link", "show", "dev", "uplink")
    mac = theirs["address"]
    advert = packets.router_advert(mac, "2001:db8:66::")
    listener = Wire(host, host.here, "uplink")
    packet = packets.icmp6(packets.link_local(mac), packets.ALL_NODES, advert)
    Wire(host, host.beyond, "uplink").send(ether(mac, BROADCAST, IPV6, packet))
    listener.until(lambda frame: advert[4:] in frame)
    assert [r["protocol"] for r in host.ip("-6", "route") if r["dst"] == "default"] == ["ra"]


def test_the_files_are_readable_by_root_alone(host: Host) -> None:
    with host.service():
        serve(host, "web", ports="8080:80")
        found = host.command(
            *("find", str(host.state_dir), str(host.run_dir), "-perm", "/077", "-print")
        ).stdout
    # The events socket is for a group, and resolv.conf for every container.
    resolv = host.run_dir / "resolv"
    assert set(found.split()) == {str(p) for p in (host.run_dir, resolv, resolv / "default.conf")}
    assert host.run_dir.stat().st_mode & 0o777 == 0o755
