"""The lease store is lost while a container is connected, or has lost what it asked for."""

from __future__ import annotations

import pytest

from tests.live.test_connect import server
from tests.support.connected import defaults, is_right, on
from tests.support.host import BEYOND, GATEWAY, UPLINK, Host
from tests.support.traffic import Answer
from tests.support.waiting import eventually


@pytest.mark.parametrize("serves", [True, False])
def test_all_is_put_back(alone: Host, *, serves: bool) -> None:
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
    for file in alone.state_dir.glob("leases.db*"):
        file.unlink()
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
