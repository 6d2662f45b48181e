"""What is asked for is in force, in each mode, family and direction, and only for who asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support.checked import checked, fine
from tests.support.guarded import DUAL, in_mode
from tests.support.host import BEYOND, UPLINK
from tests.support.shaped import (
    Flood,
    Rates,
    at,
    bucket,
    devices,
    holds_back,
    limited,
    rates,
    shaper_of,
    whole,
)
from tests.support.traffic import Answer

if TYPE_CHECKING:
    from tests.support.host import HostMaker

BACK: Final = """
[network.back]
bridge = "back0"
subnets = ["172.22.0.0/24"]
guard = false
ingress_bandwidth = "30M"
"""


@pytest.mark.parametrize(("mode", "guard"), [("bridge", "true"), ("routed", "false")])
def test_what_is_more_is_held_back_or_dropped(make_host: HostMaker, mode: str, guard: str) -> None:
    host = make_host(f"{in_mode(mode)}guard = {guard}\n")
    host.service()
    web = host.attach("web", annotations=limited("2M", "1M"), ports="8080:80")
    free = host.attach("free")
    assert whole(host, web) == Rates(at(2e6), at(1e6))
    assert rates(host, free.veth) == Rates(0, 0)
    assert devices(host) == {shaper_of(web.veth)}
    six = next(one.split("/")[0] for one in web.place.addresses() if one.startswith("fd00"))
    for source, to, address, link in (
        (web.place, free.place, free.address, shaper_of(web.veth)),
        (free.place, web.place, six, web.veth),
        (web.place, host.beyond, BEYOND, shaper_of(web.veth)),
    ):
        with Flood(source, to, address) as flood:
            holds_back(host, link, flood)
    web.serve(tcp=(80,))
    with host.beyond.stream(UPLINK, 8080) as stream:
        assert stream.answer == Answer("web", BEYOND)
        text = "x" * 100_000  # in pieces of many segments, longer than a burst
        assert stream.say(text) == text
    assert fine(host, "web")  # nothing counts as dropped by the guard
    told = [line["what"] for line in checked(host, "web") if line["check"] == "bandwidth"]
    assert [what.partition(" by ")[0] for what in told] == [
        "it may receive 2M a second",
        "it may send 1M a second",
    ]
    assert not any("; 0 packets" in what for what in told)


def test_each_interface_has_its_own(make_host: HostMaker) -> None:
    host = make_host(DUAL + BACK)
    both = host.attach("both", annotations=limited(send="20M", network="default,back"))
    other = both.veth.replace("netnsv0", "netnsv1")
    assert whole(host, both) == Rates(0, at(20e6))
    assert rates(host, other) == Rates(at(30e6), at(20e6))
    web = host.attach("web", annotations=limited("5M"))
    host.watcher("connect", "web", "back")
    assert rates(host, web.veth.replace("netnsv0", "netnsv1")) == Rates(at(5e6), 0)
    assert devices(host) == {shaper_of(both.veth), shaper_of(other)}
    host.watcher("disconnect", "both", "back")
    assert devices(host) == {shaper_of(both.veth)}
    host.delete("both")
    host.gone(both)
    assert devices(host) == set()


def test_what_counts_is_the_least(make_host: HostMaker) -> None:
    """What was asked for, else the network's default; never more than the root allows."""
    host = make_host(
        '[root.limits]\negress_bandwidth = "50M"\n'
        '[network.default]\ningress_bandwidth = "40M"\negress_bandwidth = "1G"\n'
    )
    plain = host.attach("plain")
    assert rates(host, plain.veth) == Rates(at(40e6), at(50e6))
    web = host.attach("web", annotations=limited("100G", "8k"))
    assert whole(host, web) == Rates(at(100e9), at(8e3))
    fast, slow = (bucket(host, link) for link in (web.veth, shaper_of(web.veth)))
    assert fast is not None
    assert slow is not None
    assert fast["options"]["burst"] == pytest.approx(16 << 20, rel=0.01)
    assert slow["options"]["burst"] == pytest.approx(2 * 1518, rel=0.01)
