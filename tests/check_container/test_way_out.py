"""What keeps a container from the world beyond its host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.checked import checked, fine, only, paste
from tests.support.host import BEYOND, Host
from tests.support.waiting import LATENCY_FREE_NO

if TYPE_CHECKING:
    from tests.support.host import HostMaker


def test_each_part_of_the_way(host: Host) -> None:
    web = host.attach("web")
    host.beyond.serve(tcp=(7000,))

    def gets_out() -> bool:
        return web.reach(BEYOND, 7000) is not None

    def stays_in() -> bool:
        return web.reach(BEYOND, 7000, timeout=LATENCY_FREE_NO) is None

    assert gets_out()
    for command, words in (
        ("echo 0 > /proc/sys/net/ipv4/ip_forward", "net/ipv4/ip_forward = 0"),
        ("echo 0 > /proc/sys/net/ipv4/conf/netns0/forwarding", "net/ipv4/conf/netns0/forwarding"),
        ("echo 0 > /proc/sys/net/ipv4/conf/uplink/forwarding", "conf/uplink/forwarding = 0"),
    ):
        host.command("sh", "-ec", command)
        line = only(host, "web", "fail", "out")
        assert words in line["what"]
        assert stays_in()
        paste(host, line)
        fine(host, "web")
        assert gets_out()

    host.nft("flush", "chain", "inet", "watcher", "postrouting")
    line = only(host, "web", "fail", "out")
    assert "network default is not masqueraded" in line["what"]
    assert stays_in()
    paste(host, line)
    fine(host, "web")
    assert gets_out()

    host.ip("route", "del", "default")
    assert "has no IPv4 default route" in only(host, "web", "fail", "out")["what"]


def test_without_masquerade(make_host: HostMaker) -> None:
    host = make_host("[network.default]\nmasquerade = false\n")
    host.attach("web")
    fine(host, "web")
    told = [x for x in checked(host, "web") if x["check"] == "out"]
    assert "leaves with its own address 172.19.0.2" in told[0]["what"]
    assert told[0]["remedy"]
