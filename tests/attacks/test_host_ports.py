"""A port that a process of the host listens on is not to be had, however it is asked for."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.support import traffic
from tests.support.host import GATE_OFF, Host

if TYPE_CHECKING:
    from tests.support.host import HostMaker

DUAL = '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM


def listen(
    host: Host, address: str, port: int, kind: int = STREAM, *, only6: bool | None = None
) -> None:
    """A socket of a process of the host, bound to one address, as servers bind them."""
    server = traffic.make_socket(host.here.netns, traffic.family_of(address), kind)
    host.on_close(server.close)
    if only6 is not None:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only6)
    server.bind((address, port))
    if kind == STREAM:
        server.listen()


def refused(host: Host, ports: str, map_: str, listener: str) -> None:
    """A container that publishes `ports` gets none of them, and is told which one is in the way."""
    host.run("thief", ports=ports)
    reason = host.fails("thief")
    assert f"a process of the host listens on {listener}" in reason
    assert map_ in reason
    assert host.elements() == []
    host.delete("thief")


@pytest.fixture
def server(make_host: HostMaker) -> Host:
    """A host with a service and networks of both families."""
    host = make_host(GATE_OFF + DUAL)
    host.service()
    return host


def test_a_port_taken_is_not_hidden_behind_another_map_of_it(server: Host) -> None:
    listen(server, "127.0.0.1", 5432)
    for ports in (
        "127.0.0.1:5432:80",
        "127.0.0.1:5432:80,127.0.0.2:5432:80",
        "127.0.0.2:5432:80,127.0.0.1:5432:80",
        "127.0.0.1:5432:80,192.0.2.2:5432:80,[::1]:5432:80",
        "[::1]:5432:80,127.0.0.3:5432:80,127.0.0.1:5432:80,127.0.0.4:5432:80",
        "127.0.0.1:5430-5440:80-90,127.0.0.2:5430-5440:80-90",
        "127.0.0.2:5400-5500:80-180,127.0.0.1:5432:80,127.0.0.3:5400-5500:80-180",
        "0.0.0.0:5432:80,[::]:5432:80",
        "[::]:5432:80,0.0.0.0:5432:80",
    ):
        refused(server, ports, ":5432:", "127.0.0.1 port 5432")


def test_the_first_map_in_the_way_is_named(server: Host) -> None:
    listen(server, "127.0.0.1", 5432)
    listen(server, "127.0.0.2", 5433)
    refused(
        server,
        "127.0.0.2:5432-5433:80-81,127.0.0.1:5432:80",
        "127.0.0.2:5433:81/tcp",
        "127.0.0.2 port 5433",
    )


def test_udp_beside_tcp(server: Host) -> None:
    listen(server, "127.0.0.53", 53, DATAGRAM)
    refused(
        server,
        "127.0.0.53:53:53/tcp,127.0.0.53:53:53/udp,127.0.0.54:53:53/udp",
        "127.0.0.53:53:53/udp",
        "127.0.0.53 port 53",
    )


def test_a_listener_of_ipv6_that_is_bound_to_an_ipv4_address(server: Host) -> None:
    for kind, name in ((STREAM, "tcp"), (DATAGRAM, "udp")):
        listen(server, "::ffff:127.0.0.1", 8080, kind)
        listen(server, "::ffff:0.0.0.0", 8081, kind)
        both = f"127.0.0.1:8080:80/{name},127.0.0.2:8080:80/{name}"
        refused(server, both, f"127.0.0.1:8080:80/{name}", "127.0.0.1 port 8080")
        refused(server, f"127.0.0.2:8081:80/{name}", f":8081:80/{name}", "0.0.0.0 port 8081")


def test_a_listener_on_any_address_of_both_families(server: Host) -> None:
    listen(server, "::", 8080, only6=False)
    refused(server, "127.0.0.1:8080:80,[::1]:8080:80", "127.0.0.1:8080:80/tcp", ":: port 8080")


def test_what_no_listener_takes_is_published(server: Host) -> None:
    listen(server, "::", 8080, only6=True)
    listen(server, "::ffff:127.0.0.3", 8080)
    web = server.attach("web", ports="127.0.0.1:8080:80,127.0.0.2:8080:80,192.0.2.2:8080:80")
    web.serve(tcp=(80,))
    for address in ("127.0.0.1", "127.0.0.2", "192.0.2.2"):
        answer = server.here.reach(address, 8080)
        assert answer is not None
        assert answer.who == "web"
