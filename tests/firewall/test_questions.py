"""Questions of sandboxes to port 53 of their gateway: the name service gets them, and no others."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.config.test_reload import reload
from tests.support import packets, traffic
from tests.support.flows import flows_of
from tests.support.host import GATEWAY, UPLINK, UPLINK6, Container, Host
from tests.support.packets import IPV4, IPV6, Wire, ether
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO, eventually
from watcher.model.names import DNS_PORT, PORT

if TYPE_CHECKING:
    from collections.abc import Iterator

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
_SO_RCVBUFFORCE = 33
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
    found = (place.reach(address, port, protocol) for protocol in PROTOCOLS)
    return {None if answer is None else answer.who for answer in found}


def nobody_answers(place: Place, address: str, port: int = DNS_PORT) -> bool:
    """Whether nobody answers there, by UDP or by TCP."""
    found = (place.reach(address, port, p, timeout=LATENCY_FREE_NO) for p in PROTOCOLS)
    return not any(found)


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
        assert nobody_answers(back.place, gateway, PORT)
        assert host.here.reach(gateway, PORT, source=gateway) == Answer("names", gateway)


def test_no_other_machine_asks(make_host: HostMaker) -> None:
    host = make_host(network())
    host.attach("web")
    for route, via in zip(("172.19.0.0/16", "fd00:19::/64"), UPLINKS, strict=True):
        host.beyond.run("ip", "route", "add", route, "via", via)
    answering(host)
    for gateway in GATEWAYS:
        assert nobody_answers(host.beyond, gateway, PORT)
        assert nobody_answers(host.beyond, gateway)
    serve(host, "host", DNS_PORT, *GATEWAYS)
    serve(host, "host", PORT, UPLINK)  # at another address it is a port like any other
    assert answers(host.beyond, GATEWAY) == answers(host.beyond, UPLINK, PORT) == {"host"}


@pytest.mark.parametrize(
    "ports",
    ["53:80,53:80/udp", ",".join(f"{g}:53:80,{g}:53:80/udp" for g in (GATEWAY, f"[{GATEWAY6}]"))],
    ids=["every-address", "the-gateways"],
)
def test_no_port_map_takes_the_questions_of_others(make_host: HostMaker, ports: str) -> None:
    host = make_host(network() + BACK)
    web, back = attach(host, "web"), attach(host, "back", "back")
    answering(host)
    thief = host.attach("thief", ports=ports)
    thief.serve(tcp=(80,), udp=(80,))
    for gateway in GATEWAYS:
        assert answers(web.place, gateway) == answers(thief.place, gateway) == {"names"}
        assert answers(back.place, gateway) == {"thief"}


@pytest.mark.parametrize("kind", ["bridge", "routed", "internal"])
def test_without_a_name_service_the_refusal_is_quick(make_host: HostMaker, kind: str) -> None:
    host = make_host(network(KINDS[kind]))
    web = attach(host, "web")
    for gateway in GATEWAYS:
        for type_ in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with traffic.make_socket(web.place.netns, traffic.family_of(gateway), type_) as asking:
                asking.settimeout(20)
                with pytest.raises(ConnectionRefusedError):
                    ask(asking, gateway)


def ask(asking: socket.socket, gateway: str) -> bytes:
    asking.connect((gateway, DNS_PORT))
    asking.send(b"a question")
    return asking.recv(100)


class Hearing:
    """A UDP socket of the host at a gateway's port for questions, and what it hears."""

    def __init__(self, host: Host, gateway: str) -> None:
        family = traffic.family_of(gateway)
        self._socket = traffic.make_socket(host.here.netns, family, socket.SOCK_DGRAM)
        host.on_close(self._socket.close)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 27)
        self._socket.bind((gateway, PORT))
        self._socket.settimeout(packets.PATIENCE)

    def waiting(self) -> Iterator[bytes]:
        """The datagrams that are there."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                yield self._socket.recv(2048)

    def until(self, last: bytes) -> list[bytes]:
        """All datagrams up to `last`."""
        heard = []
        while last not in heard:
            heard.append(self._socket.recv(2048))
        return heard


def mac_of(place: Place, link: str) -> str:
    (found,) = place.ip("link", "show", "dev", link)
    return str(found["address"])


def test_nobody_asks_as_the_host(make_host: HostMaker) -> None:
    host = make_host(network("guard = false\n"))
    web = host.attach("web")
    # Else the kernel itself drops IPv4 from an address of the host; of IPv6 it never does.
    for link in ("all", "netns0"):
        host.command("sh", "-c", f"echo 1 > /proc/sys/net/ipv4/conf/{link}/accept_local")
        host.command("sh", "-c", f"echo 0 > /proc/sys/net/ipv4/conf/{link}/rp_filter")
    wire = Wire(host, web.place)
    to, source = mac_of(host.here, "netns0"), mac_of(web.place, "eth0")
    for gateway, own, kind in zip(GATEWAYS, addresses(web), (IPV4, IPV6), strict=True):
        hearing, forged, end = Hearing(host, gateway), packets.mark(), packets.mark()
        for asker, port, text in (
            (gateway, PORT, forged),
            (gateway, DNS_PORT, forged),
            (own, PORT, end),
        ):
            wire.send(ether(source, to, kind, packets.udp(asker, gateway, port, text)))
        assert hearing.until(end) == [end]


def test_nobody_asks_by_the_link_of_another(make_host: HostMaker) -> None:
    free = '[network.free]\nmode = "routed"\nbridge = "free0"\nguard = false\n'
    subnets = 'subnets = ["172.20.0.0/16", "fd00:20::/64"]\n'
    host = make_host(network('mode = "routed"\n') + free + subnets)
    web, free_one = attach(host, "web"), attach(host, "free", "free")
    for link in ("all", free_one.veth):
        host.command("sh", "-c", f"echo 0 > /proc/sys/net/ipv4/conf/{link}/rp_filter")
    wires = Wire(host, free_one.place), Wire(host, web.place)
    to, macs = mac_of(host.here, web.veth), [mac_of(c.place, "eth0") for c in (free_one, web)]
    for gateway, own, kind in zip(GATEWAYS, addresses(web), (IPV4, IPV6), strict=True):
        hearing, forged, end = Hearing(host, gateway), packets.mark(), packets.mark()
        for wire, mac, text in zip(wires, macs, (forged, end), strict=True):
            for port in (DNS_PORT, PORT):
                packet = packets.udp(own, gateway, port, text, source_port=1000 + port)
                wire.send(ether(mac, to, kind, packet))
        assert set(hearing.until(end)) == {end}


@pytest.mark.parametrize("kind", ["bridge", "unguarded"])
def test_who_floods_is_held_back(make_host: HostMaker, kind: str) -> None:
    host = make_host(network(KINDS[kind]) + BACK)
    loud, quiet = attach(host, "loud"), attach(host, "quiet", "default")
    back = attach(host, "back", "back")
    hearing = Hearing(host, GATEWAY)
    flood, last = [b"%d" % n for n in range(20000)], b"quiet"
    asking = [
        traffic.make_socket(c.place.netns, socket.AF_INET, socket.SOCK_DGRAM) for c in (loud, quiet)
    ]
    for one in asking:
        host.on_close(one.close)
        one.connect((GATEWAY, DNS_PORT))

    def held_back() -> bool:
        for text in flood:
            asking[0].send(text)
        if kind == "unguarded":  # it shares what there is with its neighbours
            return len(list(hearing.waiting())) < len(flood)
        asking[1].send(last)
        return len(hearing.until(last)) < len(flood)

    eventually(held_back, what="less than all of it")
    serve(host, "names", PORT, "172.20.0.1")
    assert answers(back.place, "172.20.0.1") == {"names"}
    assert "askers4" in host.nft("list", "ruleset").stdout
    assert host.watcher("sync").stdout == "nothing to do\n"


def test_names_are_switched_on_and_off_while_containers_run(make_host: HostMaker) -> None:
    off, on = network("names = false\n"), network()
    host = make_host(off)
    service = host.service()
    web = host.attach("web")
    serve(host, "host", DNS_PORT, *GATEWAYS)
    answering(host)
    asking = [web.place.datagrams(gateway, DNS_PORT) for gateway in GATEWAYS]
    assert "29053" not in host.nft("list", "ruleset").stdout
    assert {answer and answer.who for answer in (one.ask() for one in asking)} == {"host"}
    reload(host, service, on)

    def all_told(who: str) -> bool:
        return {answer and answer.who for answer in (one.ask() for one in asking)} == {who}

    eventually(lambda: all_told("names"), what="the name service answers by the same sockets")
    assert {who for gateway in GATEWAYS for who in answers(web.place, gateway)} == {"names"}
    reload(host, service, off)
    assert {who for gateway in GATEWAYS for who in answers(web.place, gateway)} == {"host"}
    assert "29053" not in host.nft("list", "ruleset").stdout


def test_an_answer_that_comes_late_does_not_keep_the_questions(make_host: HostMaker) -> None:
    """Its question has no flow any more, so that it would begin one."""
    off, on = network("names = false\n"), network()
    host = make_host(off)
    service = host.service()
    web = host.attach("web")
    answering(host)
    asking, asked = [], []
    for gateway in GATEWAYS:
        server = host.here.bound(gateway, DNS_PORT)
        client = traffic.make_socket(web.place.netns, server.family, socket.SOCK_DGRAM)
        host.on_close(client.close)
        client.settimeout(traffic.ENOUGH)
        client.connect((gateway, DNS_PORT))
        client.send(b"a question")
        asking.append(client)
        asked.append((server, server.recvfrom(100)[1]))
    before = flows_of(host)
    assert len(before) >= len(GATEWAYS)
    reload(host, service, on)
    eventually(lambda: not before & flows_of(host), what="the end of the flows of before")
    for server, peer in asked:
        with pytest.raises(PermissionError):
            server.sendto(b"a late answer", peer)
    for client in asking:
        client.send(b"a question")
        assert client.recv(100).startswith(b"names ")
