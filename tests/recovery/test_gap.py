"""Flows that began while the rules were missing: somebody goes on sending, and is answered again.

The kernel keeps such a flow as it was made, without the rules, for as long as somebody sends.
"""

from __future__ import annotations

import socket
from signal import SIGCONT, SIGSTOP
from typing import TYPE_CHECKING, Final

import pytest

from tests.support import traffic
from tests.support.flows import flows_of
from tests.support.host import BEYOND, BEYOND6, UPLINK, UPLINK6, Container, Host
from tests.support.traffic import Answer, Datagrams
from tests.support.waiting import LATENCY_FREE_NO, eventually
from watcher.model.names import PORT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.host import HostMaker

DUAL: Final = '[network.default]\nmode = "{}"\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
TCP: Final = "8080:80"
BOTH: Final = TCP + ",5353:80/udp,6000-6100:6000-6100/udp,127.0.0.1:5454:81/udp,[::1]:5454:81/udp"
RELOAD: Final = """
flush ruleset
table inet own {
    chain input { type filter hook input priority 0; policy accept; ct state invalid drop; }
    chain post { type nat hook postrouting priority 100; oifname "elsewhere" masquerade; }
}
"""
"""A firewall's rules: with them, connections are tracked and translated in the gap as well."""

FAMILIES: Final = (BEYOND, UPLINK), (BEYOND6, UPLINK6)


def by_service(host: Host) -> Iterator[None]:
    service = host.service()
    yield
    service.signal(SIGSTOP)
    yield
    service.signal(SIGCONT)
    yield


def by_start(host: Host) -> Iterator[None]:
    yield
    yield
    host.service()
    yield


def by_sync(host: Host) -> Iterator[None]:
    yield
    yield
    host.watcher("sync")
    yield


HEALERS: Final = {"service": by_service, "start": by_start, "sync": by_sync}
"""Who heals; each stops after what comes before the containers, the gap, and its end."""

CASES: Final = (
    ("bridge", "service", BOTH),
    ("bridge", "start", TCP),
    ("routed", "sync", BOTH),
)


class Clients:
    """Everybody whose flow can begin in a gap, each with the answer that it has otherwise."""

    def __init__(self, host: Host, web: Container, ports: str) -> None:
        self.asking: dict[str, tuple[Datagrams, Answer]] = {}
        for there, here in FAMILIES:
            self._add("out", web.place.datagrams(there, 53), "beyond", here)
            gateway = "172.19.0.1" if "." in here else "fd00:19::1"
            self._add("question", web.place.datagrams(gateway, 53), "names", "")
            if ports != BOTH:
                continue
            localhost = "127.0.0.1" if "." in here else "::1"
            for port in (5353, 6050):
                self._add(f"beyond {port}", host.beyond.datagrams(here, port), "web", there)
            self._add("itself", web.place.datagrams(here, 5353), "web", "")
            self._add("host", host.here.datagrams(here, 5353), "web", here)
            self._add("localhost", host.here.datagrams(localhost, 5454), "web", "")

    def _add(self, name: str, client: Datagrams, who: str, seen: str) -> None:
        self.asking[f"{name} {client.version}"] = client, Answer(who, seen)

    def unanswered(self) -> list[str]:
        """Who asks and is not answered as it should be."""
        return [
            name
            for name, (client, answer) in self.asking.items()
            if (said := client.ask(LATENCY_FREE_NO)) is None
            or said.who != answer.who
            or answer.seen not in ("", said.seen)
        ]


def syn(web: Container, there: str) -> socket.socket:
    """A TCP socket that begins to connect, and goes on trying."""
    asking = traffic.make_socket(web.place.netns, traffic.family_of(there), socket.SOCK_STREAM)
    web.host.on_close(asking.close)
    asking.setblocking(False)
    asking.connect_ex((there, 80))
    return asking


