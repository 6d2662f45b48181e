"""What the service hears of the ways to other hosts: what may matter, and nothing per container."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from handlers.kernel import rtnl
from handlers.kernel.rtnl.numbers import (
    RTM_DELNEIGH,
    RTM_NEWADDR,
    RTM_NEWNEIGH,
    RTM_NEWNETCONF,
    RTM_NEWROUTE,
)
from tests.support.cluster.played import DEVICE, Played, serving
from tests.support.host import Host
from tests.support.traffic import entered
from tests.support.waiting import eventually
from watcher.events.hosts import HostsWatch

HEARD = {
    "route to a block": ("ip route del 10.9.3.0/28", rtnl.RTM_DELROUTE),
    "route of somebody": ("ip route add 203.0.113.0/25 via 198.51.100.1", RTM_NEWROUTE),
    "entry": (f"bridge fdb add 02:00:00:00:00:07 dev {DEVICE} dst 203.0.113.13", RTM_NEWNEIGH),
    "neighbour": (f"ip neigh del 203.0.113.13 dev {DEVICE}", RTM_DELNEIGH),
    "device": (f"ip link set {DEVICE} mtu 1400", rtnl.RTM_NEWLINK),
    "address": ("ip addr add 198.51.100.200/24 dev uplink", RTM_NEWADDR),
    "forwarding": (f"echo 0 > /proc/sys/net/ipv4/conf/{DEVICE}/forwarding", RTM_NEWNETCONF),
}


def heard(host: Host, links: set[int], do: Callable[[], object]) -> list[int]:
    """The types of the events that pass the filter while something is done on a host."""
    found: list[int] = []
    # The kernel tells of an address again once it knows that no other host has it.
    eventually(lambda: not tentative(host), what="the end of all duplicate address detection")

    async def listen() -> None:
        loop = asyncio.get_running_loop()
        failed: list[Exception] = []

        def note(kind: int, _: memoryview) -> bool:
            found.append(kind)
            return False

        with entered(host.here.netns):
            watch = HostsWatch(
                loop,
                note,
                lambda: (frozenset(links), frozenset(links)),
                lambda: None,
                lambda: None,
                failed.append,
            )
        watch.refresh()
        found.clear()
        await loop.run_in_executor(None, do)
        watch._read()  # what the kernel has told is there already
        watch.close()
        assert not failed

    asyncio.run(listen())
    return found


def tentative(host: Host) -> list[str]:
    """The addresses of which the kernel does not know yet that they are the host's alone."""
    every = [address for link in host.ip("addr") for address in link["addr_info"]]
    return [address["local"] for address in every if address.get("tentative")]


@pytest.mark.parametrize("what", HEARD)
def test_a_change_is_heard(three: Played, what: str) -> None:
    a = three.cluster.hosts["a"]
    serving(a, "web")
    three.service("a").kill9()
    command, kind = HEARD[what]
    index = (a.here.link(DEVICE) or {})["ifindex"]
    assert kind in heard(a, {index}, lambda: a.command("sh", "-c", command))


def test_entries_and_settings_of_other_links_are_not(three: Played) -> None:
    a = three.cluster.hosts["a"]
    index = (a.here.link(DEVICE) or {})["ifindex"]
    three.service("a").kill9()
    commands = [HEARD[what][0] for what in ("entry", "neighbour", "forwarding")]
    assert heard(a, {index + 1}, lambda: a.command("sh", "-c", "; ".join(commands))) == []


def test_containers_that_come_and_go_are_not(three: Played) -> None:
    a = three.cluster.hosts["a"]
    serving(a, "first")
    index = (a.here.link(DEVICE) or {})["ifindex"]

    def come_and_go() -> None:
        serving(a, "web")
        a.delete("web")

    assert heard(a, {index}, come_and_go) == []
