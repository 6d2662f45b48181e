"""The ways by which a sandbox that is held to a list of sources can be reached at all."""

from __future__ import annotations

import socket
from typing import Final

from tests.support import traffic
from tests.support.guarded import DUAL
from tests.support.host import BEYOND, GATEWAY, UPLINK, UPLINK6, Host, HostMaker, Place
from tests.support.refused import REJECTED, attempt

OUT: Final = REJECTED[4]
NETWORKS: Final = """
[network.default]
mode = "routed"
[network.front]
bridge = "front0"
subnets = ["172.21.0.0/24"]
reach = ["back"]
[network.back]
bridge = "back0"
mode = "routed"
subnets = ["172.22.0.0/24"]
ingress = ["any:80", "!172.21.0.3", "!network"]
"""


def sender(place: Place, source: str) -> socket.socket:
    """A UDP socket of `place` that sends from `source`."""
    sock = traffic.make_socket(place.netns, socket.AF_INET, socket.SOCK_DGRAM)
    place.host.on_close(sock.close)
    sock.bind((source, 0))
    return sock


def write(host: Host, setting: str) -> None:
    """Write a setting of the kernel, `net/… = value`."""
    key, _, value = setting.partition(" = ")
    host.command("sh", "-c", f"echo {value} > /proc/sys/{key}")


def test_other_networks_are_sources_like_any(make_host: HostMaker) -> None:
    host = make_host(NETWORKS)
    write(host, "net/ipv4/icmp_ratelimit = 0")
    host.service()
    db = host.attach("db", annotations={"io.watcher.network": "back"}, ports="8080:80")
    db.serve(tcp=(80, 81))
    first = host.attach("first", annotations={"io.watcher.network": "front"})
    second = host.attach("second", annotations={"io.watcher.network": "front"})
    assert (first.address, second.address) == ("172.21.0.2", "172.21.0.3")
    neighbour = host.attach("neighbour", annotations={"io.watcher.network": "back"})
    assert attempt(first.place, db.address, 80) == "db"
    assert attempt(first.place, db.address, 81) == OUT
    assert attempt(second.place, db.address, 80) == OUT
    assert attempt(neighbour.place, db.address, 80) == OUT
    assert attempt(host.beyond, UPLINK, 8080) == OUT  # the list has port 80, and 8080 was dialled
    # A network that is connected later has a list as well, and its own.
    plain = host.attach("plain")
    plain.serve(tcp=(80,))
    assert attempt(first.place, plain.address, 80, timeout=0.4) == "nothing"
    host.watcher("connect", "plain", "back")
    (inside,) = (a for a in plain.place.addresses("eth1") if ":" not in a)
    assert attempt(first.place, inside.split("/")[0], 80) == "plain"
    assert attempt(second.place, inside.split("/")[0], 80) == OUT
    host.watcher("disconnect", "plain", "back")
    assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"


def test_nobody_outside_passes_for_a_neighbour(make_host: HostMaker) -> None:
    host = make_host('[network.default]\nmode = "routed"\n')
    for link in ("all", "uplink"):
        write(host, f"net/ipv4/conf/{link}/rp_filter = 0")
    host.service()
    ingress = {"io.watcher.ingress": f"{BEYOND},172.19.0.9"}
    web = host.attach("web", ports="8080:80/udp", annotations=ingress)
    arrives = traffic.make_socket(web.place.netns, socket.AF_INET, socket.SOCK_DGRAM)
    host.on_close(arrives.close)
    arrives.bind((web.address, 80))
    arrives.settimeout(10)
    host.beyond.ip("addr", "add", "172.19.0.9/32", "dev", "lo")
    sender(host.beyond, "172.19.0.9").sendto(b"claims to be a neighbour", (UPLINK, 8080))
    sender(host.beyond, BEYOND).sendto(b"is who it is", (UPLINK, 8080))
    assert arrives.recv(100) == b"is who it is"


def test_a_protocol_without_ports_is_judged_by_its_entries(make_host: HostMaker) -> None:
    host = make_host('[network.default]\nmode = "routed"\n')
    host.service()
    quiet = host.attach("quiet", annotations={"io.watcher.ingress": "network:80,any/icmp,!host"})
    friend = host.attach("friend")
    quiet.serve(tcp=(80,))
    assert attempt(friend.place, quiet.address, 80) == "quiet"
    ping = ("ping", "-c", "1", "-W")
    assert "1 packets received" in friend.exec(*ping, "10", quiet.address).stdout
    assert host.here.run("busybox", *ping, "1", quiet.address, check=False).returncode == 1
    assert "1 packets received" in quiet.exec(*ping, "10", GATEWAY).stdout


def test_who_tries_often_hears_of_it_each_time(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.service()
    host.attach("web", ports="8080:80", annotations={"io.watcher.ingress": "network"})
    host.attach("full", ports="8081:80", annotations={"io.watcher.connections": "1"})
    for protocol, often in (("udp", 1), ("tcp", 10)):
        for address, error in ((UPLINK, REJECTED[4]), (UPLINK6, REJECTED[6])):
            heard = {attempt(host.beyond, address, 8080, protocol) for _ in range(often)}  # type: ignore[arg-type]
            assert heard == {error}, (protocol, address)
    stays = traffic.make_socket(host.beyond.netns, socket.AF_INET, socket.SOCK_STREAM)
    with stays:
        host.container("full").serve(tcp=(80,))
        stays.connect((UPLINK, 8081))
        assert {attempt(host.beyond, UPLINK, 8081) for _ in range(10)} == {REJECTED[4]}
