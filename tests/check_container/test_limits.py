"""What `watcher check CONTAINER` says of limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.checked import checked, with_resolv_conf
from tests.support.host import BEYOND, BEYOND6, UPLINK, UPLINK6
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import Host, HostMaker

LIMITED = """
[network.default]
names = false
egress = ["any:443/tcp", "any:80/tcp"]
connections = 50
"""


def limits(host: Host, name: str) -> list[tuple[str, str, str]]:
    """The lines about limits."""
    lines = checked(host, name)
    return [(x["level"], x["what"], x["remedy"]) for x in lines if x["check"] == "limits"]


def test_lists_and_what_they_keep_away(make_host: HostMaker) -> None:
    host = make_host(LIMITED)
    conf = host.base / "resolv.conf"
    conf.write_text(f"nameserver {BEYOND}\n")
    asked = {"io.watcher.egress": f"{BEYOND}:443/tcp", "io.watcher.ingress": "any:81"}
    limited = host.attach(
        "limited", ports="80:80,81:81", annotations=asked, edit=with_resolv_conf(conf)
    )
    assert limited.reach(BEYOND, 80) is None
    lines = limits(host, "limited")
    usual, annotation = "any:443/tcp, any:80/tcp (network.default.egress)", "io.watcher.egress"
    assert lines[:4] == [
        (
            "ok",
            f"by eth0 it may open connections to {usual} and {BEYOND}/32:443/tcp ({annotation})",
            "",
        ),
        (
            "warn",
            f"its egress list does not have {BEYOND}, which its /etc/resolv.conf names",
            f'add "{BEYOND}:53" to the list',
        ),
        ("ok", "connections to it may be opened by any:81 (io.watcher.ingress)", ""),
        (
            "warn",
            "its ingress list lets nobody outside of this host open connections to 80:80/tcp",
            "add who may to the list, or publish these ports no longer",
        ),
    ]
    level, what, remedy = lines[4]
    assert level == "ok"
    assert what.startswith("its egress list has rejected ")
    assert "watcher events" in remedy
    assert lines[5:] == [("ok", "it has 0 of the 50 connections that it may have", "")]


def test_a_gateway_that_the_list_does_not_have_is_well(make_host: HostMaker) -> None:
    """In a routed network nobody is asked by ARP, and the host rejects the echo request."""
    host = make_host('[network.default]\nmode = "routed"\nnames = false\n')
    host.attach("limited", annotations={"io.watcher.egress": f"{BEYOND}:443/tcp"})
    lines = [x for x in checked(host, "limited") if x["check"] == "gateway"]
    assert [x["level"] for x in lines] == ["ok"] * len(lines), lines
    assert all("rejects an echo request" in x["what"] for x in lines), lines
    assert lines
    host.command("ip", "link", "set", host.container("limited").veth, "down")
    lines = [x for x in checked(host, "limited") if x["check"] == "gateway"]
    assert [x["level"] for x in lines] == ["fail"] * len(lines), lines


def test_nothing_is_said_of_who_is_not_limited(host: Host) -> None:
    host.attach("web")
    assert limits(host, "web") == []


def test_only_connections_that_count_are_said_to_be_there(make_host: HostMaker) -> None:
    """Those that it has, and that others have by its ports; none that has ended, or of the host."""
    host = make_host(
        '[network.default]\nnames = false\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
    )
    host.beyond.serve(tcp=(80,))
    web = host.attach("web", ports="8080:80", annotations={"io.watcher.connections": "1000"})
    web.serve(tcp=(80,))

    def has() -> int:
        """How many it is said to have, with those of the check itself."""
        for protocol in ("icmp", "icmpv6", "udp"):  # those of the checks before
            host.command("conntrack", "-D", "-p", protocol, check=False)
        [(level, what, remedy)] = limits(host, "web")
        assert (level, remedy) == ("ok", "")
        count, rest = what.removeprefix("it has ").split(" ", 1)
        assert rest == "of the 1000 connections that it may have"
        return int(count)

    own = has()
    with (
        web.place.stream(BEYOND, 80),
        web.place.stream(BEYOND6, 80),
        web.place.stream(UPLINK, 8080),
        host.beyond.stream(UPLINK, 8080),
        host.beyond.stream(UPLINK6, 8080),
        host.here.stream("127.0.0.1", 8080),
        host.here.stream(UPLINK, 8080),
        host.here.stream(UPLINK6, 8080),
    ):
        assert has() == own + 5
    for _ in range(3):
        assert web.reach(BEYOND, 80) is not None
    eventually(lambda: has() == own, what="the end of all of them")
