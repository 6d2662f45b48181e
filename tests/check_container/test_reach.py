"""What keeps others from a container on the host: each is told, is true, and ends by its remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.checked import checked, fine, only, paste, wrong
from tests.support.host import BEYOND, UPLINK, Container, Host
from tests.support.traffic import ENOUGH
from tests.support.waiting import LATENCY_FREE_NO

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.support.host import HostMaker

OUTSIDE, PUBLISHED = 7000, 8080
EVERYBODY = {"outside", "host", "neighbours", "out"}


@pytest.fixture
def web(host: Host) -> Container:
    """A container that publishes a port and answers there, and a neighbour."""
    return serving(host)


def serving(host: Host) -> Container:
    web = host.attach("web", ports=f"{PUBLISHED}:80")
    web.serve(tcp=(80,))
    host.attach("near")
    host.beyond.serve(tcp=(OUTSIDE,))
    return web


def own(host: Host, chain: str, rules: str) -> None:
    """Another program's table with one base chain, in place of the one before."""
    text = f"destroy table inet own\ntable inet own {{\nchain mine {{\n{chain}\n{rules}\n}}\n}}\n"
    host.command("nft", "-f", "-", stdin=text)


def reached(host: Host, web: Container, but: Collection[str] = ()) -> set[str]:
    """Who gets an answer, for real; those that are named by `but` are not waited for long."""
    ways = {
        "outside": (host.beyond, UPLINK, PUBLISHED),
        "host": (host.here, "127.0.0.1", PUBLISHED),
        "neighbours": (host.container("near").place, UPLINK, PUBLISHED),
        "out": (web.place, BEYOND, OUTSIDE),
    }
    patience = {who: LATENCY_FREE_NO if who in but else ENOUGH for who in ways}
    return {
        who
        for who, (place, address, port) in ways.items()
        if place.reach(address, port, timeout=patience[who]) is not None
    }


FORWARD = "type filter hook forward priority 0; policy accept;"
INPUT = "type filter hook input priority 0; policy accept;"
PREROUTING = "type filter hook prerouting priority -300; policy accept;"
OUTPUT = "type filter hook output priority 0; policy accept;"


def test_filters_of_others(host: Host, web: Container) -> None:
    """Each drops for the very ones of whom it is told, and no more once the remedy is done."""
    fine(host, "web")
    assert reached(host, web) == EVERYBODY
    for chain, rules, lost in (
        (FORWARD, "tcp dport 80 drop", {"outside", "neighbours"}),
        (FORWARD, 'iifname "uplink" ct state new drop', {"outside"}),
        (FORWARD, 'oifname "uplink" ct state new drop', {"out"}),
        (FORWARD, "tcp dport 8080 drop", set()),  # it is rewritten by then
        (FORWARD, "udp dport 80 drop", set()),
        (PREROUTING, 'iifname "uplink" tcp dport 8080 drop', {"outside"}),
        (OUTPUT, "ip daddr 172.19.0.0/16 tcp dport 80 drop", {"host"}),
        (INPUT, 'iifname "netns0" tcp sport 80 drop', {"host"}),
    ):
        own(host, chain, rules)
        lines = wrong(host, "web", "service", "names")
        # A packet to the host's own services has no port in particular.
        assert {line["check"] for line in lines} == lost, (rules, lines)
        assert reached(host, web, but=lost) == EVERYBODY - lost, rules
        for line in lines:
            assert line["level"] == "fail"
            assert "chain mine of nftables table inet own drops" in line["what"]
            paste(host, line)
        if lost:
            fine(host, "web")
            assert reached(host, web) == EVERYBODY, rules


