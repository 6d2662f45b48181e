"""Connecting to networks of every kind: routed, internal, of others, without masquerade."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.connected import defaults, is_right, on, refused, rules, server, tables
from tests.support.host import BEYOND, GATEWAY, UPLINK, UPLINK6
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO, eventually

if TYPE_CHECKING:
    from tests.support.host import HostMaker

ROUTED = """
[network.default]
{default}
[network.back]
bridge = "back0"
subnets = ["172.22.0.0/24", "fd00:22::/64"]
{back}
"""


@pytest.mark.parametrize("default", ["", 'mode = "routed"'], ids=["bridged", "routed"])
@pytest.mark.parametrize("back", ["", 'mode = "routed"'], ids=["bridged", "routed"])
@pytest.mark.parametrize("serves", [True, False])
def test_whatever_modes_they_have(
    make_host: HostMaker, default: str, back: str, *, serves: bool
) -> None:
    host = make_host(ROUTED.format(default=default, back=back))
    service = host.service() if serves else None
    host.beyond.serve(tcp=(80,))
    web, db = host.attach("web", ports="8080:80"), server(host, "db", "back")
    web.serve(tcp=(80,))
    before = web.place.picture()
    host.watcher("connect", "web", "back")
    for version, uplink in ((4, UPLINK), (6, UPLINK6)):
        mine, theirs = on(web, "eth1", version), on(db, "eth0", version)
        assert web.reach(theirs, 80) == Answer("db", mine)
        assert db.reach(mine, 80) == Answer("web", theirs)
        assert host.here.reach(mine, 80, source=uplink) == Answer("web", uplink)
    is_right(host)

    host.watcher("disconnect", "web", "default")
    assert [dev for _, dev in defaults(web)] == ["eth1"]
    assert tables(web) == []
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert web.reach(on(db, "eth0"), 80) == Answer("db", on(web, "eth1"))
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert host.here.reach("127.0.0.1", 8080) is not None
    is_right(host)

    host.watcher("connect", "web", "default")
    assert [dev for _, dev in defaults(web)] == ["eth0"]
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    is_right(host)

    host.watcher("disconnect", "web", "back")
    assert len(rules(web)) == 3
    after = web.place.picture()
    assert after["routes"] == before["routes"]
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    is_right(host)
    assert service is None or service.warnings() == []


def test_a_bridge_of_somebody_else(make_host: HostMaker) -> None:
    """Its firewall rules name each of our sandboxes, as long as it is there."""
    host = make_host(
        '[network.lan]\nbridge = "lan0"\nsubnets = ["172.25.0.0/24"]\nmanaged = false\n'
    )
    host.service()
    web = host.attach("web")
    said = refused(host, "connect", "web", "lan")
    assert "lan0" in said
    assert web.place.links() == {"lo", "eth0"}
    host.here.run("ip", "link", "add", "lan0", "type", "bridge")
    host.here.run("ip", "address", "add", "172.25.0.1/24", "dev", "lan0")
    host.here.run("ip", "link", "set", "lan0", "up")
    host.here.serve(tcp=(90,), address="172.25.0.1")
    host.watcher("connect", "web", "lan")
    assert "172.25.0.2" in host.nft("list", "set", "inet", "watcher", "guests4").stdout
    assert web.reach("172.25.0.1", 90) == Answer("host", "172.25.0.2")
    eventually(lambda: is_right(host))
    host.watcher("disconnect", "web", "lan")
    assert "172.25.0.2" not in host.nft("list", "set", "inet", "watcher", "guests4").stdout
    assert host.here.link("lan0") is not None
    eventually(lambda: is_right(host))


def test_without_masquerade(make_host: HostMaker) -> None:
    host = make_host(
        '[network.back]\nbridge = "back0"\nsubnets = ["172.22.0.0/24"]\nmasquerade = false\n'
    )
    host.beyond.run("ip", "route", "add", "172.22.0.0/24", "via", UPLINK)
    host.beyond.serve(tcp=(80,))
    web = host.attach("web")
    host.watcher("connect", "web", "back")
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert web.place.reach(BEYOND, 80, source=on(web, "eth1")) == Answer("beyond", on(web, "eth1"))
    host.watcher("disconnect", "web", "default")
    assert web.reach(BEYOND, 80) == Answer("beyond", on(web, "eth1"))


def test_who_isolates_its_sandboxes_does_so_here(make_host: HostMaker) -> None:
    host = make_host(
        '[network.back]\nbridge = "back0"\nsubnets = ["172.22.0.0/24"]\nisolate = true\n'
    )
    web, db = host.attach("web"), server(host, "db", "back")
    host.watcher("connect", "web", "back")
    assert web.reach(db.address, 80, timeout=LATENCY_FREE_NO) is None
    host.here.serve(tcp=(90,), address="172.22.0.1")
    assert web.reach("172.22.0.1", 90) == Answer("host", on(web, "eth1"))
    assert web.reach(GATEWAY, 91, timeout=LATENCY_FREE_NO) is None
