"""A running container loses an interface, and what it had because of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.connected import (
    as_never_connected,
    defaults,
    is_right,
    on,
    refused,
    rules,
    server,
    tables,
)
from tests.support.host import BEYOND, GATEWAY, UPLINK, UPLINK6, Host
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO, eventually

if TYPE_CHECKING:
    from tests.support.host import HostMaker

BOTH = {"io.watcher.network": "front,back"}


def test_nothing_is_left_of_a_connection(live: Host) -> None:
    web, db = live.attach("web"), server(live, "db", "back")
    before, leases = web.place.picture(), live.leases()
    live.watcher("connect", "web", "back")
    assert len(rules(web)) == 5
    assert tables(web)
    live.watcher("disconnect", "web", "back")
    as_never_connected(web)
    assert web.place.picture() == before
    assert live.leases() == leases
    assert live.veths() == {web.veth, db.veth}
    is_right(live)


def test_any_may_go_and_come_back(live: Host) -> None:
    live.beyond.serve(tcp=(80,))
    web = live.attach("web", annotations=BOTH)
    front, back = on(web, "eth0"), on(web, "eth1")
    assert defaults(web) == [("172.21.0.1", "eth0")]
    live.watcher("disconnect", "web", "front")
    assert web.place.links() == {"lo", "eth1"}
    assert defaults(web) == [("172.22.0.1", "eth1")]
    assert defaults(web, 6) == [("fd00:22::1", "eth1")]
    assert rules(web) == [0, 32766, 32767]
    assert tables(web) == []
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    is_right(live)

    assert live.watcher("connect", "web", "front").stdout.startswith(f"eth0 {front}/24")
    assert defaults(web) == [("172.21.0.1", "eth0")]
    assert defaults(web, 6) == [("fd00:21::1", "eth0")]
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert on(web, "eth1") == back
    is_right(live)


def test_the_last_one_may_go_as_well(live: Host) -> None:
    live.beyond.serve(tcp=(80,))
    web = live.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    address = web.address
    live.watcher("disconnect", "web", "default")
    assert web.place.links() == {"lo"}
    assert live.veths() == set()
    assert live.elements() == []
    assert live.leases() == {}
    assert live.ls()["web"]["status"] == "attached"
    assert live.ls()["web"]["network"] == []
    assert live.pins() == {"web"}
    is_right(live)
    assert "it is connected to none" in refused(live, "disconnect", "web", "default")

    live.watcher("connect", "web", "default")
    assert web.address == address
    as_never_connected(web)
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert live.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    is_right(live)


def test_ports_lead_to_the_next_network_that_can_carry_them(live: Host) -> None:
    web = live.attach("web", annotations=BOTH, ports="8080:80,5353:53/udp,9000-9050:9000-9050")
    for name in ("eth0", "eth1"):
        for version in (4, 6):
            web.serve(tcp=(80, 9050), udp=(53,), address=on(web, name, version))
    stream, asking = live.beyond.stream(UPLINK, 8080), live.beyond.datagrams(UPLINK, 5353)
    assert asking.ask() == Answer("web", BEYOND)
    live.watcher("disconnect", "web", "front")
    for version, uplink in ((4, UPLINK), (6, UPLINK6)):
        assert live.beyond.reach(uplink, 8080) is not None, version
        assert live.beyond.reach(uplink, 9050) is not None, version
        assert live.beyond.reach(uplink, 5353, "udp") is not None, version
    eventually(lambda: asking.ask(0.5) == Answer("web", BEYOND))
    with pytest.raises((TimeoutError, ConnectionError)):
        stream.say("gone", timeout=LATENCY_FREE_NO)
    live.watcher("connect", "web", "inner")
    live.watcher("disconnect", "web", "back")
    assert live.beyond.reach(UPLINK, 8080, timeout=LATENCY_FREE_NO) is None
    assert live.elements() == []
    assert live.ls()["web"]["ports"] == ["8080:80/tcp", "9000-9050:9000-9050/tcp", "5353:53/udp"]
    is_right(live)

    live.watcher("connect", "web", "back")  # with the address that the server is at
    assert live.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    is_right(live)


def test_a_connection_through_another_interface_goes_on(live: Host) -> None:
    web, db = live.attach("web", annotations=BOTH), server(live, "db", "back")
    stream = web.place.stream(db.address, 80)
    live.watcher("disconnect", "web", "front")
    assert stream.say("still") == "still"
    live.watcher("connect", "web", "front")
    assert stream.say("there") == "there"


def test_flows_of_the_old_address_end(live: Host) -> None:
    web = live.attach("web")
    server(live, "db", "back")
    live.watcher("connect", "web", "back", "--ip", "172.22.0.50")
    web.serve(udp=(70,), address="172.22.0.50")
    asking = live.here.datagrams("172.22.0.50", 70)
    assert asking.ask() == Answer("web", "172.22.0.1")
    live.watcher("disconnect", "web", "back")
    assert asking.ask(LATENCY_FREE_NO) is None
    live.watcher("connect", "db", "default")
    live.watcher("disconnect", "db", "back")
    live.watcher("connect", "db", "back", "--ip", "172.22.0.50")
    assert live.here.reach("172.22.0.50", 80) == Answer("db", "172.22.0.1")


def test_the_default_route_moves_whatever_its_metric_is(make_host: HostMaker) -> None:
    host = make_host(
        '[network.front]\nbridge = "front0"\nsubnets = ["172.21.0.0/24"]\nmetric = 500\n'
        '[network.back]\nbridge = "back0"\nsubnets = ["172.22.0.0/24"]\nmetric = 100\n'
    )
    web = host.attach("web", annotations=BOTH)
    host.watcher("disconnect", "web", "front")
    assert defaults(web) == [("172.22.0.1", "eth1")]
    host.watcher("connect", "web", "front")
    assert defaults(web) == [("172.21.0.1", "eth0")]
    is_right(host)


def test_static_routes_come_and_go(make_host: HostMaker) -> None:
    host = make_host(
        '[network.back]\nbridge = "back0"\nsubnets = ["172.22.0.0/24"]\n'
        'routes = [{to = "10.8.0.0/16", via = "172.22.0.9"}]\n'
    )
    web, router = host.attach("web"), host.attach("router")
    host.watcher("connect", "router", "back", "--ip", "172.22.0.9")
    host.watcher("connect", "web", "back")
    router.place.run("ip", "address", "add", "10.8.0.1/32", "dev", "lo")
    router.serve(tcp=(80,))
    assert web.reach("10.8.0.1", 80) == Answer("router", on(web, "eth1"))
    is_right(host)
    host.watcher("disconnect", "web", "back")
    as_never_connected(web)


def test_who_is_not_connected_is_told_to_what_it_is(alone: Host) -> None:
    alone.attach("web", annotations=BOTH)
    said = refused(alone, "disconnect", "web", "inner")
    assert said == 'container "web" is not connected to network "inner"; name one of front, back'
    assert 'there is no container "nobody"' in refused(alone, "disconnect", "nobody", "back")


def test_what_is_left_is_healed_as_ever(alone: Host) -> None:
    """A link that goes takes no other out of the service's sight."""
    service = alone.service()
    web = alone.attach("web")
    web.serve(tcp=(80,))
    for verb, network, damage in (
        ("connect", "back", "ip link set eth0 down"),
        ("disconnect", "back", f"ip address delete {web.address}/16 dev eth0"),
        ("connect", "front", "ip route delete default"),
        ("disconnect", "front", "ip link set eth0 down"),
    ):
        alone.watcher(verb, "web", network)
        web.place.run(*damage.split())
        eventually(
            lambda: alone.here.reach("172.19.0.2", 80, timeout=0.3) == Answer("web", GATEWAY),
            what=f"the repair of {damage} after {verb} {network}",
        )
        eventually(lambda: defaults(web) == [(GATEWAY, "eth0")])
    assert service.running
