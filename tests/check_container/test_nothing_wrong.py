"""A container with which nothing is wrong: every line says so, and the host stays as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.checked import Resolver, checked, fine, with_resolv_conf
from tests.support.host import BEYOND, BEYOND6
from tests.support.waiting import eventually
from watcher.feed.history import NEWER

if TYPE_CHECKING:
    from tests.support.host import Host, HostMaker

DUAL = '[network.default]\nnames = false\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
ROUTED = """
[network.default]
subnets = ["172.19.0.0/16", "fd00:19::/64"]
mode = "routed"
[network.back]
bridge = "back0"
subnets = ["172.20.0.0/24"]
internal = true
isolate = true
"""


def state(host: Host) -> list[object]:
    """All that a check could have changed."""
    settings = host.command("sh", "-c", "cd /proc/sys/net; grep -rs . ipv4 ipv6 || true").stdout
    lines = [x for x in settings.splitlines() if "nf_conntrack_count" not in x]
    mounts = host.command("cat", "/proc/self/mountinfo").stdout
    files = sorted(str(path) for path in host.base.rglob("*") if "/sys/" not in str(path))
    inside = host.container("web").place.picture()
    return [host.here.picture(), host.nft_list(), lines, mounts, files, inside]


def test_every_line_is_well_and_nothing_is_changed(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    Resolver(host.beyond, BEYOND)
    Resolver(host.beyond, BEYOND6)
    conf = host.base / "resolv.conf"
    conf.write_text(f"search x\n# nameserver 1.2.3.4\nnameserver {BEYOND}\nnameserver {BEYOND6}\n")
    host.service()
    web = host.attach("web", ports="8080:80,53:53/udp,192.0.2.2:82:82", edit=with_resolv_conf(conf))
    web.serve(tcp=(80, 82), udp=(53,))
    eventually((host.state_dir / NEWER).exists, what="the history")  # it is written later
    before = state(host)
    lines = checked(host, "web")
    assert state(host) == before
    assert [line for line in lines if line["level"] != "ok" or line["remedy"]] == []
    assert {line["check"] for line in lines} == {
        *("service", "interface", "route", "gateway", "listens", "ports", "taken", "outside"),
        *("host", "neighbours", "out", "names", "guard"),
    }
    told = "\n".join(line["what"] for line in lines)
    for word in ("172.19.0.2/16", "fd00:19::2/64", "8080:80/tcp", "53:53/udp", BEYOND, BEYOND6):
        assert word in told
    shown = host.watcher("check", "web").stdout.splitlines()
    assert len(shown) == len(lines)
    assert shown[0].startswith("ok    service: ")


def test_routed_and_internal_and_isolated_networks(make_host: HostMaker) -> None:
    """What a network is meant to keep away is told, and is no failure."""
    host = make_host(ROUTED)
    web = host.attach("web", ports="8080:80", annotations={"io.watcher.network": "default,back"})
    web.serve(tcp=(80,))
    fine(host, "web")
    lines = checked(host, "web")
    gateways = [line["what"] for line in lines if line["check"] == "gateway"]
    assert len([what for what in gateways if "answers an echo request" in what]) == 3, gateways
    told = "\n".join(line["what"] for line in lines)
    assert "network back keeps its sandboxes from each other (isolate = true)" in told
    host.run("db", annotations={"io.watcher.network": "back"})
    host.settle()
    fine(host, "db")
    told = "\n".join(line["what"] for line in checked(host, "db"))
    assert "its networks are internal: nothing leaves this host by IPv4" in told
    assert "it publishes no port" in told
