"""Whatever changes come in whatever order, the plan is what it would be if it were made anew."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from handlers.cluster.plan import Delta, Local, Plan
from handlers.cluster.ways import Way
from handlers.kernel.rtnl.block_routes import BlockRoute, RouteKey, unreachable
from handlers.kernel.rtnl.entries import Entry, EntryKey
from handlers.networks.clustered import ClusteredDriver
from watcher.model.cluster import Block, Peer, PeerBlock, block_at
from watcher.model.network import Network

FOUR, SIX = IPv4Network("10.9.0.0/24"), IPv6Network("fd09::/120")
NETWORKS = {
    "auto": Network(name="auto", mode="routed", subnets=(FOUR, SIX), cluster=True, block=16),
    "plain": Network(
        name="plain", mode="routed", subnets=(IPv4Network("10.8.0.0/24"),), cluster=True, block=16,
        backend="routes",
    ),
    "vxlan": Network(
        name="vxlan", mode="routed", subnets=(IPv4Network("10.7.0.0/24"),), cluster=True, block=16,
        backend="vxlan",
    ),
}  # fmt: skip
LOCALS = {
    name: Local(ClusteredDriver(network), number, 100 + number, 4, {4: network.subnets[0][2]})
    for number, (name, network) in enumerate(NETWORKS.items(), 1)
}
ADDRESSES = [ip_address(f"192.0.2.{n}") for n in range(4)] + [ip_address("2001:db8::1")]
HOSTS = "abcd"

hosts = st.sampled_from(HOSTS)
ways = st.sampled_from((Way(), Way(2, common=True), Way(3), Way(4, common=True)))


@st.composite
def prefixes(draw: st.DrawFn) -> tuple[str, IPv4Network | IPv6Network]:
    network = draw(st.sampled_from(list(NETWORKS.values())))
    subnet = draw(st.sampled_from(network.subnets))
    block = block_at(subnet, 16, draw(st.integers(0, 3)))
    claim = draw(st.booleans())
    return network.name, ip_network(block[draw(st.integers(0, 2))]) if claim else block


type Change = tuple[
    list[Peer], list[PeerBlock], list[str], list[tuple[str, IPv4Network | IPv6Network]]
]

peers = st.builds(Peer, hosts, st.sampled_from(ADDRESSES))
blocks = st.builds(lambda one, host: PeerBlock(one[0], one[1], host), prefixes(), hosts)
own = st.lists(
    st.builds(
        lambda one, state: Block(one[0], one[1], state),
        prefixes(),
        st.sampled_from(("held", "lost", "wanted")),
    ),
    max_size=3,
)
changes = st.tuples(
    st.lists(peers, max_size=2),
    st.lists(blocks, max_size=3),
    st.lists(hosts, max_size=1),
    st.lists(prefixes(), max_size=2),
)


class Kernel:
    """What a kernel has that is sent each difference, and nothing else."""

    def __init__(self, plan: Plan) -> None:
        self.routes: dict[RouteKey, BlockRoute] = dict(plan.routes)
        self.entries: dict[EntryKey, Entry] = dict(plan.entries)

    def take(self, delta: Delta) -> None:
        self.entries.update((entry.key, entry) for entry in delta.entries)
        self.routes.update((route.key, route) for route in delta.routes)
        for route in delta.no_routes:
            assert self.routes.pop(route.key) == route
        for entry in delta.no_entries:
            assert self.entries.pop(entry.key) == entry


def rows(known: Iterable[PeerBlock]) -> dict[object, PeerBlock]:
    return {(one.network, one.prefix): one for one in known}


@given(st.lists(st.one_of(changes, own), max_size=8), st.lists(ways, min_size=5, max_size=5))
def test_the_sum_of_all_differences_is_the_whole(
    steps: list[Change | list[Block]], found: list[Way]
) -> None:
    at = dict(zip(ADDRESSES, found, strict=True))
    plan = Plan(LOCALS, (), {}, (), {})
    kernel = Kernel(plan)
    all_peers: dict[str, Peer] = {}
    all_blocks: dict[object, PeerBlock] = {}
    all_own: list[Block] = []
    for step in steps:
        if isinstance(step, list):
            all_own = step
            kernel.take(plan.take_own(step))
        else:
            some, more, gone, gone_blocks = step
            gone = [name for name in gone if name not in {peer.host for peer in some}]
            kept = rows(more)
            gone_blocks = [key for key in gone_blocks if key not in kept]
            for name in gone:
                all_peers.pop(name, None)
            all_peers |= {peer.host: peer for peer in some}
            for key in gone_blocks:
                all_blocks.pop(key, None)
            all_blocks |= kept
            kernel.take(
                plan.change(
                    some, kept.values(), gone, gone_blocks, {p.address: at[p.address] for p in some}
                )
            )
        anew = Plan(LOCALS, all_own, all_peers, all_blocks.values(), at)
        assert plan.routes == anew.routes == kernel.routes
        assert plan.entries == anew.entries == kernel.entries


def test_what_is_no_block_of_the_network_leads_nowhere() -> None:
    """Another host may say anything; it cannot have packets for others sent to it."""
    garbage = [
        "0.0.0.0/0", "10.9.0.0/16", "10.9.0.0/24", "10.9.0.0/29", "10.0.0.0/8", "192.0.2.0/28",
        "::/0", "fd09::/120", "fd09::/126", "10.8.0.0/28",
    ]  # fmt: skip
    local = {"auto": LOCALS["auto"]}
    peer = Peer("b", ADDRESSES[1])
    way = {ADDRESSES[1]: Way(2, common=True)}
    theirs = [PeerBlock("auto", ip_network(text), "b") for text in garbage]
    plan = Plan(local, (), {"b": peer}, theirs, way)
    assert set(plan.routes) == {unreachable(subnet).key for subnet in (FOUR, SIX)}
    assert not plan.entries
