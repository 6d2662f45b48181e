"""Port maps, each reached from everywhere that it should be, with real packets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import pytest

from tests.support.host import BEYOND, BEYOND6, GATEWAY, UPLINK, UPLINK6, Container, Host, HostMaker
from tests.support.kernel import nftables_generation
from tests.support.traffic import Answer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    pass

DUAL = '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
PROTOCOLS: tuple[Literal["tcp", "udp"], ...] = ("tcp", "udp")


def publish(host: Host, name: str, ports: str) -> Container:
    """A container with port maps, and a server of either protocol on its ports 80 and 81."""
    container = host.attach(name, ports=ports)
    container.serve(tcp=(80, 81), udp=(80, 81))
    return container


# --- from everywhere -------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_published_port_is_reached_from_everywhere(
    kept: Host, protocol: Literal["tcp", "udp"]
) -> None:
    web = publish(kept, "web", f"8080:80/{protocol}")
    client = kept.attach("client")

    reached = {
        "another machine": kept.beyond.reach(UPLINK, 8080, protocol),
        "the host by its own address": kept.here.reach(UPLINK, 8080, protocol),
        "the host by localhost": kept.here.reach("127.0.0.1", 8080, protocol),
        "the host by the bridge's address": kept.here.reach(GATEWAY, 8080, protocol),
        "another container": client.reach(UPLINK, 8080, protocol),
        "another container by its gateway": client.reach(GATEWAY, 8080, protocol),
        "the container itself": web.reach(UPLINK, 8080, protocol),
        "the container itself by its gateway": web.reach(GATEWAY, 8080, protocol),
    }
    assert {place: answer.who if answer else None for place, answer in reached.items()} == (
        dict.fromkeys(reached, "web")
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_on_another_machine_keeps_its_address(
    kept: Host, protocol: Literal["tcp", "udp"]
) -> None:
    publish(kept, "web", f"8080:80/{protocol}")
    assert kept.beyond.reach(UPLINK, 8080, protocol) == Answer("web", BEYOND)


def test_tcp_is_published_where_no_protocol_is_named(served: Host) -> None:
    publish(served, "web", "8080:80")
    assert served.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert served.beyond.reach(UPLINK, 8080, "udp", timeout=0.3) is None


def test_nc_localhost_reaches_a_program_in_a_container(served: Host) -> None:
    served.attach("web", ["nc", "-ll", "-p", "80", "-e", "echo", "hello"], ports="5555:80")

    def said_hello() -> bool:
        return served.command("busybox", "nc", "localhost", "5555", check=False).stdout == "hello\n"

    eventually(said_hello)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_dual_stack_container_is_reached_by_ipv6_as_well(
    make_host: HostMaker, protocol: Literal["tcp", "udp"]
) -> None:
    host = make_host(DUAL)
    web = publish(host, "web", f"8080:80/{protocol}")
    client = host.attach("client")
    reached = {
        "another machine": host.beyond.reach(UPLINK6, 8080, protocol),
        "another machine by IPv4": host.beyond.reach(UPLINK, 8080, protocol),
        "the host by its own address": host.here.reach(UPLINK6, 8080, protocol),
        "another container": client.reach(UPLINK6, 8080, protocol),
        "the container itself": web.reach(UPLINK6, 8080, protocol),
    }
    assert {place: answer.who if answer else None for place, answer in reached.items()} == (
        dict.fromkeys(reached, "web")
    )
    assert reached["another machine"] == Answer("web", BEYOND6)


def test_a_dual_stack_container_reaches_beyond_by_ipv6(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.beyond.serve(tcp=(80,))
    web = host.attach("web")
    assert len(web.place.addresses()) == 2
    assert web.reach(BEYOND6, 80) == Answer("beyond", UPLINK6)
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)


# --- which port maps -------------------------------------------------------------------------


def test_several_port_maps_with_commas(kept: Host) -> None:
    publish(kept, "web", "8080:80,8081:81,5353:80/udp")
    assert kept.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert kept.beyond.reach(UPLINK, 8081) == Answer("web", BEYOND)
    assert kept.beyond.reach(UPLINK, 5353, "udp") == Answer("web", BEYOND)


def test_a_range_of_ports(served: Host) -> None:
    web = served.attach("web", ports="9000-9010:7000-7010/tcp")
    web.serve(tcp=(7000, 7005, 7010))
    for port in (9000, 9005, 9010):
        assert served.beyond.reach(UPLINK, port) == Answer("web", BEYOND)
    assert served.beyond.reach(UPLINK, 9011, timeout=0.3) is None


def test_the_port_mappings_of_cni(served: Host) -> None:
    mappings = [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 5353, "containerPort": 80, "protocol": "udp", "hostIP": UPLINK},
    ]
    publish(served, "web", json.dumps(mappings))
    assert served.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert served.beyond.reach(UPLINK, 5353, "udp") == Answer("web", BEYOND)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_port_map_of_localhost_is_reached_by_localhost_alone(
    served: Host, protocol: Literal["tcp", "udp"]
) -> None:
    publish(served, "web", f"127.0.0.1:8080:80/{protocol}")
    answer = served.here.reach("127.0.0.1", 8080, protocol)
    assert answer is not None
    assert answer.who == "web"
    assert served.here.reach(UPLINK, 8080, protocol, timeout=0.3) is None
    assert served.beyond.reach(UPLINK, 8080, protocol, timeout=0.3) is None


def test_a_port_map_of_one_host_address_leaves_the_others_alone(served: Host) -> None:
    served.command("ip", "address", "add", "192.0.2.3/24", "dev", "uplink")
    publish(served, "one", "192.0.2.2:8080:80")
    publish(served, "other", "192.0.2.3:8080:80")
    assert served.beyond.reach("192.0.2.2", 8080) == Answer("one", BEYOND)
    assert served.beyond.reach("192.0.2.3", 8080) == Answer("other", BEYOND)
    assert served.here.reach("127.0.0.1", 8080, timeout=0.3) is None


def test_the_same_number_is_a_different_port_of_another_protocol(served: Host) -> None:
    publish(served, "web", "53:80/tcp")
    publish(served, "dns", "53:80/udp")
    assert served.beyond.reach(UPLINK, 53, "tcp") == Answer("web", BEYOND)
    assert served.beyond.reach(UPLINK, 53, "udp") == Answer("dns", BEYOND)


# --- what is left alone ----------------------------------------------------------------------


def test_a_servers_own_port_beyond_is_not_mistaken_for_a_published_one(kept: Host) -> None:
    web = publish(kept, "web", "8080:80")
    client = kept.attach("client")
    kept.beyond.serve(tcp=(8080,))
    assert client.reach(BEYOND, 8080) == Answer("beyond", UPLINK)
    assert web.reach(BEYOND, 8080) == Answer("beyond", UPLINK)
    assert kept.here.reach(BEYOND, 8080) == Answer("beyond", UPLINK)


def test_traffic_that_only_passes_through_the_host_is_left_alone(kept: Host) -> None:
    far = kept.machine("far", "198.51.100.0/24")
    far.serve(tcp=(8080,), udp=(8080,))
    kept.beyond.run("ip", "route", "add", "198.51.100.0/24", "via", UPLINK)
    publish(kept, "web", "8080:80/tcp,8080:80/udp")

    assert kept.beyond.reach("198.51.100.2", 8080) == Answer("far", BEYOND)
    assert kept.beyond.reach("198.51.100.2", 8080, "udp") == Answer("far", BEYOND)


def test_servers_of_the_host_on_other_ports_are_left_alone(kept: Host) -> None:
    publish(kept, "web", "8080:80")
    kept.here.serve(tcp=(22,), udp=(8080,))
    assert kept.beyond.reach(UPLINK, 22) == Answer("host", BEYOND)
    assert kept.beyond.reach(UPLINK, 8080, "udp") == Answer("host", BEYOND)
    assert kept.here.reach("127.0.0.1", 22) == Answer("host", "127.0.0.1")


def test_another_container_with_the_same_port_inside_is_left_alone(kept: Host) -> None:
    publish(kept, "web", "8080:80")
    other = publish(kept, "other", "8081:80")
    client = kept.attach("client")
    assert kept.beyond.reach(UPLINK, 8081) == Answer("other", BEYOND)
    assert client.reach(other.address, 80) == Answer("other", client.address)


def test_a_neighbour_cannot_reach_what_is_published_on_localhost_alone(served: Host) -> None:
    publish(served, "web", "127.0.0.1:8080:80")
    beyond = served.beyond
    # A neighbour that sends packets to 127.0.0.1 by its link, as no honest one does.
    beyond.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/uplink/route_localnet")
    beyond.run("ip", "address", "del", "127.0.0.1/8", "dev", "lo")
    beyond.run("ip", "route", "add", "127.0.0.1", "via", UPLINK)

    def received() -> int:
        (uplink,) = served.ip("-statistics", "link", "show", "dev", "uplink")
        return int(uplink["stats64"]["rx"]["packets"])

    before = received()
    assert beyond.reach("127.0.0.1", 8080, source=BEYOND, timeout=0.4) is None
    assert received() > before, "the packets have not come as far as the host"


# --- while time passes -----------------------------------------------------------------------


def test_a_port_is_free_again_when_its_container_has_vanished(kept: Host) -> None:
    web = publish(kept, "web", "8080:80")
    assert kept.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    kept.delete("web")
    kept.gone(web)
    assert kept.beyond.reach(UPLINK, 8080, timeout=0.3) is None
    publish(kept, "other", "8080:80")
    assert kept.beyond.reach(UPLINK, 8080) == Answer("other", BEYOND)


def test_a_udp_client_is_not_stuck_with_a_container_that_has_gone(kept: Host) -> None:
    web = publish(kept, "web", "5353:80/udp")
    client = kept.beyond.datagrams(UPLINK, 5353)
    assert client.ask() == Answer("web", BEYOND)

    kept.delete("web")
    kept.gone(web)
    publish(kept, "other", "5353:80/udp")
    # Its flow is ended behind the gate's answer; until then, what it sends is lost.
    eventually(lambda: client.ask(timeout=0.5) == Answer("other", BEYOND))


def test_a_udp_client_that_asked_too_early_is_answered_later(kept: Host) -> None:
    client = kept.beyond.datagrams(UPLINK, 5353)
    kept.attach("first")
    assert client.ask(timeout=0.2) is None
    publish(kept, "web", "5353:80/udp")
    eventually(lambda: client.ask(timeout=0.5) == Answer("web", BEYOND))


def test_a_new_address_of_the_host_is_published_as_well(served: Host) -> None:
    publish(served, "web", "8080:80")
    served.command("ip", "address", "add", "192.0.2.3/24", "dev", "uplink")
    assert served.beyond.reach("192.0.2.3", 8080) == Answer("web", BEYOND)


def test_a_thousand_ports_are_published_at_once(served: Host) -> None:
    web = served.attach("web", ports="20000-20999:1000-1999")
    web.serve(tcp=(1000, 1999))
    assert served.beyond.reach(UPLINK, 20000) == Answer("web", BEYOND)
    assert served.beyond.reach(UPLINK, 20999) == Answer("web", BEYOND)


def test_all_that_a_container_publishes_comes_and_goes_in_one_transaction(served: Host) -> None:
    publish(served, "first", "8080:80")  # with the tables themselves
    before = nftables_generation(served.here.netns)
    web = publish(served, "web", f"8081:80,8082:81/udp,127.0.0.1:8083:80,{UPLINK}:9000-9099:80-179")
    assert nftables_generation(served.here.netns) == before + 1
    served.kill("web")
    served.gone(web)
    assert nftables_generation(served.here.netns) == before + 2
