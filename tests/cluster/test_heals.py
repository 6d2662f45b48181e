"""What somebody changes of the ways to other hosts is put right, by the kernel's own events."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.support.cluster.pictures import picture
from tests.support.cluster.played import DEVICE, PORT, Played, addresses, serving
from tests.support.host import Container
from tests.support.waiting import eventually

MAC = f"$(bridge fdb show dev {DEVICE} | grep 203.0.113.13 | cut -d' ' -f1)"
DAMAGE = {
    "all routes flushed": "ip route flush proto 119; ip -6 route flush proto 119",
    "a route deleted": "ip route del 10.9.3.0/28",
    "a route replaced": "ip route replace 10.9.3.0/28 dev uplink proto 119 metric 1119",
    "a route added": "ip route add 10.9.77.0/28 dev uplink proto 119",
    "the route to the subnet deleted": "ip route del 10.9.0.0/16",
    "device deleted": f"ip link del {DEVICE}",
    "device down": f"ip link set {DEVICE} down",
    "device renamed": f"ip link set {DEVICE} name other0",
    "MTU changed": f"ip link set {DEVICE} mtu 1300",
    "MAC changed": f"ip link set {DEVICE} address 02:00:00:00:00:77",
    "entry deleted": f"bridge fdb del {MAC} dev {DEVICE} dst 203.0.113.13",
    "entry changed": f"bridge fdb replace {MAC} dev {DEVICE} dst 203.0.113.99",
    "neighbour deleted": f"ip neigh del 203.0.113.13 dev {DEVICE}",
    "neighbour changed": f"ip neigh replace 203.0.113.13 lladdr 02:00:00:00:00:78 dev {DEVICE}"
    " nud permanent",
    "all neighbours flushed": f"ip neigh flush dev {DEVICE} nud all",
    "own address deleted": "ip addr del 10.9.1.0/32 dev netns0",
    "own IPv6 address deleted": "ip addr del fd09::100/128 dev netns0",
    "device not forwarding": f"echo 0 > /proc/sys/net/ipv4/conf/{DEVICE}/forwarding",
    "uplink not forwarding": "echo 0 > /proc/sys/net/ipv4/conf/uplink/forwarding",
    "routers believed": f"echo 2 > /proc/sys/net/ipv6/conf/{DEVICE}/accept_ra;"
    f" ip link set {DEVICE} mtu 1300",
    "bridge deleted": "ip link del netns0",
    "uplink down and up": "ip link set uplink down; ip link set uplink up;"
    " ip addr add 2001:db8:1::11/64 dev uplink nodad; ip route add default via 198.51.100.1;"
    " ip -6 route replace default via 2001:db8:1::1",
}


def reached(one: Played, asking: Container) -> Callable[[], bool]:
    """Whether a container reaches those on the other hosts."""

    def all_of_them() -> bool:
        for name in one.cluster.hosts:
            if name != "a":
                for to in addresses(one.cluster.hosts[name].container(name)):
                    assert asking.reach(to, PORT, timeout=0.5), to
        return True

    return all_of_them


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_repaired(three: Played, damage: str) -> None:
    a = three.cluster.hosts["a"]
    for name, host in three.cluster.hosts.items():
        serving(host, name)
    asking = a.container("a")
    before = picture(a)
    a.command("sh", "-c", DAMAGE[damage])
    eventually(reached(three, asking), what=damage)

    def as_before() -> bool:
        assert picture(a) == before
        return True

    eventually(as_before, what=damage)
    assert a.watcher("sync", "--dry-run", "--json").stdout.strip() in ("[]", "{}"), json.dumps(
        before
    )
