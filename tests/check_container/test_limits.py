"""What `watcher check CONTAINER` says of limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.checked import checked, with_resolv_conf
from tests.support.host import BEYOND

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


def test_nothing_is_said_of_who_is_not_limited(host: Host) -> None:
    host.attach("web")
    assert limits(host, "web") == []
