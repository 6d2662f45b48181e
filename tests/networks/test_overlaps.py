"""Subnets that others take, and bridges that are there so that others do not."""

from __future__ import annotations

import socket
import struct
import sys
from array import array
from collections.abc import Sequence
from ipaddress import ip_network

import pytest

from handlers.kernel.bpf import Return, assemble
from handlers.kernel.messages import HEADER
from tests.support.host import BEYOND, GATE_OFF, UPLINK, Host, HostMaker
from tests.support.traffic import Answer
from watcher.events.near_routes import is_near, passing

BACK = '[network.default]\n[network.back]\nbridge = "netns1"\nsubnets = ["172.22.0.0/24"]\n'
IN_BACK = {"io.watcher.network": "back"}

TAKERS = {
    "a network of an engine": (
        "link add br-x type bridge", "link set br-x up", "addr add 172.19.0.1/16 dev br-x",
    ),
    "a part of the subnet": ("route add 172.19.8.0/24 via 192.0.2.1",),
    "an address": ("addr add 172.19.9.9/32 dev uplink",),
}  # fmt: skip
LEAVERS = {
    "a network of an engine": "link del br-x",
    "a part of the subnet": "route del 172.19.8.0/24",
    "an address": "addr del 172.19.9.9/32 dev uplink",
}


def take(host: Host, commands: Sequence[str]) -> None:
    for command in commands:
        host.command("ip", *command.split())


def starts(host: Host, name: str, **bundle: object) -> bool:
    host.bundle(name, **bundle)  # type: ignore[arg-type]
    return host.launch("run", name, "--detach", check=False).returncode == 0


# --- bridges without a container -------------------------------------------------------------


def test_a_service_makes_the_bridges_and_nothing_more(make_host: HostMaker) -> None:
    host = make_host(BACK)
    service = host.service()
    assert host.here.links() == {"lo", "uplink", "netns0", "netns1"}
    assert host.here.addresses("netns0") == ["172.19.0.1/16"]
    assert "172.22.0.0/24" in {route["dst"] for route in host.ip("route")}
    assert host.sysctl("net/ipv4/ip_forward") == "0"
    assert service.warnings() == []
    host.attach("web")
    assert host.sysctl("net/ipv4/ip_forward") == "1"


def test_a_removed_network_comes_with_its_next_container_or_the_next_start(
    make_host: HostMaker,
) -> None:
    host = make_host(BACK)
    service = host.service()
    host.watcher("network", "rm", "back")
    host.attach("web")
    host.watcher("sync")
    assert "netns1" not in host.here.links()
    service.restart()
    assert "netns1" in host.here.links()
    host.watcher("network", "rm", "back")
    host.attach("db", annotations=IN_BACK)
    assert "netns1" in host.here.links()


def test_sync_alone_makes_no_bridge_that_nobody_needs(host: Host) -> None:
    host.watcher("sync")
    assert host.here.links() == {"lo", "uplink"}


# --- overlaps --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", list(TAKERS))
def test_a_network_whose_subnet_is_taken_refuses_until_that_has_passed(
    make_host: HostMaker, how: str
) -> None:
    host = make_host(BACK)
    service = host.service()
    host.attach("web", ports="8080:80").serve(tcp=(80,))
    take(host, TAKERS[how])
    told = service.logged("a network refuses containers", "default", level="error")["reason"]
    assert told.startswith("network.default.subnets = 172.19.0.0/16: overlaps the host's own")
    assert f"dev {'br-x' if 'engine' in how else 'uplink'}" in told

    assert not starts(host, "late")
    assert told in host.inspect("late")["reason"]
    assert starts(host, "other", annotations=IN_BACK)
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert told.split(";")[0] in host.watcher("check", check=False).stdout

    host.command("ip", *LEAVERS[how].split())
    service.logged("a network takes containers again")
    assert starts(host, "late")


def test_a_larger_subnet_leaves_a_network_in_operation_alone(host: Host) -> None:
    host.attach("web")
    take(host, ["route add 172.16.0.0/12 via 192.0.2.1"])
    host.attach("second")
    take(host, ["route add 172.19.8.0/24 via 192.0.2.1"])
    host.run("third")
    assert "overlaps the host's own route 172.19.8.0/24" in host.fails("third")


def test_a_service_starts_beside_an_overlap_and_takes_the_network_up_later(
    make_host: HostMaker,
) -> None:
    host = make_host(GATE_OFF + BACK)
    take(host, TAKERS["a network of an engine"])
    host.service()
    assert host.here.links() >= {"br-x", "netns1"}
    assert "netns0" not in host.here.links()
    web = host.run("web")
    assert "dev br-x" in host.fails("web")
    host.attach("other", annotations=IN_BACK)

    host.command("ip", "link", "del", "br-x")
    host.attached("web")
    assert web.address.startswith("172.19.")


