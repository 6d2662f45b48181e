"""What nftables is told of other hosts: what is different alone, and nothing without a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network

from handlers.context import ClusterView
from handlers.firewall import remote, ruleset
from handlers.firewall.members import Members
from handlers.firewall.ruleset import Parts
from handlers.networks import drivers_of
from watcher.model.cluster import Block, ClusterChange, Peer, PeerBlock
from watcher.model.network import Network

SUBNETS = ip_network("10.9.0.0/16"), ip_network("fd09::/64")
CLUSTERED = Network("net", "routed", "net0", SUBNETS, cluster=True, block=16)
ISOLATED = Network("iso", "routed", "iso0", (ip_network("10.8.0.0/16"),), cluster=True,
                   block=256, isolate=True, backend="routes")  # fmt: skip
LOCAL = Network()
PARTS = Parts(frozenset({"egress", "ingress", "connections", "ingress of the host"}), 1, 0, None)


class Rows:
    """What a lease store has."""

    def __init__(self) -> None:
        self.own = [Block("net", ip_network("10.9.0.0/28"), "held")]
        self.hosts: dict[str, Peer] = {}
        self.theirs: dict[tuple[str, object], PeerBlock] = {}

    def blocks(self) -> Sequence[Block]:
        return self.own

    def peers(self) -> Mapping[str, Peer]:
        return self.hosts

    def peer_blocks(self) -> Sequence[PeerBlock]:
        return list(self.theirs.values())

    def number(self, network: str) -> int:
        return 1 if network else 0

    def meet(self, change: ClusterChange) -> ClusterChange:
        for host in change.gone:
            del self.hosts[host]
        for key in change.gone_blocks:
            del self.theirs[key]
        self.hosts |= {one.host: one for one in change.peers}
        self.theirs |= {(one.network, one.prefix): one for one in change.blocks}
        return change


def peer(name: str, address: str, *, alive: bool = True) -> Peer:
    return Peer(name, ip_address(address), alive)


def theirs(name: str, prefix: str, network: str = "net") -> PeerBlock:
    return PeerBlock(network, ip_network(prefix), name)


def known() -> tuple[Rows, Members]:
    """The members of a cluster of a thousand hosts with a block of each family."""
    rows = Rows()
    hosts = [(f"h{n}", n // 256, n % 256) for n in range(1, 1001)]
    rows.meet(
        ClusterChange(
            peers=tuple(peer(name, f"192.0.{high}.{low}") for name, high, low in hosts),
            blocks=tuple(
                theirs(name, prefix)
                for name, high, low in hosts
                for prefix in (
                    f"10.9.{high + 4}.{low & 0xF0}/28",
                    f"fd09::{high + 4}{low:02x}0/124",
                )
            ),
        )
    )
    members = Members(ClusterView(rows), drivers_of({"net": CLUSTERED, "iso": ISOLATED}))
    members.all()
    return rows, members


def test_a_change_is_told_alone() -> None:
    rows, members = known()
    assert (
        members.meet(rows.meet(ClusterChange(peers=(peer("h7", "192.0.0.7", alive=False),)))) == ""
    )
    new = ClusterChange(peers=(peer("new", "192.0.9.9"),))
    assert members.meet(rows.meet(new)) == ""  # it has nothing yet
    new = ClusterChange(blocks=(theirs("new", "10.9.200.16/28"), theirs("new", "10.9.4.7/32")))
    assert members.meet(rows.meet(new)).splitlines() == [
        "add element inet watcher blocks4_28 { 10.9.200.16 }",
        "add element inet watcher claims4 { 10.9.4.7 }",
        "add element inet watcher peers4 { 192.0.9.9 }",
    ]
    moved = ClusterChange(blocks=(theirs("h7", "10.9.4.7/32"),))
    assert members.meet(rows.meet(moved)) == ""
    other = ClusterChange(peers=(peer("new", "2001:db8::9"),))
    assert members.meet(rows.meet(other)).splitlines() == [
        "destroy element inet watcher peers4 { 192.0.9.9 }",
        "add element inet watcher peers6 { 2001:db8::9 }",
    ]
    gone = ClusterChange(gone=("new",), gone_blocks=(("net", ip_network("10.9.200.16/28")),))
    assert members.meet(rows.meet(gone)).splitlines() == [
        "destroy element inet watcher blocks4_28 { 10.9.200.16 }",
        "destroy element inet watcher peers6 { 2001:db8::9 }",
    ]
    rows.own.insert(0, Block("net", ip_network("10.9.0.16/28"), "held"))
    assert members.meet(rows.meet(ClusterChange(own=("net",)))).splitlines() == [
        "destroy element inet watcher own4 { 10.9.0.0 }",
        "add element inet watcher own4 { 10.9.0.0 : 10.9.0.16 }",
    ]


def test_after_changes_all_is_as_if_it_had_been_read() -> None:
    rows, members = known()
    for change in (
        ClusterChange(
            blocks=(theirs("h9", "10.8.4.0/24", "iso"), theirs("h1", "10.8.9.9/32", "iso"))
        ),
        ClusterChange(peers=(peer("x", "192.0.0.1"),), gone=("h1",)),
        ClusterChange(blocks=(theirs("x", "10.8.4.0/24", "iso"),)),
        ClusterChange(gone_blocks=(("iso", ip_network("10.8.9.9/32")),)),
    ):
        told = members.meet(rows.meet(change))
        assert told.count("\n") < 4
    fresh = Members(ClusterView(rows), drivers_of({"net": CLUSTERED, "iso": ISOLATED}))
    assert members.anew() == fresh.anew()


def test_what_no_host_can_have_is_left_out() -> None:
    rows, members = known()
    for block in (
        theirs("h1", "10.9.0.0/24"), theirs("h1", "0.0.0.0/0"), theirs("h1", "10.10.0.0/28"),
        theirs("h1", "10.9.1.1/32", "local"), theirs("h1", "10.9.1.0/28", "none"),
    ):  # fmt: skip
        assert members.meet(rows.meet(ClusterChange(blocks=(block,)))) == ""


def test_a_host_without_a_clustered_network_has_the_rules_that_it_had() -> None:
    drivers = drivers_of({"default": LOCAL, "r": Network("r", "routed", "r0", SUBNETS)})
    known_drivers = list(drivers.values())
    for rules in (remote.sets, remote.prerouting, remote.postrouting, remote.forward,
                  remote.to_sandboxes, remote.from_sandboxes, remote.marked):  # fmt: skip
        assert list(rules(known_drivers)) == []
    text = ruleset.base(known_drivers, PARTS)
    assert not [word for word in ("netnsx", "fib saddr . mark", "tunnel", "peers4") if word in text]
    members = Members(ClusterView(Rows()), drivers)
    assert not members.all()
    assert members.meet(ClusterChange(peers=(peer("a", "192.0.2.9"),))) == ""


def test_vxlan_has_rules_only_where_it_may_be_used() -> None:
    plain = ruleset.base(drivers_of({"iso": ISOLATED}).values(), PARTS)
    assert "udp dport" not in plain
    assert "peers4" not in plain
