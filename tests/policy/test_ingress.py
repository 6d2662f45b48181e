"""Who may open connections to a sandbox: packets that arrive, and those that are rejected."""

from __future__ import annotations

from typing import Literal

import pytest

from tests.config.test_reload import reload
from tests.support.host import BEYOND, BEYOND6, GATEWAY, UPLINK, UPLINK6, Container, Host, HostMaker
from tests.support.refused import REJECTED, attempt
from tests.support.waiting import eventually

DUAL = '[network.default]\nmode = "{mode}"\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
OUT, OUT6 = REJECTED[4], REJECTED[6]
PROTOCOLS: tuple[Literal["tcp", "udp"], ...] = ("tcp", "udp")
MODES = pytest.mark.parametrize("mode", ["bridge", "routed"])


def publish(host: Host, name: str, ports: str, ingress: str = "") -> Container:
    """A container with port maps and a list, and a server of either protocol on some ports."""
    annotations = {"io.watcher.ingress": ingress} if ingress else {}
    container = host.attach(name, ports=ports, annotations=annotations)
    container.serve(tcp=(80, 81), udp=(80, 81))
    return container


def dual(make_host: HostMaker, mode: str, more: str = "") -> Host:
    """A host whose network is of both families and of that mode."""
    host = make_host(DUAL.format(mode=mode) + more)
    for key, value in (
        # With it the kernel drops what comes back to ::1, as that crosses the bridge.
        ("bridge/bridge-nf-call-ip6tables", 0),
        ("ipv4/icmp_ratelimit", 0),  # or an answer to many attempts in a row comes late
        ("ipv6/icmp/ratelimit", 0),
    ):
        host.command("sh", "-c", f"echo {value} > /proc/sys/net/{key}")
    return host


def healthy(host: Host) -> None:
    """Nothing of the host is found to be wrong."""
    assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"


@MODES
def test_only_sources_of_the_list_reach_a_published_port(make_host: HostMaker, mode: str) -> None:
    host = dual(make_host, mode)
    host.service()
    friend = host.machine("friend", "198.51.100.0/24")
    stranger = host.machine("stranger", "203.0.113.0/24")
    both = "8080:80,8080:80/udp,8081:81,8081:81/udp,8090-8129:8090-8129"
    web = publish(
        host, "web", both,
        f"198.51.100.0/24,any:8081/udp,[{BEYOND6}]/128:8080,any:8100-8101,!198.51.100.9",
    )  # fmt: skip
    web.serve(tcp=(8099, 8100))
    publish(host, "free", "9080:80")
    neighbour = host.attach("neighbour")
    found = {
        (place.name, address, port, protocol): attempt(place, address, port, protocol)
        for place, address in (
            (friend, UPLINK), (stranger, UPLINK), (host.beyond, UPLINK6),
            (host.here, "127.0.0.1"), (host.here, "::1"), (host.here, UPLINK),
            (neighbour.place, GATEWAY), (web.place, GATEWAY), (neighbour.place, "fd00:19::1"),
        )
        for port in (8080, 8081)
        for protocol in PROTOCOLS
    }  # fmt: skip
    refused = {key: how for key, how in found.items() if how != "web"}
    assert refused == {
        ("stranger", UPLINK, 8080, "tcp"): OUT,
        ("stranger", UPLINK, 8080, "udp"): OUT,
        ("stranger", UPLINK, 8081, "tcp"): OUT,
        ("beyond", UPLINK6, 8081, "tcp"): OUT6,
    }
    assert attempt(stranger, UPLINK, 8100) == "web"  # of a long range
    assert attempt(stranger, UPLINK, 8099) == OUT
    assert attempt(stranger, UPLINK, 9080) == "free"
    friend.ip("addr", "add", "198.51.100.9/24", "dev", "uplink")
    assert attempt(friend, UPLINK, 8080, source="198.51.100.9") == OUT
    healthy(host)


