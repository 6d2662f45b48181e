"""Questions of sandboxes to port 53 of their gateway: the name service gets them, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.support import traffic
from tests.support.host import GATEWAY, UPLINK, UPLINK6, Container, Host
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO
from watcher.model.names import DNS_PORT, PORT

if TYPE_CHECKING:
    from tests.support.host import HostMaker, Place

GATEWAY6 = "fd00:19::1"
GATEWAYS = (GATEWAY, GATEWAY6)
UPLINKS = (UPLINK, UPLINK6)
SUBNETS = 'subnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
BACK = """
[network.back]
bridge = "back0"
subnets = ["172.20.0.0/16", "fd00:20::/64"]
"""
KINDS = {
    "bridge": "",
    "routed": 'mode = "routed"\n',
    "internal": "internal = true\n",
    "isolate": "isolate = true\n",
    "routed-internal": 'mode = "routed"\ninternal = true\n',
    "unguarded": "guard = false\n",
}
PROTOCOLS: tuple[Literal["tcp", "udp"], ...] = ("tcp", "udp")


def network(more: str = "") -> str:
    return f"[network.default]\n{SUBNETS}{more}"


def serve(host: Host, who: str, port: int, *at: str) -> list[traffic.Echo]:
    """Servers of the host at each of its addresses `at`."""
    netns = host.here.netns
    echoes = [traffic.Echo(netns, who, tcp=(port,), udp=(port,), address=one) for one in at]
    for echo in echoes:
        host.on_close(echo.close)
    return echoes


def answering(host: Host) -> list[traffic.Echo]:
    """What stands for the name service."""
    return serve(host, "names", PORT, *GATEWAYS)


def attach(host: Host, name: str, network: str = "default", **asked: Any) -> Container:
    """Attach one whose network may have no way out."""
    host.run(name, annotations={"io.watcher.network": network}, **asked)
    host.settle()
    return Container(host, name)


def answers(place: Place, address: str, port: int = DNS_PORT) -> set[str | None]:
    """Who answers there by UDP and by TCP."""
    found = (place.reach(address, port, p, timeout=LATENCY_FREE_NO) for p in PROTOCOLS)
    return {None if answer is None else answer.who for answer in found}


def addresses(container: Container) -> list[str]:
    """Its IPv4 and its IPv6 address."""
    return sorted((a.split("/")[0] for a in container.place.addresses()), key=lambda a: ":" in a)


@pytest.mark.parametrize("kind", KINDS)
def test_who_asks_its_gateway_asks_the_name_service(make_host: HostMaker, kind: str) -> None:
    host = make_host(network(KINDS[kind]) + BACK)
    for family in ("ip", "ip6"):
        file = f"/proc/sys/net/bridge/bridge-nf-call-{family}tables"
        host.command("sh", "-c", f"echo 1 > {file}")
    web, back = attach(host, "web"), attach(host, "back", "back")
    serve(host, "host", DNS_PORT, *GATEWAYS, *UPLINKS)  # the host's own resolver
    answering(host)
    for own, gateway, uplink in zip(addresses(web), GATEWAYS, UPLINKS, strict=True):
        for protocol in PROTOCOLS:
            assert web.place.reach(gateway, DNS_PORT, protocol) == Answer("names", own)
        # What is not a question to this gateway is left alone.
        assert answers(back.place, gateway) == {"host"}
        assert answers(host.here, gateway) == {"host"}
        if "internal" not in kind:
            assert answers(web.place, uplink) == {"host"}
        # And nobody else gets at the name service by its port.
        assert answers(back.place, gateway, PORT) == {None}
        assert host.here.reach(gateway, PORT, source=gateway) == Answer("names", gateway)


def test_no_other_machine_asks(make_host: HostMaker) -> None:
    host = make_host(network())
    host.attach("web")
    for route, via in zip(("172.19.0.0/16", "fd00:19::/64"), UPLINKS, strict=True):
        host.beyond.run("ip", "route", "add", route, "via", via)
    answering(host)
    for gateway in GATEWAYS:
        assert answers(host.beyond, gateway, PORT) == {None}
        assert answers(host.beyond, gateway) == {None}
    serve(host, "host", DNS_PORT, *GATEWAYS)
    serve(host, "host", PORT, UPLINK)  # at another address it is a port like any other
    assert answers(host.beyond, GATEWAY) == answers(host.beyond, UPLINK, PORT) == {"host"}
