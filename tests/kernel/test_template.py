"""Messages that are encoded once and filled in say what pyroute2 would have them say."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handlers.kernel import rtnl
from handlers.kernel.rtnl.messages import ifaddrmsg, ifinfmsg, ndmsg, rtmsg
from handlers.kernel.template import NAME, NUMBER, Template
from watcher.model.address import Address

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,14}", fullmatch=True)
NUMBERS = st.integers(0, 2**31 - 1)
MACS = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
ADDRESSES = st.ip_addresses().filter(lambda ip: not ip.is_unspecified)


def read(kind: type[Any], message: bytes) -> Any:
    decoded = kind(bytes(message))
    decoded.decode()
    assert decoded["header"]["length"] == len(message)
    return decoded


@given(NAMES, NAMES, NUMBERS, NUMBERS, MACS, st.none() | MACS, st.sampled_from([1500, 9000]))
def test_a_veth_pair(
    host_name: str, name: str, netns: int, master: int, mac: str, host_mac: str | None, mtu: int
) -> None:
    message = rtnl.veth(
        host_name, name, netns, master=master, host_mac=host_mac or "", mac=mac, mtu=mtu
    )
    pair = read(ifinfmsg, message)
    peer = pair.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", "VETH_INFO_PEER")
    assert pair.get_attr("IFLA_IFNAME") == host_name
    assert pair.get_attr("IFLA_MASTER") == master
    assert pair.get_attr("IFLA_ADDRESS") == host_mac
    assert pair.get_attr("IFLA_MTU") == peer.get_attr("IFLA_MTU") == mtu
    assert pair.get_attr("IFLA_GROUP") == peer.get_attr("IFLA_GROUP") == rtnl.OURS
    assert peer.get_attr("IFLA_IFNAME") == name
    assert peer.get_attr("IFLA_NET_NS_FD") == netns
    assert peer.get_attr("IFLA_ADDRESS") == mac


@given(NAMES, st.booleans(), st.text("abcdefgh0123456789_.-", min_size=1, max_size=300))
def test_a_bridge_port(name: str, isolated: bool, alias: str) -> None:
    port = read(ifinfmsg, rtnl.port(name, isolated=isolated, flooded=not isolated, alias=alias))
    assert port.get_attr("IFLA_IFNAME") == name
    assert port.get_attr("IFLA_IFALIAS") == alias[:255]


@given(NUMBERS, ADDRESSES, st.data())
def test_an_address(index: int, ip: Address, data: st.DataObject) -> None:
    prefix = data.draw(st.integers(0, ip.max_prefixlen))
    message = read(ifaddrmsg, rtnl.address(index, ip_interface((ip, prefix))))
    assert (message["index"], message["prefixlen"]) == (index, prefix)
    assert message.get_attr("IFA_LOCAL") == message.get_attr("IFA_ADDRESS") == str(ip)


@given(NUMBERS, ADDRESSES, st.none() | st.integers(0, 32), NUMBERS, st.booleans())
@example(1, ip_address("192.0.2.1"), None, NUMBER, False)
def test_a_route(index: int, via: Address, prefix: int | None, metric: int, source: bool) -> None:
    to = None if prefix is None else ip_network((via, prefix), strict=False)
    wanted = rtnl.Route(to, via, index, metric, ip_address(via) if source else None)
    message = read(rtmsg, rtnl.route(wanted))
    assert message.get_attr("RTA_OIF") == index
    assert message.get_attr("RTA_GATEWAY") == str(via)
    assert message.get_attr("RTA_PRIORITY") == (metric or None)
    assert message.get_attr("RTA_PREFSRC") == (str(via) if source else None)
    assert message["dst_len"] == (prefix or 0)
    if to is not None:
        assert message.get_attr("RTA_DST") == str(to.network_address)


@given(NUMBERS, ADDRESSES, MACS)
def test_a_neighbour(index: int, ip: Address, mac: str) -> None:
    message = read(ndmsg, rtnl.neighbour(index, ip, mac))
    assert message["ifindex"] == index
    assert message.get_attr("NDA_DST") == str(ip)
    assert message.get_attr("NDA_LLADDR") == mac


def test_a_value_that_is_longer_than_its_mark_is_refused() -> None:
    template = Template(b"before" + NAME.encode() + b"behind", name=NAME.encode())
    assert template.filled(name=b"eth0") == b"before" + b"eth0".ljust(15, b"\0") + b"behind"
    with pytest.raises(AssertionError):
        template.filled(name=b"a-name-of-16-bytes")


def test_one_message_does_not_change_the_next() -> None:
    first = rtnl.up("one")
    assert rtnl.up("two") != first
    assert rtnl.up("one") == first
