"""A container that a released version has attached is connected by the present one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.deploy.test_upgrade import released
from tests.support.connected import BACK, is_right, on
from tests.support.host import BEYOND, GATEWAY, UPLINK, Host
from tests.support.paths import REPOSITORY
from tests.support.traffic import Answer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.host import HostMaker

FIXED: Final = {"io.watcher.ip": "172.19.0.50", "io.watcher.mac": "02:42:ac:13:07:32"}


@released
@pytest.mark.parametrize("first", ["service", "command"])
def test_it_stays_connected(make_host: HostMaker, release: Path, first: str) -> None:
    """Its request in the store of that version is not all of what it asked for."""
    host = make_host(BACK)
    host.program = release
    service = host.service()
    fixed = host.run("fixed", annotations=FIXED, ports="8080:80")
    both = host.run("both", annotations={"io.watcher.network": "default,back"})
    fixed.serve(tcp=(80,))
    stream = host.here.stream("172.19.0.50", 80)
    host.beyond.serve(tcp=(80,))
    service.stop()
    host.program = REPOSITORY
    if first == "service":
        service = host.service()
    host.watcher("connect", "fixed", "back")
    host.watcher("disconnect", "both", "default")
    if first == "command":
        service = host.service()
    assert fixed.reach(on(both, "eth1"), 1, timeout=0.1) is None
    for _ in range(2):
        assert stream.say("still") == "still"
        assert fixed.place.links() == {"lo", "eth0", "eth1"}
        assert both.place.links() == {"lo", "eth1"}
        assert host.beyond.reach(UPLINK, 8080) == Answer("fixed", BEYOND)
        assert both.reach(BEYOND, 80) == Answer("beyond", UPLINK)
        eventually(lambda: is_right(host))
        service.restart()
    assert host.here.reach("172.19.0.50", 80) == Answer("fixed", GATEWAY)
    for name in ("fixed", "both"):
        host.delete(name)
    host.empty()
    ends(host)


def ends(host: Host) -> None:
    """Nothing was said that a user would have to look into."""
    assert "Traceback" not in host.logs()
    assert "report it" not in host.logs()
