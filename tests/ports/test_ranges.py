"""Long ranges of published ports, by real packets: what comes, what stays, what goes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import pytest

from tests.support.host import BEYOND, BEYOND6, UPLINK, UPLINK6, Host
from tests.support.kernel import nftables_generation
from tests.support.traffic import Answer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import HostMaker

DUAL = '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
LONG = "20000-29999:20000-29999"
PROTOCOLS: tuple[Literal["tcp", "udp"], ...] = ("tcp", "udp")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_long_range_is_reached_by_both_families(
    make_host: HostMaker, protocol: Literal["tcp", "udp"]
) -> None:
    host = make_host(DUAL)
    host.service()
    ports = f"{LONG}/{protocol},127.0.0.1:30000-30999:30000-30999/{protocol},[::1]:30000:20000"
    web = host.attach("web", ports=ports)
    inside = (20000, 25000, 29999, 30000, 30999, 19999)
    web.serve(tcp=inside, udp=inside)
    for port in (20000, 25000, 29999):
        assert host.beyond.reach(UPLINK, port, protocol) == Answer("web", BEYOND)
        assert host.beyond.reach(UPLINK6, port, protocol) == Answer("web", BEYOND6)
    for port in (30000, 30999):
        answer = host.here.reach("127.0.0.1", port, protocol)
        assert answer is not None
        assert answer is not None
        assert answer.who == "web"
        assert host.beyond.reach(UPLINK, port, protocol, timeout=0.3) is None
    assert host.beyond.reach(UPLINK, 19999, protocol, timeout=0.3) is None


def test_a_range_stands_beside_single_ports_of_others(served: Host) -> None:
    one = served.attach("one", ports="20000-20999:20000-20999,21001-21099:21001-21099")
    other = served.attach("other", ports="21000:80,127.0.0.1:19900-19999:19900-19999,20500:81/udp")
    udp = served.attach("udp", ports="20000-20499:20000-20499/udp,20501-20999:20501-20999/udp")
    one.serve(tcp=(20000, 20999, 21001))
    other.serve(tcp=(80,), udp=(81,))
    udp.serve(udp=(20499, 20501))
    for port in (20000, 20999, 21001):
        assert served.beyond.reach(UPLINK, port) == Answer("one", BEYOND)
    assert served.beyond.reach(UPLINK, 21000) == Answer("other", BEYOND)
    assert served.beyond.reach(UPLINK, 20500, "udp") == Answer("other", BEYOND)
    for port in (20499, 20501):
        assert served.beyond.reach(UPLINK, port, "udp") == Answer("udp", BEYOND)


def test_a_long_range_is_one_element_and_listed_as_ever(served: Host) -> None:
    web = served.attach("web", ports=f"{LONG},{LONG}/udp,9000-9099:80-179")
    listing = served.nft("list", "map", "inet", "watcher", "range4").stdout
    assert f"tcp . 20000-29999 : {web.address}" in listing
    assert f"udp . 20000-29999 : {web.address}" in listing
    assert served.ls()["web"]["ports"] == [
        "9000-9099:80-179/tcp", "20000-29999:20000-29999/tcp", "20000-29999:20000-29999/udp",
    ]  # fmt: skip
    shown = served.inspect("web")["port_maps"]
    assert len(shown) == 20100
    assert shown[0] == "20000:20000/tcp"
    assert shown[-1] == "9099:179/tcp"
    done = served.watcher("sync")
    assert "added" not in done.stdout
    assert "removed" not in done.stdout


def test_ranges_of_one_sandbox_that_overlap(served: Host) -> None:
    first = served.attach("first", ports="20000-20099:20000-20099")
    first.serve(tcp=(20000, 20099, 20149))
    before = nftables_generation(served.here.netns)
    served.share("second", "first", ports="20050-20149:20050-20149")
    assert nftables_generation(served.here.netns) == before + 1
    for port in (20000, 20099, 20149):
        assert served.beyond.reach(UPLINK, port) == Answer("first", BEYOND)
    served.delete("second")
    served.watcher("sync")
    assert served.beyond.reach(UPLINK, 20149, timeout=0.3) is None
    for port in (20000, 20099):
        assert served.beyond.reach(UPLINK, port) == Answer("first", BEYOND)
    served.delete("first")
    served.empty()


def test_sync_puts_a_range_right(served: Host) -> None:
    web = served.attach("web", ports=LONG)
    web.serve(tcp=(20000,))
    # At once: between two commands, the service would put it right.
    served.nft(
        "delete element inet watcher range4 { tcp . 20000-29999 };"
        "add element inet watcher range4 { tcp . 25000-25009 : 172.19.0.99 }"
    )
    done = served.watcher("sync", check=False)
    assert served.beyond.reach(UPLINK, 20000) == Answer("web", BEYOND), done
    assert served.elements() != []
    served.delete("web")
    served.empty()


def test_a_leftover_that_overlaps_does_not_keep_a_range_out(served: Host) -> None:
    served.attach("web", ports="8080:80")
    served.nft("add", "element", "inet", "watcher", "range4", "{ tcp . 25000-25009 : 172.19.0.99 }")
    long = served.attach("long", ports=LONG)
    long.serve(tcp=(25005,))
    assert served.beyond.reach(UPLINK, 25005) == Answer("long", BEYOND)


def test_a_udp_flow_from_before_reaches_the_container_that_publishes_its_port(
    make_host: HostMaker,
) -> None:
    """It led to the host, and is ended behind the gate's answer: nobody is held for it."""
    host = make_host(DUAL)
    host.service()
    clients = [host.beyond.datagrams(address, 40000) for address in (UPLINK, UPLINK6)]
    for client in clients:
        assert client.ask(timeout=0.2) is None
    web = host.attach("web", ports="1024-65535:1024-65535/udp")
    web.serve(udp=(40000,))
    for client in clients:
        answer = eventually(partial(client.ask, timeout=0.3))
        assert answer is not None
        assert answer.who == "web"


def test_a_udp_flow_follows_its_port_to_another_container_of_the_sandbox(served: Host) -> None:
    web = served.attach("web", ports="9000:80")
    served.share("side", "web", ports="5353:80/udp")
    web.serve(udp=(80, 81))
    client = served.beyond.datagrams(UPLINK, 5353)
    assert client.ask() == Answer("web", BEYOND)
    served.delete("side")
    eventually(lambda: client.ask(timeout=0.3) is None)
