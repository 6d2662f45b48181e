"""The container ends at some point of connect or disconnect: nothing is left of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.connected import BACK, as_never_connected, is_right
from tests.support.host import BEYOND, UPLINK, Host
from tests.support.killer import Killer, sample
from tests.support.traffic import Answer

if TYPE_CHECKING:
    from tests.support.host import HostMaker

pytestmark = pytest.mark.accident


@pytest.mark.parametrize("verb", ["connect", "disconnect"])
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
def test_it_ends_at_any_point(make_host: HostMaker, verb: str, *, shared: bool) -> None:
    host = make_host(BACK)
    keeper = host.attach("keeper", ports="8080:80")
    keeper.serve(tcp=(80,))
    killer = Killer(host)
    first, step = sample(f"{verb} {shared}", 6)  # `make soak` takes every point
    at, ended = first - step, True
    while ended:
        at += step
        begin(host, shared=shared)
        if verb == "disconnect":
            assert killer.run("connect", "web", "back") == 0, killer.log()
        killer.start(verb, "web", "back", at=at, victim=host.container("web").pid)
        status = killer.ended()
        assert status in (0, 1), (at, killer.log())
        ended = len(killer.points) >= at
        assert "Traceback" not in killer.log()
        assert "report it" not in killer.log()
        host.delete("web")
        killer.sync()
        as_never_connected(keeper)
        assert set(host.leases().values()) == {"keeper"}, at
        assert host.veths() == {keeper.veth}, at
        assert host.beyond.reach(UPLINK, 8080) == Answer("keeper", BEYOND)
    assert at > 12
    is_right(host)


def begin(host: Host, *, shared: bool) -> None:
    """A new container, alone or in the namespace of the one that stays."""
    if shared:
        host.share("web", "keeper")
    else:
        host.attach("web")