@pytest.mark.parametrize(("mode", "healer", "ports"), CASES, ids=HEALERS)
def test_who_began_to_send_in_a_gap_is_answered_again(
    make_host: HostMaker, mode: str, healer: str, ports: str
) -> None:
    host = make_host(DUAL.format(mode))
    # With 1, the kernel drops answers to ::1 on bridges.
    host.command("sh", "-c", "echo 0 > /proc/sys/net/bridge/bridge-nf-call-ip6tables")
    healing = HEALERS[healer](host)
    next(healing)
    web = host.attach("web", ports=ports)
    # Else a flow that has been answered once ends after 30 s, however long the rest takes.
    host.command("sh", "-c", "echo 600 > /proc/sys/net/netfilter/nf_conntrack_udp_timeout")
    web.serve(tcp=(80,), udp=(80, 81, 6050))
    host.beyond.serve(tcp=(80,), udp=(53,))
    host.here.serve(tcp=(22,), udp=(53, 123))
    for gateway in ("172.19.0.1", "fd00:19::1"):
        names = traffic.Echo(host.here.netns, "names", udp=(PORT,), address=gateway)
        host.on_close(names.close)
    # What has to stay: right flows of the sandbox's, and flows that are none of its business.
    before = [host.beyond.stream(here, 8080) for _, here in FAMILIES]
    before += [web.place.stream(there, 80) for there, _ in FAMILIES]
    before += [host.here.stream(there, 80) for there, _ in FAMILIES]
    before += [host.beyond.stream(here, 22) for _, here in FAMILIES]
    known = (53, 5353) if ports == BOTH else (53,)
    lasting = [host.beyond.datagrams(here, port) for _, here in FAMILIES for port in known]
    lasting += [web.place.datagrams(there, 53) for there, _ in FAMILIES]
    lasting += [host.here.datagrams(there, 53) for there, _ in FAMILIES]
    lasting += [web.place.datagrams("172.19.0.1", 123)]
    assert all(client.ask() for client in lasting)
    right = flows_of(host)

    next(healing)
    host.command("nft", "-f", "-", stdin=RELOAD)
    clients = Clients(host, web, ports)
    assert len(clients.unanswered()) == len(clients.asking)
    connecting = [syn(web, there) for there, _ in FAMILIES]
    next(healing)

    def answered() -> bool:
        assert clients.unanswered() == []
        return True

    eventually(answered)
    for one in connecting:
        one.settimeout(20)
        eventually(one.getpeername, what="a connection that was begun in the gap")
        assert one.recv(100) == b"beyond %s\n" % (UPLINK if one.family == 2 else UPLINK6).encode()
    assert right <= flows_of(host)
    assert all(stream.say("on and on") == "on and on" for stream in before)
    assert all(client.ask() for client in lasting)


def test_a_connection_that_a_process_of_the_host_still_has_goes_on(served: Host) -> None:
    served.attach("first")  # from now on, connections are tracked
    listening = traffic.make_socket(served.here.netns, socket.AF_INET, socket.SOCK_STREAM)
    asking = traffic.make_socket(served.beyond.netns, socket.AF_INET, socket.SOCK_STREAM)
    with listening, asking:
        listening.bind((UPLINK, 8080))
        listening.listen()
        asking.connect((UPLINK, 8080))
        stream, _ = listening.accept()
        listening.close()
        with stream:
            served.attach("web", ports="8080:80").serve(tcp=(80,))
            assert served.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
            served.watcher("sync")
            asking.settimeout(10)
            asking.sendall(b"on")
            assert stream.recv(10) == b"on"
            stream.sendall(b"and on")
            assert asking.recv(10) == b"and on"


def test_who_never_stops_sending_is_answered_after_a_reload(served: Host) -> None:
    web = served.attach("web", ports="5353:80/udp")
    web.serve(udp=(80,))
    served.beyond.serve(udp=(53,))
    sending = served.beyond.datagrams(UPLINK, 5353), web.place.datagrams(BEYOND, 53)
    for _ in range(3):
        served.command("nft", "-f", "-", stdin=RELOAD)
        for client in sending:
            client.ask(0.01)  # mostly before the rules are back
        for client in sending:
            eventually(lambda client=client: client.ask(0.05))  # type: ignore[misc]