def test_the_host_and_neighbours_are_kept_out_by_their_words(make_host: HostMaker) -> None:
    host = dual(make_host, "routed")
    host.service()
    neighbour = host.attach("neighbour")

    def who_reaches(name: str, port: int, ingress: str) -> set[str]:
        web = publish(host, name, f"{port}:80,{port}:80/udp", ingress)
        ways = {
            "beyond": (host.beyond, UPLINK, port), "beyond6": (host.beyond, UPLINK6, port),
            "localhost": (host.here, "127.0.0.1", port), "localhost6": (host.here, "::1", port),
            "host": (host.here, web.address, 80), "host6": (host.here, UPLINK6, port),
            "neighbour": (neighbour.place, GATEWAY, port),
            "neighbour directly": (neighbour.place, web.address, 80),
            "itself": (web.place, UPLINK, port),
        }  # fmt: skip
        reached = []
        for protocol in PROTOCOLS:
            how = {
                way: attempt(place, address, at, protocol)
                for way, (place, address, at) in ways.items()
            }
            # The host itself cannot even send.
            assert set(how.values()) <= {name, OUT, OUT6, "EPERM"}, how
            reached.append({way for way, answer in how.items() if answer == name})
        assert reached[0] == reached[1]
        return reached[0]

    of_host = {"localhost", "localhost6", "host", "host6"}
    near = {"neighbour", "neighbour directly", "itself"}
    assert who_reaches("a", 8001, "none") == set()
    assert who_reaches("b", 8002, "2001:db8::/32") == {"beyond6", *of_host, *near}
    assert who_reaches("c", 8003, "!host,192.0.2.0/24") == {"beyond", *near}
    assert who_reaches("d", 8004, "!network,192.0.2.0/24") == {"beyond", *of_host}
    assert who_reaches("e", 8005, "host") == of_host
    assert who_reaches("f", 8006, "network") == near
    assert who_reaches("g", 8007, f"host,{neighbour.address}") == {*of_host, *(near - {"itself"})}
    assert who_reaches("h", 8008, "any,!network:8008") == {
        "beyond", "beyond6", *of_host, "neighbour directly"
    }  # fmt: skip
    assert who_reaches("i", 8009, "any,!host:80") == {
        "beyond", "beyond6", *(of_host - {"host"}), *near
    }  # fmt: skip
    healthy(host)


def test_a_network_holds_all_its_sandboxes_and_follows_its_list(make_host: HostMaker) -> None:
    open_ = DUAL.format(mode="routed")
    host = dual(make_host, "routed")
    service = host.service()
    stranger = host.machine("stranger", "203.0.113.0/24")
    web = publish(host, "web", "8080:80")
    narrow = publish(host, "narrow", "8081:80", "any:8081,!203.0.113.0/24,!network")
    answered = stranger.stream(UPLINK, 8080)
    assert answered.say("before") == "before"

    def found() -> list[str]:
        return [
            attempt(stranger, UPLINK, 8080), attempt(host.beyond, UPLINK, 8080),
            attempt(host.beyond, UPLINK6, 8080), attempt(stranger, UPLINK, 8081),
            attempt(host.beyond, UPLINK, 8081), attempt(web.place, narrow.address, 80),
        ]  # fmt: skip

    assert found() == ["web", "web", "web", OUT, "narrow", OUT]
    reload(host, service, open_ + f'ingress = ["{BEYOND}/32:8080"]')
    assert found() == [OUT, "web", OUT6, OUT, OUT, OUT]
    assert answered.say("still") == "still"  # a connection that is there is not judged again
    # What comes without a list of its own is held to that of the network, from its first packet.
    late = host.attach("late", ports="8082:80")
    late.serve(tcp=(80,))
    assert attempt(host.beyond, UPLINK, 8082) == OUT
    host.watcher("publish", "late", "8090:80")
    assert attempt(host.beyond, UPLINK, 8090) == OUT
    host.nft("flush", "ruleset")
    eventually(lambda: attempt(host.beyond, UPLINK, 8080) == "web")
    assert found() == [OUT, "web", OUT6, OUT, OUT, OUT]
    healthy(host)
    reload(host, service, open_)
    assert found() == ["web", "web", "web", OUT, "narrow", OUT]
    healthy(host)
