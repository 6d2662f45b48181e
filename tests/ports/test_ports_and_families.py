"""Port maps of every protocol, family and kind of host address, where the usual ones end."""

from __future__ import annotations

import json
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import packets
from tests.support.host import BEYOND, BEYOND6, UPLINK, UPLINK6, Container, Host, Place
from tests.support.packets import IPV4, IPV6, Wire, ether
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO, eventually

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.host import HostMaker

DUAL = '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
OTHER, OTHER6 = "192.0.2.3", "2001:db8::3"
EVERY = (UPLINK, OTHER, UPLINK6, OTHER6)


@pytest.fixture
def dual(make_host: HostMaker) -> Host:
    """A host with `watcher run` whose network is of both families, and with two addresses each."""
    host = make_host(DUAL)
    host.ip("addr", "add", f"{OTHER}/24", "dev", "uplink")
    host.ip("addr", "add", f"{OTHER6}/64", "dev", "uplink", "nodad")
    # With it the kernel drops what comes back to ::1, as that crosses the bridge.
    host.command("sh", "-c", "echo 0 > /proc/sys/net/bridge/bridge-nf-call-ip6tables")
    host.service()
    return host


def publish(host: Host, name: str, ports: str) -> Container:
    container = host.attach(name, ports=ports)
    container.serve(tcp=(80,), udp=(80,))
    return container


def reached(
    place: Place, port: int, *addresses: str, but: Iterable[str] = (), protocol: Any = "tcp"
) -> bool:
    """Whether `port` is answered from `place` at all `addresses`, and at none of `but`."""
    yes = [place.reach(address, port, protocol) for address in addresses]
    no = [place.reach(address, port, protocol, timeout=LATENCY_FREE_NO) for address in but]
    return None not in yes and not any(no)


# --- SCTP ------------------------------------------------------------------------------------


def test_sctp_arrives_at_the_published_port(dual: Host) -> None:
    web = dual.attach("web", ports="9999:3868/sctp")
    mine = sorted((a.split("/")[0] for a in web.place.addresses()), key=lambda a: ":" in a)
    (uplink,) = dual.ip("link", "show", "dev", "uplink")
    (theirs,) = dual.beyond.ip("link", "show", "dev", "uplink")
    wire, listener = Wire(dual, dual.beyond, "uplink"), Wire(dual, web.place)
    packet = packets.sctp_init(9999)

    wire.send(
        ether(
            theirs["address"],
            uplink["address"],
            IPV4,
            packets.ipv4(BEYOND, UPLINK, packets.SCTP, packet),
        )
    )
    frame = listener.until(lambda frame: frame[12:14] == b"\x08\x00" and frame[23] == 132)[-1]
    assert frame[26:34] == packets.ip(BEYOND) + packets.ip(mine[0])
    assert_is_sctp(frame[34:66], to=3868)

    wire.send(
        ether(
            theirs["address"],
            uplink["address"],
            IPV6,
            packets.ipv6(BEYOND6, UPLINK6, packets.SCTP, packet),
        )
    )
    frame = listener.until(lambda frame: frame[12:14] == b"\x86\xdd" and frame[20] == 132)[-1]
    assert frame[22:54] == packets.ip(BEYOND6) + packets.ip(mine[1])
    assert_is_sctp(frame[54:86], to=3868)


def assert_is_sctp(packet: bytes, *, to: int) -> None:
    source, destination = struct.unpack_from("!HH", packet)
    assert (source, destination) == (4242, to)
    assert packets.sctp_is_whole(packet)


# --- host addresses --------------------------------------------------------------------------


def test_one_line_publishes_on_every_address_of_both_families(dual: Host) -> None:
    publish(dual, "web", "8080:80")
    assert reached(dual.beyond, 8080, *EVERY)
    assert reached(dual.here, 8080, "127.0.0.1", "::1", *EVERY)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_wildcard_is_every_address_of_its_own_family(dual: Host, protocol: str) -> None:
    publish(dual, "four", f"0.0.0.0:8080:80/{protocol}")
    publish(dual, "six", f"[::]:8080:80/{protocol}")
    for address, who, seen in (
        (UPLINK, "four", BEYOND),
        (OTHER, "four", BEYOND),
        (UPLINK6, "six", BEYOND6),
        (OTHER6, "six", BEYOND6),
    ):
        assert dual.beyond.reach(address, 8080, protocol) == Answer(who, seen)  # type: ignore[arg-type]


def test_a_wildcard_of_one_family_leaves_the_other_alone(dual: Host) -> None:
    publish(dual, "four", "0.0.0.0:8080:80")
    publish(dual, "six", "[::]:8081:80")
    assert reached(dual.beyond, 8080, UPLINK, OTHER, but=(UPLINK6, OTHER6))
    assert reached(dual.beyond, 8081, UPLINK6, OTHER6, but=(UPLINK, OTHER))


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.53", "::1"])
def test_a_port_of_a_loopback_address_is_for_the_host_alone(
    dual: Host, address: str, protocol: str
) -> None:
    shown = f"[{address}]" if ":" in address else address
    publish(dual, "web", f"{shown}:8443:80/{protocol}")
    answer = dual.here.reach(address, 8443, protocol)  # type: ignore[arg-type]
    assert answer is not None
    assert answer.who == "web"
    assert reached(dual.beyond, 8443, but=EVERY, protocol=protocol)
    assert reached(dual.here, 8443, but=EVERY, protocol=protocol)


