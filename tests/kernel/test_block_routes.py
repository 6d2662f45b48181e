"""The kernel makes, replaces, lists and removes what these requests say."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address, ip_network

import pytest

from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink, NetlinkError
from handlers.kernel.rtnl.block_routes import (
    BlockRoute,
    block_route,
    block_routes,
    no_block_route,
    read_block_route,
    unreachable,
)
from handlers.kernel.rtnl.entries import Entry, entries, entry, no_entry, read_entry
from handlers.kernel.rtnl.vxlan import Vxlan, read_vxlan, sent_from, vxlan
from tests.support.host import Host
from tests.support.traffic import entered

FOUR, SIX = ip_address("192.0.2.77").packed, ip_address("fe80::77").packed
MAC = bytes.fromhex("0200000000aa")


def packed(text: str) -> tuple[bytes, int]:
    subnet = ip_network(text)
    return subnet.network_address.packed, subnet.prefixlen


@pytest.fixture
def netlink(host: Host) -> Netlink:
    """A socket in the namespace of a host with a VXLAN device `x0`."""
    with entered(host.here.netns):
        netlink = Netlink()
    host.on_close(netlink.close)
    made = Vxlan(0x770001, 4789, ip_address("192.0.2.1"))
    netlink.send([vxlan("x0", made, mac="02:00:00:00:00:01", mtu=1450), rtnl.up("x0")])
    return netlink


def there(netlink: Netlink, version: int) -> list[BlockRoute]:
    read = map(read_block_route, netlink.dump(block_routes(version)))
    return [route for route in read if route is not None]


@pytest.mark.parametrize(
    ("to", "via"),
    [("10.9.4.0/24", FOUR), ("10.9.4.0/24", SIX), ("fd09::100/120", SIX), ("10.9.4.7/32", FOUR)],
)
def test_a_route_is_made_replaced_and_removed(
    host: Host, netlink: Netlink, to: str, via: bytes
) -> None:
    version = ip_network(to).version
    host.command("ip", f"-{version}", "route", "add", "unreachable", to, "metric", "7000")
    index = netlink.index("x0")
    refused = unreachable(ip_network(to))
    routed = BlockRoute(*packed(to), index, via)
    other = BlockRoute(*packed(to), index, via[:-1] + b"\x78")
    for one in (refused, routed, other, routed, refused, routed):
        for _ in range(2):
            netlink.send([block_route(one)])
            assert there(netlink, version) == [one]
    for wrong in (refused, other):
        with pytest.raises(NetlinkError) as raised:
            netlink.send([no_block_route(wrong)])
        assert raised.value.errno == errno.ESRCH
    netlink.send([no_block_route(routed)])
    assert there(netlink, version) == []
    assert "metric 7000" in host.command("ip", f"-{version}", "route", "show", to).stdout


def test_only_routes_of_the_protocol_are_read(host: Host, netlink: Netlink) -> None:
    host.command("ip", "route", "add", "10.9.0.0/16", "via", "192.0.2.9", "dev", "x0", "onlink")
    host.command("ip", "route", "add", "10.9.0.0/16", "dev", "x0", "table", "9", "proto", "119")
    assert there(netlink, 4) == []
    host.command("ip", "route", "add", "blackhole", "10.9.1.0/24", "proto", "119")
    (route,) = there(netlink, 4)
    assert route.key == packed("10.9.1.0/24")
    netlink.send([no_block_route(route)])
    assert there(netlink, 4) == []


@pytest.mark.parametrize("at", [FOUR, SIX, MAC])
def test_an_entry_is_made_replaced_and_removed(netlink: Netlink, at: bytes) -> None:
    index = netlink.index("x0")
    family = {4: socket.AF_INET, 16: socket.AF_INET6, 6: socket.AF_BRIDGE}[len(at)]
    values = (MAC, MAC[:-1] + b"\xab") if at != MAC else (FOUR, FOUR[:-1] + b"\x78")

    def listed() -> list[Entry]:
        read = map(read_entry, netlink.dump(entries(index, family)))
        return [one for one in read if one is not None and one.to]

    for to in (*values, values[0]):
        for _ in range(2):
            netlink.send([entry(Entry(index, at, to))])
            assert listed() == [Entry(index, at, to)]
    netlink.send([no_entry(Entry(index, at, values[0]))])
    assert listed() == []
    with pytest.raises(NetlinkError) as raised:
        netlink.send([no_entry(Entry(index, at, values[0]))])
    assert raised.value.errno == errno.ENOENT


def test_a_device_is_what_was_asked_for(netlink: Netlink) -> None:
    def read(name: str) -> Vxlan | None:
        body = netlink.get(rtnl.link(name))
        assert body is not None
        return read_vxlan(body)

    assert read("x0") == Vxlan(0x770001, 4789, ip_address("192.0.2.1"))
    six = Vxlan(0x770002, 8472, ip_address("2001:db8::1"))
    netlink.send([vxlan("x1", six, mac="02:00:00:00:00:02", mtu=1430)])
    assert read("x1") == six
    netlink.send([sent_from(netlink.index("x1"), ip_address("2001:db8::2"))])
    assert read("x1") == Vxlan(0x770002, 8472, ip_address("2001:db8::2"))
    assert read("lo") is None
