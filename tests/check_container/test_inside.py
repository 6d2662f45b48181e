"""What is wrong inside a container, or between it and its gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.checked import checked, fine, only, wrong
from tests.support.host import GATEWAY
from tests.support.waiting import LATENCY_FREE_NO

if TYPE_CHECKING:
    from tests.support.host import HostMaker

DUAL = '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'


def test_what_a_container_does_to_its_own_network(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    place = host.attach("web").place
    fine(host, "web")

    def ip(*words: str) -> None:
        place.run("ip", *words)

    for commands, levels, words in (
        (["route del default"], ["fail route"], "no IPv4 default route"),
        (["-6 route del default"], ["fail route"], "no IPv6 default route"),
        (
            ["route replace default via 172.19.0.77"],
            ["warn route"],
            "leads by 172.19.0.77, not by 172.19.0.1 on eth0",
        ),
        (["link set eth0 down"], ["fail interface"], "eth0 is down inside"),
        (["link set lo down"], ["warn interface"], "lo is down inside"),
        (["addr del 172.19.0.2/16 dev eth0"], ["fail interface"], "not have 172.19.0.2/16"),
        (["link set eth0 down", "link set eth0 name lan0"], ["fail interface"], "eth0 is missing"),
        (["link del eth0"], ["fail interface"] * 2, "host end netnsv0-"),
    ):
        for command in commands:
            ip(*command.split())
        lines = wrong(host, "web", "service", "names")
        assert [f"{x['level']} {x['check']}" for x in lines] == levels, (commands, lines)
        assert words in lines[0]["what"]
        assert "watcher sync" in lines[0]["remedy"] or commands[0].startswith("route replace")
        if commands[0].startswith("route replace"):
            ip(*["route", "del", "default"])
        host.watcher("sync")
        fine(host, "web")

    place.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
    line = only(host, "web", "warn", "interface")
    assert "IPv6 is turned off inside" in line["what"]


def test_gateways_that_do_not_answer(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.attach("web")
    host.ip("addr", "del", f"{GATEWAY}/16", "dev", "netns0")
    line = only(host, "web", "fail", "gateway")
    assert f"its gateway {GATEWAY} on eth0 does not answer from inside" in line["what"]
    host.ip("-6", "addr", "del", "fd00:19::1/64", "dev", "netns0")
    lines = wrong(host, "web", "service", "names")
    assert [x["check"] for x in lines] == ["gateway"] * 2, lines
    host.watcher("sync")
    fine(host, "web")
    # Somebody else answers in its place, on a port of the bridge that is not ours.
    host.ip("addr", "del", f"{GATEWAY}/16", "dev", "netns0")
    pair = f"link add rogue0 master netns0 up type veth peer name rogue netns {host.base}/beyond"
    host.ip(*pair.split())
    host.beyond.ip(*["link", "set", "rogue", "up"])
    host.beyond.ip(*f"addr add {GATEWAY}/16 dev rogue".split())
    (rogue,) = host.beyond.ip("link", "show", "rogue")
    line = only(host, "web", "fail", "gateway")
    assert f"{rogue['address']} answers for its gateway {GATEWAY} on eth0" in line["what"]


def test_what_the_guard_drops(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    web = host.attach("web")
    host.attach("free")
    fine(host, "web")
    web.place.ip("addr", "add", "172.19.7.7/16", "dev", "eth0")
    host.here.serve(udp=(123,))
    assert web.place.reach(GATEWAY, 123, "udp") is not None
    other = web.place.reach(GATEWAY, 123, "udp", source="172.19.7.7", timeout=LATENCY_FREE_NO)
    assert other is None
    line = only(host, "web", "warn", "guard")
    drops = int(line["what"].split()[4])
    assert drops >= 1
    assert "sent by eth0, since they came from another address or MAC" in line["what"]
    fine(host, "free")
    web.place.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:07")
    lines = {(x["level"], x["check"]): x for x in wrong(host, "web", "service", "names")}
    assert "has the MAC 02:00:00:00:00:07 inside" in lines["fail", "interface"]["what"]
    assert ("fail", "gateway") in lines
    assert int(lines["warn", "guard"]["what"].split()[4]) > drops
    host.command("tc", "qdisc", "del", "dev", web.veth, "ingress")
    assert "not guarded" in next(
        x["what"] for x in checked(host, "web") if x["check"] == "guard" and x["level"] == "fail"
    )
