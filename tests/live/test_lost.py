"""The lease store is lost: interfaces connected and disconnected, and ports, are as before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.connected import FRONT, defaults, is_right, on, server
from tests.support.host import BEYOND, GATE_OFF, GATEWAY, UPLINK
from tests.support.tampering import lose_store
from tests.support.traffic import Answer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import Host, HostMaker

pytestmark = pytest.mark.accident

TOLD = ("id", "status", "network", "address", "ports", "veth")


def shown(host: Host) -> dict[str, list[object]]:
    """What `watcher ls` shows of each container."""
    return {name: [row[key] for key in TOLD] for name, row in host.ls().items()}


def again(host: Host, how: str) -> None:
    """Somebody looks."""
    if how == "sync":
        host.watcher("sync")
    else:
        host.service().stop()


@pytest.mark.parametrize("how", ["sync", "service"])
def test_all_is_as_before(alone: Host, how: str) -> None:
    web = alone.attach("web", ports="8080:80,81")
    web.serve(tcp=(80, 81))
    side = alone.share("side", "web")
    bare = alone.attach("bare", ports="8081:80")
    alone.watcher("connect", "web", "back", "--mac", "02:00:00:00:00:07")
    alone.watcher("connect", "side", "front", "--interface", "lan0", "--ip", "172.21.0.77")
    alone.watcher("publish", "side", "9000:80")
    alone.watcher("disconnect", "bare", "default")
    before, inside = shown(alone), web.place.picture()
    stream = alone.beyond.stream(UPLINK, 9000)
    assert stream.say("before") == "before"
    lose_store(alone)
    again(alone, how)
    assert shown(alone) == before
    assert web.place.picture() == inside
    assert bare.place.links() == {"lo"}
    assert stream.say("after") == "after"
    assert alone.watcher("sync").stdout == "nothing to do\n"
    assert on(side, "lan0") == "172.21.0.77"
    alone.delete("side")
    alone.watcher("sync")
    assert web.place.links() == {"lo", "eth0", "eth1"}
    assert alone.beyond.reach(UPLINK, 9000, timeout=0.3) is None
    assert alone.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    alone.watcher("connect", "bare", "default")
    bare.serve(tcp=(80,))
    assert alone.beyond.reach(UPLINK, 8081) == Answer("bare", BEYOND)
    lose_store(alone)
    again(alone, how)
    assert shown(alone)["bare"][3] == [on(bare, "eth0")]
    for name in ("web", "bare"):
        alone.delete(name)
    alone.watcher("sync")
    assert alone.veths() == set()
    assert not list((alone.run_dir / "sandboxes").iterdir())


@pytest.mark.parametrize("how", ["sync", "service"])
def test_one_whose_member_ended_meanwhile(alone: Host, how: str) -> None:
    web = alone.attach("web")
    alone.share("side", "web")
    alone.watcher("connect", "side", "back")
    lose_store(alone)
    alone.delete("side")
    again(alone, how)
    assert web.place.links() == {"lo", "eth0"}
    assert shown(alone)["web"][2] == ["default"]
    assert alone.watcher("sync").stdout == "nothing to do\n"


def test_its_network_is_configured_no_more(make_host: HostMaker) -> None:
    host = make_host(FRONT + GATE_OFF)
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    host.watcher("connect", "web", "front")
    lose_store(host)
    host.configure()
    done = host.watcher("sync", check=False)
    assert done.returncode == 1
    assert 'there is no network "front" any more' in done.stderr
    assert "Traceback" not in done.stderr
    eventually(lambda: host.status("web") == "attached")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert host.watcher("sync").stdout == "nothing to do\n"


@pytest.mark.parametrize("serves", [True, False])
def test_a_killed_service_finds_it_again(alone: Host, *, serves: bool) -> None:
    service = alone.service() if serves else None
    web, db = alone.attach("web", ports="8080:80"), server(alone, "db", "back")
    web.serve(tcp=(80,))
    alone.share("sidecar", "web")
    both = alone.attach("both", annotations={"io.watcher.network": "default,front"})
    bare = alone.attach("bare")
    alone.watcher("connect", "sidecar", "back", "--ip", "172.22.0.50", "--interface", "data0")
    alone.watcher("disconnect", "both", "default")
    alone.watcher("disconnect", "bare", "default")
    boxes = (web, both, bare)
    before, leases = [box.place.picture() for box in boxes], alone.leases()
    stream = web.place.stream(db.address, 80)
    if service is not None:
        service.kill9()
    lose_store(alone)
    if service is not None:
        service.start()
    else:
        alone.watcher("sync")
    assert [box.place.picture() for box in boxes] == before
    assert alone.leases() == leases
    assert stream.say("still") == "still"
    assert on(web, "data0") == "172.22.0.50"
    assert defaults(web) == [(GATEWAY, "eth0")]
    assert alone.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert [one["connected"] for one in alone.inspect("web")["interfaces"]] == [None, "sidecar"]
    eventually(lambda: is_right(alone))

    alone.delete("sidecar")
    alone.settle()
    eventually(lambda: web.place.links() == {"lo", "eth0"})
    eventually(lambda: is_right(alone))
