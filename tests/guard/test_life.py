"""The guard's program is there before a link is up, and for as long as the link is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support.filters import has_ingress, redirect, shown
from tests.support.frames import forged, identity
from tests.support.guarded import DUAL, MODES, end_of, in_mode, router_of, two, unaided
from tests.support.hearing import Neighbour, heard
from tests.support.host import Container, Host
from tests.support.rtnl_events import Events
from tests.support.tampering import NOTHING, index
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import HostMaker

ALLOW: Final = "protocol all bpf bytecode 1,6\\ 0\\ 0\\ 0, direct-action"

DAMAGES: Final = {
    "filters": "tc filter del dev {veth} parent ffff:",
    "filter": "tc filter del dev {veth} parent ffff: prio 1",
    "qdisc": "tc qdisc del dev {veth} ingress",
    "other program": f"tc filter replace dev {{veth}} parent ffff: prio 1 handle 1 {ALLOW}",
    "other kind": (
        "until tc filter del dev {veth} parent ffff: prio 1"
        " && tc filter add dev {veth} parent ffff: prio 1 protocol all u32 match u32 0 0;"
        " do :; done"
    ),
    "second program": f"tc filter add dev {{veth}} parent ffff: prio 1 handle 9 {ALLOW}",
    "clsact": "until tc qdisc del dev {veth} ingress && tc qdisc add dev {veth} clsact; do :; done",
}


def broken(host: Host, web: Container, damage: str) -> str:
    """What was there of filters before somebody did that damage."""
    before = shown(host, web.veth)
    assert "bpf" in before
    host.command("sh", "-ec", DAMAGES[damage].format(veth=web.veth))
    return before


def nobody_hears(host: Host, web: Container, thief: Container, *, on: str = "") -> None:
    """What `thief` may not say arrives neither at `web` nor at the interface `on` of the host."""
    me, of_web = identity(thief), identity(web)
    frames = forged(me, of_web, router_of(host, thief, "bridge"))
    listener = Neighbour(host, host.here, on) if on else Neighbour(host, web.place)
    found = heard(host, frames, thief.place, {"it": listener}, [end_of(me)])
    assert {name for name, who in found.items() if who} == set()


@pytest.mark.parametrize("damage", DAMAGES)
def test_who_runs_a_service_has_it_back_at_once(make_host: HostMaker, damage: str) -> None:
    host = make_host(DUAL)
    service = host.service()
    web, thief = two(host)
    before = broken(host, thief, damage)
    eventually(lambda: shown(host, thief.veth) == before, what="the repair")
    service.logged("repaired", thief.veth)
    nobody_hears(host, web, thief)
    assert host.watcher("sync").stdout == NOTHING


@pytest.mark.parametrize("mode", MODES)
def test_sync_names_it_and_puts_it_back(make_host: HostMaker, mode: str) -> None:
    host = make_host(in_mode(mode))
    web = host.attach("web")
    for damage in DAMAGES:
        before = broken(host, web, damage)
        dry = host.watcher("sync", "--dry-run").stdout
        (line,) = dry.splitlines()
        assert web.veth in line, damage
        assert shown(host, web.veth) != before, damage
        assert host.watcher("sync").stdout == dry, damage
        assert shown(host, web.veth) == before, damage
        assert host.watcher("sync").stdout == NOTHING, damage


def test_a_filter_of_others_stays(kept: Host) -> None:
    web = kept.attach("web")
    redirect(kept, web.veth, "lo")
    whole = shown(kept, web.veth)
    assert "mirred" in whole
    broken(kept, web, "filter")
    kept.settle()
    eventually(lambda: shown(kept, web.veth) == whole, what="the repair")
    kept.watcher("sync")
    assert shown(kept, web.veth) == whole


@pytest.mark.parametrize(
    "damage",
    [
        "nft flush ruleset",
        "ip link set {veth} down; ip link set {veth} up",
        "ip link set {veth} nomaster; ip link set {veth} master netns0",
        "ip link set {veth} down; ip link set {veth} name other; ip link set other up",
    ],
)
def test_nothing_that_happens_to_a_link_lets_a_frame_through(
    make_host: HostMaker, damage: str
) -> None:
    """No service runs that could have repaired it."""
    host = make_host(DUAL)
    unaided(host)
    web, thief = two(host)
    host.command("sh", "-ec", damage.format(veth=thief.veth))
    nobody_hears(host, web, thief)


def test_on_another_bridge_it_is_held_to_its_lease_as_well(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    web, thief = two(host)
    host.command("ip", "link", "add", "other0", "type", "bridge")
    host.command("ip", "link", "set", "other0", "up")
    host.command("ip", "link", "set", thief.veth, "master", "other0")
    nobody_hears(host, web, thief, on="other0")


@pytest.mark.parametrize("mode", MODES)
def test_a_link_is_up_only_once_it_is_guarded(make_host: HostMaker, mode: str) -> None:
    host = make_host(in_mode(mode))
    host.service()
    host.attach("first")
    events = Events(host, host.here)
    web = host.attach("web")
    made = index(host, web.veth)
    host.command("ip", "link", "delete", web.veth)
    eventually(lambda: index(host, web.veth) != made, what="another link")
    eventually(lambda: "UP" in (host.here.link(web.veth) or {})["flags"], what="another link, up")
    happened = events.so_far()
    for link in (made, index(host, web.veth)):
        of_link = [what for of, what in happened if of == link]
        assert "filter" in of_link
        assert of_link.index("filter") < of_link.index("up")


@pytest.mark.parametrize("mode", MODES)
def test_without_the_guard_a_link_has_no_filters(make_host: HostMaker, mode: str) -> None:
    host = make_host(in_mode(mode) + "guard = false\n")
    web = host.attach("web")
    assert not has_ingress(host, web.veth)


def test_the_guard_goes_and_comes_with_its_setting(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    web = host.attach("web")
    before = shown(host, web.veth)
    host.configure(DUAL + "guard = false\n")
    host.watcher("sync")
    assert not has_ingress(host, web.veth)
    assert host.watcher("sync").stdout == NOTHING
    host.configure(DUAL)
    host.watcher("sync")
    assert shown(host, web.veth) == before


def test_down_leaves_no_filter(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.attach("web")
    host.watcher("down")
    for kind in ("qdisc", "filter"):
        assert "ffff:" not in host.command("tc", kind, "show").stdout