def test_where_a_bridge_has_to_be_made_the_host_is_looked_at_again(make_host: HostMaker) -> None:
    """At once, and not when what the kernel told has had its turn."""
    host = make_host(BACK)
    host.service()
    host.watcher("network", "rm", "default")
    take(host, TAKERS["a network of an engine"])
    assert not starts(host, "web")
    assert "dev br-x" in host.inspect("web")["reason"]


def test_a_host_may_have_very_many_networks(make_host: HostMaker) -> None:
    """More than the kernel's filters have room for: then they tell apart no routes."""
    host = make_host(
        "".join(
            f'[network.n{n}]\nbridge = "n{n}br"\nsubnets = ["10.{n}.0.0/16", "fd00:{n:x}::/64"]\n'
            for n in range(40)
        )
    )
    service = host.service()
    assert "n39br" in host.here.links()
    host.command("ip", "route", "add", "10.39.8.0/24", "via", "192.0.2.1")
    service.logged("a network refuses containers", "n39", level="error")
    host.attach("web", ports="8080:80", annotations={"io.watcher.network": "n38"})
    host.nft("flush", "ruleset")
    service.logged("repaired", "nftables")


PLACES = (
    *("172.19.3.0", "172.18.9.1", "172.22.1.9", "172.22.3.1", "10.0.0.1", "fd00:19:0:5::9"),
    *("fd00:19:0:4::1", "2001:db8::7", "2001:db8::7:0", "2001:db8:1::", "fe80::1"),
)
"""Addresses whose prefixes are routes, near the subnets and far."""

ROUTES = """
import asyncio, subprocess
from ipaddress import ip_network
from watcher.events.drift import Drift

async def main():
    loop, said = asyncio.get_running_loop(), asyncio.Queue()
    overlapping = set()
    drift = Drift(
        loop, ["end0", "end1", "end2", "end3"], [], [ip_network("fd00:19::/64")],
        overlapping=lambda: overlapping,
        routes=lambda: said.put_nowait("routes"), link=said.put_nowait, host=said.put_nowait,
        lost=lambda: None, failed=said.put_nowait,
    )
    async def heard_before(end, *commands):
        for command in (*commands, f"link add {end} up type bridge", f"link delete {end}"):
            subprocess.run(["ip", *command.split()], check=True)
        count = 0
        while (what := await said.get()) != end:
            count += what == "routes"
        print(count, flush=True)
    await heard_before("end0", "route add fd00:19::5/128 dev uplink")
    await heard_before("end1", "route del fd00:19::5/128 dev uplink")
    await heard_before("end2", "route add fd00:19::5/128 dev uplink")
    overlapping.add(int(open("/sys/class/net/uplink/ifindex").read()))
    await heard_before("end3", "route del fd00:19::5/128 dev uplink")
    drift.close()

asyncio.run(asyncio.wait_for(main(), 20))
"""


def test_a_route_that_goes_matters_only_if_it_was_in_the_way(host: Host) -> None:
    """Each sandbox of a routed network takes one along, and a look costs all routes of the host."""
    done = host.command(sys.executable, "-c", ROUTES, env=host.watcher_env)
    assert done.stdout.split() == ["1", "0", "1", "1"]


# --- what a router with a million routes does not tell ------------------------------------------


@pytest.mark.parametrize(
    "subnets", [["172.19.0.0/16"], ["fd00:19:0:5::/64", "172.22.1.0/24"], ["2001:db8::/112"]]
)
def test_the_kernel_tells_of_routes_near_a_subnet_alone(subnets: list[str]) -> None:
    """What the filter passes is what overlaps, for each prefix of an address nearby and far.

    Of larger destinations than a subnet, it compares whole bytes.
    """
    nets = [ip_network(subnet) for subnet in subnets]
    code = assemble(passing(nets, Return(0xFFFFFFFF), Return(0)), short=Return(0)).text
    words = array("B", code)
    address, size = words.buffer_info()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with ours, theirs:
        theirs.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", size // 8, address))
        near = set()
        for place in PLACES:
            version = 6 if ":" in place else 4
            for length in range(2, 33 if version == 4 else 129):
                route = ip_network(f"{place}/{length}", strict=False)
                body = message(version, length, route.network_address.packed)
                ours.send(HEADER.pack(16 + len(body), 24, 0, 0, 0) + body)
                try:
                    passed = theirs.recv(4096) != b""
                except BlockingIOError:
                    passed = False
                same = [net for net in nets if net.version == version]
                overlaps = any(map(route.overlaps, same))
                assert is_near(memoryview(body), nets) == overlaps, route
                coarse = route.supernet(new_prefix=max(length // 8 * 8, 2))
                nearly = any(coarse.overlaps(net) for net in same if net.prefixlen > length)
                assert passed == (overlaps or nearly), route
                near.add(passed)
        assert near == {True, False}


def message(version: int, length: int, address: bytes) -> bytes:
    """The body of an RTM_NEWROUTE message, as far as the destination."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    head = struct.pack("=8BI", family, length, 0, 0, 254, 3, 0, 1, 0)
    table = struct.pack("=HHI", 8, 15, 254)
    return head + table + struct.pack("=HH", 4 + len(address), 1) + address