def test_iptables(host: Host, web: Container) -> None:
    """The same of iptables: by protocol, ports and ranges of them, of each chain."""
    host.command("iptables", "-A", "FORWARD", "-p", "udp", "--dport", "80", "-j", "DROP")
    host.command("iptables", "-A", "FORWARD", "-p", "tcp", "--dport", "8080", "-j", "DROP")
    for rule, lost in (
        ("-A FORWARD -p tcp -m multiport --dports 22,79:81 -j DROP", {"outside", "neighbours"}),
        ("-t raw -A PREROUTING -i uplink -p tcp --dport 8080 -j DROP", {"outside"}),
        ("-A OUTPUT -d 172.19.0.0/16 -p tcp --dport 80 -j REJECT", {"host"}),
    ):
        fine(host, "web")
        host.command("iptables", *rule.split())
        lines = wrong(host, "web", "service", "names")
        assert {line["check"] for line in lines} == lost, (rule, lines)
        assert reached(host, web, but=lost) == EVERYBODY - lost, rule
        for line in lines:
            assert "of iptables table" in line["what"]
            paste(host, line)
    fine(host, "web")
    assert reached(host, web) == EVERYBODY


def test_services_of_the_host(make_host: HostMaker) -> None:
    """An INPUT chain that refuses what is new, as many hosts have."""
    host = make_host("[network.default]\nnames = false\n")
    web = serving(host)
    own(host, INPUT, "ct state established,related accept; iifname lo accept; drop")
    line = only(host, "web", "warn", "out")
    assert "drops what it sends to services of this host" in line["what"]
    assert reached(host, web) == EVERYBODY
    gateway = next(x for x in checked(host, "web") if x["check"] == "gateway")
    assert gateway["what"].endswith("answers, though to no echo request")
    paste(host, line)
    fine(host, "web")


@pytest.mark.usefixtures("web")
def test_port_maps(host: Host) -> None:
    """A map that somebody has removed, or led elsewhere; the whole table; a rule of it."""
    del_ = "delete element inet watcher port4 { tcp . 8080 }"
    for commands, words in (
        (del_, ("tcp 8080 to 172.19.0.2:80 is not in force", "it is not there")),
        (
            f"{del_}; add element inet watcher port4 {{ tcp . 8080 : 172.19.0.9 . 80 }}",
            ("tcp 8080 to 172.19.0.2:80 is not in force", "it leads to 172.19.0.9:80"),
        ),
        (
            "flush chain inet watcher publish",
            ("rules of the nftables table inet watcher are missing",),
        ),
        ("delete table inet watcher", ("table inet watcher is missing",)),
    ):
        host.nft(*commands.split(" ; "))
        found = wrong(host, "web", "service", "names", "out")
        assert [(x["level"], x["check"]) for x in found] == [("fail", "ports")], found
        assert all(word in found[0]["what"] for word in words), found
        assert host.beyond.reach(UPLINK, PUBLISHED, timeout=LATENCY_FREE_NO) is None
        paste(host, found[0])
        fine(host, "web")
        assert host.beyond.reach(UPLINK, PUBLISHED) is not None


def test_ports_that_are_not_what_they_seem(make_host: HostMaker) -> None:
    """A host address that is none, a process of the host on the port, an internal network."""
    back = '[network.back]\nbridge = "back0"\nsubnets = ["172.20.0.0/24"]\n'
    host = make_host(back + "internal = true\n")
    web = host.attach("web", ports="192.0.2.77:8080:80,9090:90")
    web.serve(tcp=(80, 90))
    line = only(host, "web", "fail", "ports")
    assert "this host does not have the address 192.0.2.77" in line["what"]
    host.ip("addr", "add", "192.0.2.77/24", "dev", "uplink")
    fine(host, "web")
    host.here.serve(tcp=(9090,), address=UPLINK)
    assert f"listens on {UPLINK} port 9090" in only(host, "web", "warn", "taken")["what"]
    host.command("sh", "-c", "echo 0 > /proc/sys/net/ipv4/conf/netns0/route_localnet")
    lines = {x["check"]: x for x in wrong(host, "web", "service", "names", "taken")}
    assert "at 127.0.0.1" in lines.pop("ports")["what"]
    assert not lines
    host.watcher("disconnect", "web", "default")
    host.watcher("connect", "web", "back")
    (line,) = [x for x in checked(host, "web") if x["check"] == "ports"]
    assert "its networks are internal, so its port maps lead nowhere" in line["what"]
