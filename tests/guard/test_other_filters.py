"""The guard is asked before any other filter of its link, and leaves what passes to them."""

from __future__ import annotations

import pytest

from tests.support.filters import redirect
from tests.support.frames import forged, honest, identity
from tests.support.guarded import MODES, end_of, in_mode, router_of, two, unaided
from tests.support.hearing import Neighbour, heard
from tests.support.host import Host, HostMaker


def mirrored(host: Host, link: str) -> Neighbour:
    """What is redirected from `link` to another one."""
    host.command("ip", "link", "add", "mirror0", "type", "veth", "peer", "name", "mirror1")
    for name in ("mirror0", "mirror1"):
        host.command("ip", "link", "set", name, "up")
    redirect(host, link, "mirror0")
    return Neighbour(host, host.here, "mirror1")


@pytest.mark.parametrize("guard", ["true", "false"])
@pytest.mark.parametrize("mode", MODES)
def test_a_later_filter_is_handed_what_is_honest_and_nothing_else(
    make_host: HostMaker, mode: str, guard: str
) -> None:
    host = make_host(f"{in_mode(mode)}guard = {guard}\n")
    unaided(host)
    web, thief = two(host)
    me, of_web = identity(thief), identity(web)
    if guard == "false":
        host.command("tc", "qdisc", "add", "dev", thief.veth, "ingress")
    mirror = mirrored(host, thief.veth)
    own, others = honest(me, of_web), forged(me, of_web, router_of(host, thief, mode))
    found = heard(host, own | others, thief.place, {"mirror": mirror}, [end_of(me)])
    passed = own if guard == "true" else own | others
    assert {name for name, who in found.items() if who} == set(passed)