@pytest.mark.parametrize(("address", "seen"), [(OTHER, BEYOND), (OTHER6, BEYOND6)])
def test_a_port_of_one_address_leaves_the_others_to_the_host(
    dual: Host, address: str, seen: str
) -> None:
    shown = f"[{address}]" if ":" in address else address
    dual.here.serve(tcp=(8080,), address=UPLINK)
    publish(dual, "web", f"{shown}:8080:80")
    assert dual.beyond.reach(address, 8080) == Answer("web", seen)
    assert dual.beyond.reach(UPLINK, 8080) == Answer("host", BEYOND)
    assert reached(dual.here, 8080, but=("127.0.0.1", "::1"))


# --- several ---------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_range_of_either_protocol_and_both_families(dual: Host, protocol: str) -> None:
    web = dual.attach("web", ports=f"9000-9010:7000-7010/{protocol}")
    ends: dict[str, Any] = {protocol: (7000, 7010)}
    web.serve(**ends)
    for port in (9000, 9010):
        assert reached(dual.beyond, port, UPLINK, UPLINK6, protocol=protocol)
    for port in (8999, 9011):
        assert reached(dual.beyond, port, but=(UPLINK,), protocol=protocol)


def test_cnis_port_mappings_of_both_families(dual: Host) -> None:
    mappings = [
        {"hostPort": 8080, "containerPort": 80},
        {"hostPort": 8081, "containerPort": 80, "protocol": "TCP", "hostIP": OTHER6},
        {"hostPort": 5353, "containerPort": 80, "protocol": "udp", "hostIP": "::"},
    ]
    publish(dual, "web", json.dumps(mappings))
    assert reached(dual.beyond, 8080, *EVERY)
    assert reached(dual.beyond, 8081, OTHER6, but=(UPLINK, OTHER, UPLINK6))
    assert reached(dual.beyond, 5353, UPLINK6, OTHER6, but=(UPLINK, OTHER), protocol="udp")


def test_a_port_map_is_an_element_and_not_a_rule(dual: Host) -> None:
    def rules() -> list[Any]:
        items = dual.nft_list()
        return [item["rule"]["expr"] for item in items if "rule" in item]

    publish(dual, "one", "8080:80")
    before = rules()
    many = dual.attach("many", ports="20000-20999:1000-1999,20000-20999:1000-1999/udp")
    many.serve(tcp=(1999,))
    assert rules() == before
    assert reached(dual.beyond, 20999, UPLINK, UPLINK6)


# --- UDP -------------------------------------------------------------------------------------


class Resolver:
    """A client that asks by one UDP socket and does not stop, and what it is told."""

    def __init__(self, place: Place, address: str, port: int) -> None:
        self._datagrams = place.datagrams(address, port)
        self._told: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        place.host.on_close(self.stop)

    def _ask(self) -> None:
        while not self._stop.is_set():
            answer = self._datagrams.ask(timeout=0.2)
            if answer is not None:
                self._told.append(answer.who)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def last(self) -> str:
        """Who answered last."""
        return self._told[-1] if self._told else ""


def test_a_resolver_that_never_stops_asking_reaches_whoever_is_there(dual: Host) -> None:
    # The host's own server would answer by the other address.
    dual.ip("addr", "del", f"{OTHER6}/64", "dev", "uplink")
    client = dual.attach("client")
    resolvers = {
        "from outside": Resolver(dual.beyond, UPLINK, 5353),
        "from outside by IPv6": Resolver(dual.beyond, UPLINK6, 5353),
        "from the host": Resolver(dual.here, UPLINK, 5353),
        "from the host by localhost": Resolver(dual.here, "127.0.0.1", 5353),
        "from the host by localhost and IPv6": Resolver(dual.here, "::1", 5353),
        "from a neighbour": Resolver(client.place, "172.19.0.1", 5353),
        "from a neighbour by IPv6": Resolver(client.place, "fd00:19::1", 5353),
    }

    def all_reach(who: str) -> bool:
        lost = {name: told for name, r in resolvers.items() if (told := r.last()) != who}
        assert not lost, lost
        return True

    for name in ("first", "second"):
        publish(dual, name, "5353:80/udp")
        eventually(lambda who=name: all_reach(who), what=f"all resolvers reach {name}")  # type: ignore[misc]
        container = dual.container(name)
        dual.delete(name)
        dual.gone(container)
    with dual.here.serve(udp=(5353,)):
        eventually(lambda: all_reach("host"), what="all resolvers reach the host's own server")


@pytest.mark.parametrize("address", ["127.0.0.53", "::1", OTHER])
def test_a_resolver_of_one_address_reaches_the_new_container(dual: Host, address: str) -> None:
    shown = f"[{address}]" if ":" in address else address
    asking = dual.here.datagrams(address, 53)
    assert asking.ask(timeout=0.05) is None
    for name in ("first", "second"):
        publish(dual, name, f"{shown}:53:80/udp")
        # One datagram may be lost; a flow that still leads to the other is kept by each new one.
        answer = eventually(lambda: asking.ask(timeout=0.2))
        assert answer is not None
        assert answer.who == name
        container = dual.container(name)
        dual.delete(name)
        dual.gone(container)
