"""Where a sandbox may open connections to: packets that arrive, and those that are rejected."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import pytest

from tests.config.test_reload import reload
from tests.support import packets
from tests.support.dialled import NO, REJECTED, REJECTED6, RESET, dial, talkative
from tests.support.guarded import GATEWAY6, MODES, in_mode
from tests.support.host import BEYOND, BEYOND6, GATEWAY, UPLINK, UPLINK6, Container, Host
from tests.support.packets import IPV4, IPV6, Wire, ether
from tests.support.tampering import NOTHING
from tests.support.traffic import Answer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import HostMaker

LIST: Final = ",".join((
    f"{BEYOND}:443/tcp", f"{BEYOND}:53-60/udp", f"[{BEYOND6}]:443/tcp", f"{BEYOND}:7/sctp",
    f"[{BEYOND6}]:7/sctp", f"{BEYOND}/icmp", f"{UPLINK}:8443/tcp", f"{UPLINK}:2222/tcp",
    "any:4444/udp", "!2001:db8::/32:4444",
))  # fmt: skip
OTHERS: Final = (2, 4, 41, 47, 50, 51, 89, 255)
"""IGMP, IP in IP, GRE, ESP, AH, OSPF, and a number that is reserved."""

BACK: Final = '[network.back]\nbridge = "back0"\nsubnets = ["172.22.0.0/24"]\n'


def limited(host: Host, name: str = "limited", egress: str = LIST) -> Container:
    return host.attach(name, annotations={"io.watcher.egress": egress})


def pings(container: Container, address: str, seconds: int = 10) -> bool:
    done = container.exec("ping", "-c", "1", "-W", str(seconds), address, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("mode", MODES)
def test_only_what_the_list_has_is_reached(make_host: HostMaker, mode: str) -> None:
    host = make_host(f"{in_mode(mode)}{BACK}")
    talkative(host)
    host.service()
    host.beyond.serve(tcp=(80, 443), udp=(53, 61, 4444))
    host.here.serve(tcp=(22, 2222), udp=(4444,))
    web = host.attach("web", ports="8443:443,8080:80")
    web.serve(tcp=(80, 443))
    one, free = limited(host), host.attach("free")
    for address, port, protocol, wanted in (
        (BEYOND, 443, "tcp", "open"),
        (BEYOND, 80, "tcp", REJECTED),
        (BEYOND, 53, "udp", "open"),
        (BEYOND, 61, "udp", REJECTED),
        (BEYOND, 53, "tcp", REJECTED),
        (BEYOND6, 443, "tcp", "open"),
        (BEYOND6, 80, "tcp", RESET),
        (BEYOND6, 61, "udp", REJECTED6),
        (BEYOND, 4444, "udp", "open"),
        (BEYOND6, 4444, "udp", REJECTED6),
        # the host, by each of its addresses
        (UPLINK, 2222, "tcp", "open"),
        (UPLINK, 22, "tcp", REJECTED),
        (GATEWAY, 22, "tcp", REJECTED),
        (GATEWAY, 2222, "tcp", REJECTED),
        (GATEWAY, 4444, "udp", "open"),
        (GATEWAY6, 22, "tcp", RESET),
        (UPLINK6, 22, "tcp", RESET),
        # what is published, as it was dialled
        (UPLINK, 8443, "tcp", "open"),
        (UPLINK, 8080, "tcp", REJECTED),
    ):
        found = dial(one, address, port, protocol)  # type: ignore[arg-type]
        assert found == wanted or {found, wanted} == set(NO), (address, port, protocol)
        if port != 53 or protocol != "tcp":
            assert dial(free, address, port, protocol) in ("open", "ECONNREFUSED")  # type: ignore[arg-type]
    if mode == "routed":
        assert dial(one, web.address, 443) in NO
        assert dial(web, one.address, 443) == "ECONNREFUSED"
    assert pings(one, BEYOND)
    assert not pings(one, UPLINK, seconds=1)
    assert pings(free, UPLINK)
    assert host.watcher("sync", "--dry-run").stdout == NOTHING


@pytest.mark.parametrize("mode", MODES)
def test_sctp_and_whatever_else_has_no_ports(make_host: HostMaker, mode: str) -> None:
    host = make_host(in_mode(mode))
    host.service()
    one = limited(host)
    link = one.place.link("eth0")
    assert link is not None
    router = host.here.link("netns0" if mode == "bridge" else one.veth)
    assert router is not None
    wire, beyond = Wire(host, one.place), Wire(host, host.beyond, "uplink")
    four, six = sorted((a.split("/")[0] for a in one.place.addresses()), key=lambda a: ":" in a)
    mark = packets.mark()
    for kind, source, target in ((IPV4, four, BEYOND), (IPV6, six, BEYOND6)):
        make = packets.ipv4 if kind == IPV4 else packets.ipv6
        sent = [make(source, target, number, bytes(8) + mark) for number in OTHERS]
        sent += [make(source, target, 132, packets.sctp_init(port)) for port in (8, 7)]
        for packet in sent:
            wire.send(ether(link["address"], router["address"], kind, packet))
        heard = beyond.until(lambda frame: b"\0\0\xca\xfe" in frame)
        assert not [frame for frame in heard if mark in frame]
        assert b"\0\x07" in heard[-1][34:58]


def test_answers_pass(make_host: HostMaker) -> None:
    host = make_host(in_mode("bridge"))
    host.service()
    asked = {"io.watcher.egress": "none"}
    one = host.attach("one", ports="8080:80,5353:53/udp", annotations=asked)
    one.serve(tcp=(80,), udp=(53,))
    for address, seen in ((UPLINK, BEYOND), (UPLINK6, BEYOND6)):
        assert host.beyond.reach(address, 8080) == Answer("one", seen)
        assert host.beyond.reach(address, 5353, "udp") == Answer("one", seen)
    assert host.here.reach(one.address, 80) == Answer("one", GATEWAY)
    assert host.here.reach("127.0.0.1", 8080) is not None
    # Its errors are answers as well: nobody listens there.
    host.watcher("publish", "one", "5354:54/udp")
    assert dial(host.beyond, UPLINK, 5354, "udp") == "ECONNREFUSED"
    # The name service passes: nobody is there, and says so.
    assert dial(one, GATEWAY, 53, "udp") == "ECONNREFUSED"
    assert dial(one, GATEWAY6, 53) == "ECONNREFUSED"
    assert dial(one, BEYOND, 53, "udp") == REJECTED


def test_a_networks_list_counts_as_well(make_host: HostMaker) -> None:
    network = f'{in_mode("routed")}egress = ["any:443/tcp", "any:80/tcp"]\n'
    host = make_host(network)
    talkative(host)
    service = host.service()
    host.beyond.serve(tcp=(22, 80, 443))
    plain = host.attach("plain")
    narrowed = limited(host, "narrowed", "any:443/tcp,any:22/tcp")
    for container, opened in ((plain, (80, 443)), (narrowed, (443,))):
        for port in (22, 80, 443):
            wanted = ("open",) if port in opened else NO
            assert dial(container, BEYOND, port) in wanted, (container.id, port)
    stream = plain.place.stream(BEYOND, 80)

    reload(host, service, network.replace('"any:80/tcp"', '"any:22/tcp"'))
    assert dial(plain, BEYOND, 80) in NO
    assert dial(plain, BEYOND, 22) == "open"
    assert dial(narrowed, BEYOND, 22) == "open"
    assert stream.say("still there") == "still there"
    # An element that is gone opens nothing.
    service.signal(signal.SIGSTOP)
    for name, key in (
        ("egress4", plain.address),
        ("limited4", f"{plain.address} . {plain.address}"),
    ):
        host.nft("delete", "element", "inet", "watcher", name, f"{{ {key} }}")
    assert dial(plain, BEYOND, 443) in NO
    service.signal(signal.SIGCONT)
    eventually(lambda: dial(plain, BEYOND, 443) == "open")

    reload(host, service, in_mode("routed"))
    assert dial(plain, BEYOND, 80) == "open"
    assert dial(narrowed, BEYOND, 80) in NO
    assert host.watcher("sync", "--dry-run").stdout == NOTHING


def test_lists_outlive_who_was_held_to_them(make_host: HostMaker) -> None:
    host = make_host(in_mode("bridge"))
    talkative(host)
    host.service()
    host.beyond.serve(tcp=(80, 443))

    def works(name: str) -> Container:
        one = limited(host, name)
        assert dial(one, BEYOND, 443) == "open"
        assert dial(one, BEYOND, 80) in NO
        return one

    def boxes() -> int:
        return host.nft("list", "set", "inet", "watcher", "to4").stdout.count(BEYOND)

    limited(host, "keeper", "any:22/tcp")
    first = works("first")
    before = boxes()
    host.delete("first")
    host.gone(first)
    assert boxes() == before
    assert host.watcher("sync", "--dry-run").stdout == NOTHING
    works("second")
    # Another process makes the table anew, with the lists that are needed then.
    host.delete("second")
    host.nft("delete", "rule", "inet", "watcher", "judge", "handle", handle(host))
    host.watcher("sync")
    works("third")
    host.nft("flush", "ruleset")
    eventually(lambda: boxes() == before)
    assert dial(Container(host, "third"), BEYOND, 80) in NO
    assert host.watcher("sync", "--dry-run").stdout == NOTHING
    # What somebody has added to a list goes.
    for text in host.nft("list", "map", "inet", "watcher", "egress4").stdout.split(","):
        if Container(host, "third").address in text:
            number = text.split(":", 1)[1].strip(" }\n\t")
    host.nft("add", "element", "inet", "watcher", "to4", f"{{ {number} . {BEYOND} . tcp . 80 }}")
    eventually(lambda: dial(Container(host, "third"), BEYOND, 80) in NO)
    assert dial(Container(host, "third"), BEYOND, 443) == "open"


def handle(host: Host) -> str:
    """The handle of a rule of the chain `judge`."""
    for entry in host.nft_list():
        rule = entry.get("rule", {})
        if rule.get("chain") == "judge":
            return str(rule["handle"])
    raise AssertionError("no rule")


def test_a_neighbour_on_a_bridge_answers_by_the_host(make_host: HostMaker) -> None:
    """Of a sandbox that is held to a list, all frames go to the host."""
    host = make_host(in_mode("bridge"))
    talkative(host)
    host.service()
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80, 81), udp=(80,))
    web6 = next(a.split("/")[0] for a in web.place.addresses() if ":" in a)
    one = limited(host, "one", f"{web.address}:80,[{web6}]:80,{UPLINK}:8080")
    for gateway, subnet in ((GATEWAY, "172.19.0.0/16"), (GATEWAY6, "fd00:19::/64")):
        one.place.run("ip", "route", "replace", gateway, "dev", "eth0")
        one.place.run("ip", "route", "replace", subnet, "via", gateway)
    for address, seen in ((web.address, GATEWAY), (web6, GATEWAY6)):
        assert one.reach(address, 80) == Answer("web", seen)
        assert one.reach(address, 80, "udp") == Answer("web", seen)
    assert dial(one, web.address, 81) in NO
    assert dial(one, web6, 81) == RESET
    assert one.reach(UPLINK, 8080) == Answer("web", GATEWAY)
    # Neighbours without a list see each other as they are.
    free = host.attach("free")
    assert free.reach(web.address, 80) == Answer("web", free.address)


def test_what_is_connected_later_is_held_as_well(make_host: HostMaker) -> None:
    host = make_host(f'{in_mode("bridge")}{BACK}[gate]\nmode = "off"\n')
    talkative(host)
    host.service()
    host.beyond.serve(tcp=(80, 443))
    one = limited(host, "one", f"{BEYOND}:443/tcp")
    host.watcher("connect", "one", "back")
    (source,) = (a.split("/")[0] for a in one.place.addresses("eth1"))
    assert one.place.reach(BEYOND, 443, source=source) is not None
    assert one.place.reach(BEYOND, 80, source=source) is None
    host.watcher("disconnect", "one", "default")
    assert dial(one, BEYOND, 443) == "open"
    assert dial(one, BEYOND, 80) in NO
    # The service opens the network in which nobody is held to a list any more.
    eventually(lambda: host.watcher("sync", "--dry-run").stdout == NOTHING)
    # Who shares the sandbox is held to what holds that.
    assert dial(host.share("side", "one"), BEYOND, 80) in NO


@pytest.mark.parametrize("mode", MODES)
def test_who_tries_again_and_again_is_answered_at_once(make_host: HostMaker, mode: str) -> None:
    """By ICMP as often as the kernel sends that, and then by a reset."""
    host = make_host(in_mode(mode))
    host.service()
    one = limited(host, "one", "none")
    for address, wanted in ((BEYOND, set(NO)), (BEYOND6, {RESET})):
        answers = {dial(one, address, port, timeout=0.8) for port in range(80, 110)}
        assert answers == wanted
    assert host.watcher("sync", "--dry-run").stdout == NOTHING
