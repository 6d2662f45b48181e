"""`mode = "routed"`: no bridge in the way; each sandbox is a host route on its own link."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest

from tests.support.host import BEYOND, UPLINK, Host, HostMaker, Json
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO, eventually

BACK = {"io.watcher.network": "back"}

ROUTED = """
[network.default]
mode = "routed"
subnets = ["172.19.0.0/16", "fd00:19::/64"]
"""
TWO = """
[network.default]
mode = "routed"

[network.back]
mode = "routed"
bridge = "back0"
subnets = ["172.20.0.0/16"]
{back}

[network.bridged]
bridge = "bridged0"
subnets = ["172.21.0.0/16"]
"""


@pytest.fixture
def routed(make_host: HostMaker) -> Host:
    """A host whose network is routed; nothing of the watcher runs on it."""
    return make_host(ROUTED)


def routes(host: Host, place: str = "") -> list[Json]:
    command = ["ip", "-json", "route"] if not place else ["ip", "-json", "-n", place, "route"]
    found: list[Json] = json.loads(host.command(*command).stdout)
    return found


def test_a_sandbox_has_a_host_route_and_no_bridge(routed: Host) -> None:
    web = routed.attach("web")
    assert (routed.here.link(web.veth) or {}).get("master") is None
    own = [route for route in routes(routed) if route.get("dev") == web.veth]
    assert [(route["dst"], route["prefsrc"]) for route in own] == [("172.19.0.2", "172.19.0.1")]
    assert f"{web.address}/32" in web.place.addresses("eth0")
    assert routed.watcher("sync").stdout == "nothing to do\n"


def test_it_reaches_its_gateway_a_neighbour_and_the_world_at_once(routed: Host) -> None:
    routed.service()
    program = "ping -c1 -W9 172.19.0.1 && ping -c1 -W9 fd00:19::1 && ping -c1 -W9 " + BEYOND
    routed.run_to_end("first", ["sh", "-c", program])
    web, other = routed.attach("web"), routed.attach("other")
    web.serve(tcp=(80,))
    routed.beyond.serve(tcp=(81,))
    assert other.reach(web.address, 80) == Answer("web", other.address)
    assert other.reach(BEYOND, 81) == Answer("beyond", UPLINK)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_published_port_is_reached_from_everywhere(
    routed: Host, protocol: Literal["tcp", "udp"]
) -> None:
    web = routed.attach("web", ports=f"8080:80/{protocol}")
    other = routed.attach("other")
    served: dict[str, Any] = {protocol: (80,)}
    web.serve(**served)
    for client, address in (
        (routed.beyond, UPLINK), (routed.here, UPLINK), (routed.here, "127.0.0.1"),
        (routed.here, "172.19.0.1"), (other, UPLINK), (web, UPLINK), (routed.here, "::1"),
    ):  # fmt: skip
        answer = client.reach(address, 8080, protocol)
        assert answer is not None, (client, address)
        assert answer.who == "web"


def test_networks_are_kept_apart_unless_one_may_reach_another(make_host: HostMaker) -> None:
    host = make_host(TWO.format(back='reach = ["default", "bridged"]'))
    web = host.attach("web")
    back = host.attach("back", annotations=BACK)
    bridged = host.attach("bridged", annotations={"io.watcher.network": "bridged"})
    for container in (web, back, bridged):
        container.serve(tcp=(80,))
    assert back.reach(web.address, 80) == Answer("web", back.address)
    assert back.reach(bridged.address, 80) == Answer("bridged", back.address)
    for client, server in ((web, back), (bridged, back), (web, bridged), (bridged, web)):
        assert client.reach(server.address, 80, timeout=LATENCY_FREE_NO) is None


def test_one_reaches_the_ports_of_another_that_its_configuration_names(
    make_host: HostMaker,
) -> None:
    host = make_host(TWO.format(back='reach = ["default:80/tcp", "bridged:81"]'))
    web = host.attach("web")
    back = host.attach("back", annotations=BACK)
    bridged = host.attach("bridged", annotations={"io.watcher.network": "bridged"})
    for container in (web, bridged):
        container.serve(tcp=(80, 81))
    assert back.reach(web.address, 80) == Answer("web", back.address)
    assert back.reach(bridged.address, 81) == Answer("bridged", back.address)
    assert back.reach(web.address, 81, timeout=0.5) is None
    assert back.reach(bridged.address, 80, timeout=0.5) is None


def test_an_internal_one_has_no_way_out(make_host: HostMaker) -> None:
    host = make_host(TWO.format(back="internal = true"))
    inside, also = host.run("in", annotations=BACK), host.run("also", annotations=BACK)
    web = host.attach("web")
    for container in (also, web):
        container.serve(tcp=(80,))
    host.beyond.serve(tcp=(81,))
    assert inside.reach(also.address, 80) is not None
    assert inside.reach(web.address, 80, timeout=LATENCY_FREE_NO) is None
    assert inside.reach(BEYOND, 81, timeout=LATENCY_FREE_NO) is None


def test_isolated_ones_cannot_reach_each_other(make_host: HostMaker) -> None:
    host = make_host(TWO.format(back="isolate = true"))
    one, two = host.attach("one", annotations=BACK), host.attach("two", annotations=BACK)
    two.serve(tcp=(80,))
    host.beyond.serve(tcp=(81,))
    assert one.reach(two.address, 80, timeout=LATENCY_FREE_NO) is None
    assert one.reach(BEYOND, 81) == Answer("beyond", UPLINK)


def test_unpublished_ports_are_not_reached_from_outside(routed: Host) -> None:
    web = routed.attach("web")
    web.serve(tcp=(80,))
    routed.beyond.run("ip", "route", "add", "172.19.0.0/16", "via", UPLINK)
    assert routed.beyond.reach(web.address, 80, timeout=LATENCY_FREE_NO) is None
    assert routed.here.reach(web.address, 80) is not None


def test_no_address_but_its_own_is_believed(routed: Host) -> None:
    web, victim = routed.attach("web"), routed.attach("victim")
    routed.beyond.serve(udp=(81,))
    assert web.reach(BEYOND, 81, "udp") is not None
    web.place.run("ip", "addr", "add", "172.19.0.99/32", "dev", "eth0")
    web.place.run("ip", "route", "replace", "default", "via", "169.254.1.1", "src", "172.19.0.99")
    assert web.reach(BEYOND, 81, "udp", timeout=LATENCY_FREE_NO) is None
    assert victim.reach(BEYOND, 81, "udp") is not None


def test_two_share_a_sandbox(routed: Host) -> None:
    web = routed.attach("web")
    web.serve(tcp=(80,))
    sidecar = routed.share("sidecar", "web")
    assert sidecar.reach("127.0.0.1", 80) is not None
    routed.delete("web")
    routed.settle()
    assert routed.here.link(web.veth) is not None


@pytest.mark.parametrize(
    "damage",
    [
        "ip route del {address}",
        "ip link set {veth} down",
        "ip link del {veth}",
        "ip link del netns0",
        "nft flush ruleset",
        "nsenter --net=/proc/{pid}/ns/net ip route del default",
        "nsenter --net=/proc/{pid}/ns/net ip addr flush dev eth0",
    ],
)
def test_damage_is_repaired(make_host: HostMaker, damage: str) -> None:
    host = make_host(ROUTED)
    service = host.service()
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    host.command("sh", "-c", damage.format(address=web.address, veth=web.veth, pid=web.pid))
    eventually(lambda: host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND))
    # Some of it may have been done after the first look.
    eventually(lambda: host.watcher("sync", "--dry-run").stdout == "nothing to do\n")
    assert service.running
    service.stop()
    assert host.watcher("sync").stdout == "nothing to do\n"


def test_a_host_end_that_is_set_down_is_set_up_without_ipv6(make_host: HostMaker) -> None:
    """Nothing but the link itself tells: the kernel says nothing of the routes that go with it."""
    host = make_host('[network.default]\nmode = "routed"\n')
    host.service()
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    host.command("ip", "link", "set", web.veth, "down")
    eventually(lambda: host.beyond.reach(UPLINK, 8080, timeout=0.3) == Answer("web", BEYOND))


def test_nothing_is_left(routed: Host) -> None:
    before = routed.here.links()
    web = routed.attach("web", ports="8080:80")
    routed.delete("web")
    routed.settle()
    assert routed.leftovers() == []
    assert [route for route in routes(routed) if route.get("dev") == web.veth] == []
    routed.watcher("down")
    assert routed.here.links() == before
