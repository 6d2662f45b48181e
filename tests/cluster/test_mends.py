"""What is wrong with the ways to other hosts is put right at the cost of what has changed.

The handler works in the namespace of a host on which nothing runs, beside events of the kernel.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from msgspec.structs import replace

from handlers.cluster import devices
from handlers.cluster.handler import ClusterHandler
from handlers.context import ClusterView, open_context
from handlers.kernel.netlink import Netlink
from tests.support.host import Host
from tests.support.traffic import entered
from watcher.checks.kernel import Forgetful
from watcher.events.hosts import HostsWatch
from watcher.model.address import Address
from watcher.model.cluster import Block, ClusterChange, Peer, PeerBlock, block_at, vtep_mac
from watcher.model.naming import link_local
from watcher.model.network import Network
from watcher.model.repair import Repair

SUBNETS = IPv4Network("10.9.0.0/16"), IPv6Network("fd09::/64")
NETWORK = Network("net", "routed", "net0", SUBNETS, cluster=True, block=16)
HOSTS = 700
"""More than are read or sent in one step; their IPv6 blocks are reached in VXLAN."""

READS = 1 + 4 * HOSTS // 256
"""So often are events read: one read takes some of them."""

LINK = """
ip link add uplink0 type veth peer name far0
ip link set far0 up
ip link set uplink0 up
ip addr add 198.18.0.1/16 dev uplink0
ip link add net0 type bridge
ip link set net0 up
"""


class Rows:
    """What a lease store has."""

    def __init__(self) -> None:
        self.own = [Block("net", block_at(subnet, 16, 0), "held") for subnet in SUBNETS]
        self.hosts = {name: Peer(name, address(n)) for n, name in enumerate(names())}
        self.theirs = [
            PeerBlock("net", block_at(subnet, 16, 1 + n), name)
            for n, name in enumerate(names())
            for subnet in SUBNETS
        ]

    def blocks(self) -> Sequence[Block]:
        return self.own

    def peers(self) -> Mapping[str, Peer]:
        return self.hosts

    def peer_blocks(self) -> Sequence[PeerBlock]:
        return self.theirs

    def number(self, network: str) -> int:
        return len(network[:1])


def names() -> list[str]:
    return [f"h{n}" for n in range(HOSTS)]


def address(host: int) -> Address:
    return ip_address("198.18.1.0") + host


class Counted(Netlink):
    """Counts the lists that the kernel was asked for."""

    lists = 0

    def listed(self, request: bytes) -> Iterator[memoryview]:
        self.lists += 1
        return super().listed(request)


class Bed:
    """A handler, and what the kernel tells of its work."""

    def __init__(self, host: Host, netlink: Counted) -> None:
        self.rows = Rows()
        view = ClusterView(self.rows, lambda: ip_address("198.18.0.1"))
        self._opened = open_context(
            "", "", {"net": NETWORK}, Forgetful(), Forgetful(), list, cluster=view
        )
        self._context = replace(self._opened.__enter__(), netlink=netlink)
        self._netlink = netlink
        self._host = host
        self._loop = asyncio.new_event_loop()
        self.handler = ClusterHandler(self._context)
        assert not [repair for repair in self.handler.look() if repair.error]
        self._suspected: list[None] = []
        failed: list[Exception] = []
        self._watch = HostsWatch(
            self._loop, self.handler.is_wrong, lambda: self.handler.links,
            lambda: self._suspected.append(None), self.handler.suspect_all, failed.append,
        )  # fmt: skip
        self._watch.refresh()
        (self.device,) = devices.ours(netlink)
        netlink.lists = 0

    def close(self) -> None:
        self._watch.close()
        self._loop.close()
        self._opened.__exit__(None, None, None)

    def damage(self, commands: str) -> bool:
        """Whether something is suspected after that."""
        self._host.command("sh", "-ec", commands)
        return self.hear()

    def deafen(self) -> None:
        """Have the kernel keep a few events alone."""
        self._watch._heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)

    def hear(self) -> bool:
        """Take all events; whether they contradict what is wanted."""
        self._suspected.clear()
        for _ in range(READS):
            self._watch._read()
        return bool(self._suspected)

    def mend(self, meanwhile: Callable[[], object] = lambda: None) -> tuple[list[Repair], int]:
        """What was put right, and in how many steps; between two of them `meanwhile` is called."""
        mending, steps = self.handler.mend(), 0
        while True:
            try:
                next(mending)
            except StopIteration as end:
                repairs: list[Repair] = end.value
                return repairs, steps
            steps += 1
            meanwhile()

    def lists(self) -> int:
        """How many lists were asked for since the last question."""
        found, self._netlink.lists = self._netlink.lists, 0
        return found

    def all_is_well(self) -> bool:
        """Whether one that reads the lease store anew finds nothing to do."""
        assert not ClusterHandler(self._context).look(dry_run=True)
        self.lists()
        return True


@pytest.fixture
def bed(host: Host) -> Iterator[Bed]:
    host.command("sh", "-ec", LINK)
    with entered(host.here.netns), Counted() as netlink:
        bed = Bed(host, netlink)
        yield bed
        bed.close()


FEW = {
    "a route deleted": "ip route del 10.9.0.64/28",
    "a route of IPv6 deleted": "ip route del fd09::40/124",
    "the route to the subnet deleted": "ip route del unreachable 10.9.0.0/16 metric 1119",
    "a route added": "ip route add 10.9.250.0/28 dev uplink0 proto 119",
    "a route beside another": "ip route add 10.9.0.64/28 dev uplink0 proto 119 metric 7",
    "an entry deleted": "bridge fdb del {mac} dev netnsx1 dst 198.18.1.3",
    "an entry changed": "bridge fdb replace {mac} dev netnsx1 dst 198.18.1.99",
    "an entry added": "bridge fdb add 02:00:00:00:00:07 dev netnsx1 dst 198.18.1.3",
    "a neighbour deleted": "ip neigh del {hop} dev netnsx1",
    "a neighbour changed": "ip neigh replace {hop} dev netnsx1 lladdr 02:00:00:00:00:07"
    " nud permanent",
    "several": "ip route del 10.9.0.64/28; ip route del 10.9.0.80/28; ip neigh del {hop}"
    " dev netnsx1",
}


@pytest.mark.parametrize("what", FEW)
def test_what_events_tell_needs_no_look(bed: Bed, what: str) -> None:
    mac = vtep_mac(address(3), 1)
    assert bed.damage(FEW[what].format(mac=mac, hop=link_local(mac)))
    repairs, _ = bed.mend()
    assert repairs
    assert not [repair for repair in repairs if repair.error]
    assert bed.lists() == 0
    assert bed.all_is_well()
    bed.hear()
    assert not bed.damage("true"), "its own repairs are suspected"


def test_a_route_in_place_of_ours(bed: Bed) -> None:
    """To remove that one would remove ours."""
    assert bed.damage("ip route replace 10.9.0.64/28 dev uplink0 proto 119 metric 1119")
    bed.mend()
    assert bed.all_is_well()


def test_what_came_back_is_not_suspected(bed: Bed) -> None:
    assert bed.damage("ip route del 10.9.0.64/28")
    assert bed.mend()[0]
    bed.hear()
    bed.damage(
        "ip route save 10.9.0.64/28 > saved; ip route del 10.9.0.64/28; ip route restore < saved"
    )
    repairs, _ = bed.mend()
    assert not repairs
    assert bed.all_is_well()


def test_another_way_to_some_hosts(bed: Bed) -> None:
    """Each has an IPv4 route on the link, which goes into VXLAN then."""
    assert bed.damage("ip route add 198.18.1.0/28 via 198.18.200.1")
    repairs, _ = bed.mend()
    assert [repair.what.partition(" to ")[0] for repair in repairs if "routes" in repair.what] == [
        "made routes"
    ]
    assert bed.lists() == 0
    assert bed.all_is_well()
    assert bed.damage("ip route del 198.18.1.0/28")
    bed.mend()
    assert bed.lists() == 0
    assert bed.all_is_well()


def test_a_route_that_changes_no_way(bed: Bed) -> None:
    assert bed.damage("ip route replace default via 198.18.200.1")
    assert bed.mend() == ([], 2)
    assert bed.lists() == 0


def test_very_many_routes_are_looked_at(bed: Bed) -> None:
    assert bed.damage("ip route flush proto 119")
    repairs, steps = bed.mend()
    assert {repair.what.partition(" to ")[0] for repair in repairs} == {"made routes"}
    assert len(repairs) == 2, "as many as are sent together"
    assert steps >= 4 * HOSTS // 512
    assert bed.all_is_well()


def test_a_link_is_looked_at(bed: Bed) -> None:
    assert bed.damage("ip link set netnsx1 mtu 1300; ip route del 10.9.0.64/28")
    bed.mend()
    assert bed.lists()
    assert bed.all_is_well()


def test_lost_events(bed: Bed) -> None:
    bed.deafen()
    assert bed.damage("for n in $(seq 1 40); do ip route del 10.9.$n.0/28; done")
    bed.mend()
    assert bed.lists()
    assert bed.all_is_well()


ANEW = {
    "much is wrong": ("ip route flush proto 119", range(8)),
    "other hosts are behind a router": ("ip route add 198.18.0.0/21 via 198.18.200.1", range(4)),
}


@pytest.mark.parametrize(("what", "at"), [(what, at) for what in ANEW for at in ANEW[what][1]])
def test_a_change_between_two_steps(bed: Bed, what: str, at: int) -> None:
    """Nothing that other hosts have got or given back meanwhile is undone or left out."""
    assert bed.damage(ANEW[what][0])
    passed = 0

    def change() -> None:
        nonlocal passed
        passed += 1
        if passed == at + 1:
            gone = bed.rows.theirs.pop(2 * at)
            new = PeerBlock("net", block_at(SUBNETS[0], 16, 1 + HOSTS), "h9")
            bed.rows.theirs.append(new)
            bed.rows.hosts["h5"] = moved = Peer("h5", ip_address("198.18.77.7"))
            bed.handler.meet(
                ClusterChange(
                    peers=(moved,), blocks=(new,), gone_blocks=((gone.network, gone.prefix),)
                )
            )

    bed.mend(change)
    assert passed > at
    assert bed.all_is_well()


def test_changes_without_an_end(bed: Bed) -> None:
    """It ends nevertheless."""
    bed.damage("ip route flush proto 119")
    bed.mend(partial(bed.handler.meet, ClusterChange()))
    assert bed.all_is_well()


def test_a_look_at_all_of_it_meanwhile(bed: Bed) -> None:
    bed.damage("ip route flush proto 119")
    repairs, steps = bed.mend(bed.handler.look)
    assert (len(repairs), steps) == (0, 1)
    assert bed.all_is_well()
