"""Which routes are missing is told right whatever others there are, and without reading those."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from handlers.kernel import missing_routes, rtnl
from handlers.kernel.netlink import Netlink, NetlinkError, TooMuch
from handlers.kernel.uplink import uplink_address, uplink_index
from tests.support.host import Host, Place
from tests.support.traffic import entered

SETUP = """
link set lo up
link add r0 type veth peer name r1
link set r1 up
link set r0 up
address add 172.30.0.2/16 dev r0
address add fd00:30::2/64 dev r0 nodad
route add default via 172.30.0.1
route add default via fd00:30::1
route add 10.0.0.0/8 via 172.30.0.1
"""

IN_THE_WAY = {
    "nothing": "",
    "a default route with a better metric": (
        "route delete default via 172.30.0.1\n"
        "route add default via 172.30.0.1 metric 50\n"
        "route add default via 172.30.0.9 metric 5\n"
    ),
    "more specific ones": (
        "route add 240.0.0.0/8 via 172.30.0.9\nroute add 172.30.255.0/24 via 172.30.0.9\n"
        "route add 4000::/16 via fd00:30::9\nroute add 10.255.255.254/32 via 172.30.0.9\n"
    ),
    "one that says there is none": "route add unreachable 240.0.0.0/4\n",
    "a rule that looks elsewhere first": (
        "route add default via 172.30.0.9 table 77\nrule add priority 10 lookup 77\n"
    ),
}


@pytest.fixture
def machine(host: Host) -> Place:
    """A network namespace with a few routes."""
    machine = host.machine("router", "10.77.0.0/30")
    machine.run("ip", "-4", "route", "delete", "default")
    machine.run("ip", "-batch", "-", stdin=SETUP)
    return machine


def wanted(index: int) -> list[rtnl.Route]:
    return [
        rtnl.Route(None, ip_address("172.30.0.1"), index, 0),
        rtnl.Route(None, ip_address("fd00:30::1"), index, 0),
        rtnl.Route(ip_network("172.30.0.0/16"), None, index, 0),
        rtnl.Route(ip_network("fd00:30::/64"), None, index, 0),
        rtnl.Route(ip_network("10.0.0.0/8"), ip_address("172.30.0.1"), index, 0),
    ]


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_missing_are_those_that_are_not_there(machine: Place, what: str) -> None:
    machine.run("ip", "-batch", "-", stdin=IN_THE_WAY[what])
    with entered(machine.netns):
        netlink = Netlink()
    with netlink:
        all_of_them = wanted(netlink.index("r0"))
        assert missing_routes.missing(netlink, all_of_them) == []
        for route in all_of_them:
            family = "-4" if route.version == 4 else "-6"
            to = "default" if route.to is None else str(route.to)
            via = [] if route.via is None else ["via", str(route.via)]
            machine.run("ip", family, "route", "delete", to, *via, "dev", "r0")
            assert missing_routes.missing(netlink, all_of_them) == [route]
            netlink.send([rtnl.route(route)])
        assert missing_routes.missing(netlink, all_of_them, table=100) == all_of_them


def test_the_uplink_is_found_whatever_is_in_front_of_it(machine: Place) -> None:
    for way in ("", IN_THE_WAY["more specific ones"], IN_THE_WAY["one that says there is none"]):
        machine.run("ip", "-batch", "-", stdin=way, check=False)
        with entered(machine.netns):
            netlink = Netlink()
        with netlink:
            index = netlink.index("r0")
            assert [uplink_index(netlink, version) for version in (4, 6)] == [index, index]


def test_no_more_is_read_than_is_allowed(machine: Place) -> None:
    many = "".join(f"address add 10.9.{n >> 8}.{n & 255}/32 dev r0\n" for n in range(300))
    machine.run("ip", "-batch", "-", stdin=many)
    for most, enough in (((1000, 1 << 20), True), ((200, 1 << 20), False), ((1000, 4096), False)):
        with entered(machine.netns):
            netlink = Netlink(most=most)
        with netlink:
            request = rtnl.addresses(netlink.index("r0"))
            if enough:
                assert len(netlink.dump(request)) > 300
                continue
            with pytest.raises(TooMuch, match="more addresses than are read"):
                netlink.dump(request)
            assert not issubclass(TooMuch, NetlinkError)


def test_the_address_that_others_reach_the_host_by_is_that_of_its_default_route(
    machine: Place,
) -> None:
    with entered(machine.netns):
        assert uplink_address() == ip_address("172.30.0.2")
    machine.run("ip", "-4", "route", "replace", "unreachable", "default")
    with entered(machine.netns):
        assert uplink_address() == ip_address("fd00:30::2")
    machine.run("ip", "-6", "route", "delete", "default")
    with entered(machine.netns):
        assert uplink_address() is None
