"""The lease store leases addresses of clustered networks from this host's blocks alone."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.leases import ROOT, addresses, container
from watcher.model import keys
from watcher.model.cluster import (
    Block,
    Peer,
    PeerBlock,
    block_at,
    block_with,
    blocks_in,
    claim_of,
    host_address,
)
from watcher.model.errors import InvalidRequest, Unclaimed
from watcher.model.network import Network
from watcher.model.request import Request
from watcher.store.cluster import Identity
from watcher.store.ipam import refusal
from watcher.store.leases import LeaseStore

FOUR, SIX = IPv4Network("10.9.0.0/16"), IPv6Network("fd09::/64")
NET = Network(name="net", mode="routed", bridge="net0", subnets=(FOUR,), cluster=True, block=4)
BOTH = Network(
    name="both", mode="routed", bridge="both0", subnets=(FOUR, SIX), cluster=True, block=4
)
FIRST, SECOND = block_at(FOUR, 4, 0), block_at(FOUR, 4, 5)


def lease(store: LeaseStore, id_: str, pid: int, network: Network = NET, ip: str = "") -> list[str]:
    """The addresses that a new container gets."""
    labels = {keys.IP: ip} if ip else {}
    asked = Request(addresses=tuple(map(ip_address, ip.split(",")))) if ip else Request()
    return addresses(store.create_sandbox(container(id_, pid, **labels), [network], asked))


def release(store: LeaseStore, id_: str) -> None:
    """The container ends."""
    sandbox = store.sandbox_of(ROOT, id_)
    assert sandbox is not None
    store.release(sandbox.key)


def test_without_a_block_there_is_no_address(store: LeaseStore) -> None:
    with pytest.raises(InvalidRequest, match=r"no free address in the blocks .*\(0 in use\)"):
        lease(store, "a", 1)


def test_addresses_come_from_the_blocks_in_the_order_of_taking(store: LeaseStore) -> None:
    """Neither the subnet's own address, its gateway nor the host's are leased."""
    store.cluster.take("net", SECOND)
    store.cluster.take("net", FIRST)
    got = [lease(store, f"c{n}", n + 1)[0] for n in range(4)]
    assert got == ["10.9.0.21/16", "10.9.0.22/16", "10.9.0.23/16", "10.9.0.3/16"]
    with pytest.raises(InvalidRequest, match=r"\(4 in use\)"):
        lease(store, "more", 9)
    used = {str(block.prefix): count for block, count in store.cluster.used()}
    assert used == {"10.9.0.20/30": 3, "10.9.0.0/30": 1}


def test_a_container_that_comes_back_gets_its_address(store: LeaseStore) -> None:
    store.cluster.take("net", SECOND)
    first, second = lease(store, "a", 1), lease(store, "b", 2)
    release(store, "a")
    release(store, "b")
    assert lease(store, "b", 3) == second
    assert lease(store, "c", 4) == ["10.9.0.23/16"]  # never leased
    assert lease(store, "d", 5) == first


def test_each_family_has_blocks_of_its_own(store: LeaseStore) -> None:
    store.cluster.take("both", SECOND)
    with pytest.raises(InvalidRequest, match="fd09::/64"):
        lease(store, "a", 1, BOTH)
    assert store.sandboxes() == []
    store.cluster.take("both", block_at(SIX, 4, 3))
    assert lease(store, "a", 1, BOTH) == ["10.9.0.21/16", "fd09::d/64"]


def test_only_an_empty_block_leaves_and_then_nothing_is_leased_from_it(store: LeaseStore) -> None:
    store.cluster.take("net", SECOND)
    lease(store, "a", 1)
    assert not store.cluster.leave("net", SECOND)
    release(store, "a")
    assert store.cluster.leave("net", SECOND)
    with pytest.raises(InvalidRequest):
        lease(store, "a", 2)
    assert store.cluster.forget("net", SECOND)
    assert store.cluster.forget("net", SECOND)  # twice
    assert store.cluster.blocks() == []
    store.cluster.take("net", SECOND)
    assert lease(store, "b", 3) == ["10.9.0.21/16"]


def test_what_is_leased_from_a_lost_block_stays_until_it_is_released(store: LeaseStore) -> None:
    store.cluster.take("net", SECOND)
    lease(store, "a", 1)
    store.cluster.turn("net", SECOND, "lost")
    with pytest.raises(InvalidRequest):
        lease(store, "b", 2)
    assert not store.cluster.forget("net", SECOND)
    release(store, "a")
    assert store.cluster.forget("net", SECOND)


def test_a_fixed_address_is_in_a_block_or_claimed(store: LeaseStore) -> None:
    store.cluster.take("net", SECOND)
    assert lease(store, "a", 1, ip="10.9.0.23") == ["10.9.0.23/16"]
    with pytest.raises(InvalidRequest, match="kept for the host"):
        lease(store, "b", 2, ip="10.9.0.20")
    with pytest.raises(InvalidRequest, match="held by sandbox"):
        lease(store, "b", 2, ip="10.9.0.23")
    with pytest.raises(Unclaimed) as unclaimed:
        lease(store, "b", 2, ip="10.9.7.7")
    assert (unclaimed.value.network, str(unclaimed.value.address)) == ("net", "10.9.7.7")
    store.cluster.take("net", claim_of(ip_address("10.9.7.7")))
    assert lease(store, "b", 2, ip="10.9.7.7") == ["10.9.7.7/16"]
    assert not store.cluster.leave("net", claim_of(ip_address("10.9.7.7")))
    release(store, "b")
    assert [lease(store, f"c{n}", n + 9) for n in range(2)] == [["10.9.0.21/16"], ["10.9.0.22/16"]]
    with pytest.raises(InvalidRequest, match=r"no free address"):  # a claim is for who asked
        lease(store, "c2", 11)


def test_an_address_that_was_lent_is_leased_to_nobody(store: LeaseStore) -> None:
    store.cluster.take("net", SECOND)
    lent = claim_of(ip_address("10.9.0.21"))
    assert store.cluster.lend("net", lent, "other")
    assert lease(store, "a", 1) == ["10.9.0.22/16"]
    assert not store.cluster.lend("net", claim_of(ip_address("10.9.0.22")), "other")
    with pytest.raises(Unclaimed):
        lease(store, "b", 2, ip="10.9.0.21")
    store.cluster.meet([], [], gone_blocks=[("net", lent)])
    assert lease(store, "b", 2, ip="10.9.0.21") == ["10.9.0.21/16"]


def test_an_address_that_comes_back_is_leased_again(store: LeaseStore) -> None:
    """Whether another host had it, or this one as a claim before it had the block."""
    claim, lent = claim_of(ip_address("10.9.0.21")), claim_of(ip_address("10.9.0.22"))
    store.cluster.take("net", claim)
    lease(store, "a", 1, ip="10.9.0.21")
    store.cluster.take("net", SECOND)
    assert store.cluster.lend("net", lent, "other")
    assert lease(store, "b", 2) == ["10.9.0.23/16"]
    with pytest.raises(InvalidRequest, match="no free address"):
        lease(store, "c", 3)
    release(store, "a")
    assert store.cluster.leave("net", claim)
    assert store.cluster.forget("net", claim)
    assert lease(store, "c", 3) == ["10.9.0.21/16"]
    store.cluster.meet([], [], gone_blocks=[("net", lent)])
    assert lease(store, "d", 4) == ["10.9.0.22/16"]


def test_a_store_that_was_lost_has_leases_before_blocks(store: LeaseStore) -> None:
    asked = container("a", 1), [NET], Request()
    adopt = {"net": [ip_address("10.9.0.22")]}
    assert addresses(store.create_sandbox(*asked, adopt)) == ["10.9.0.22/16"]
    store.cluster.take("net", SECOND)
    assert [count for _, count in store.cluster.used()] == [1]


def test_what_is_known_of_other_hosts(store: LeaseStore) -> None:
    peer = Peer("b", ip_address("192.0.2.2"))
    block = PeerBlock("net", FIRST, "b")
    store.cluster.meet([peer], [block])
    assert store.cluster.peers() == {"b": peer}
    assert store.cluster.peer_blocks() == [block]
    store.cluster.meet([], [], ["b"], [("net", FIRST)])
    assert store.cluster.peers() == {}
    assert store.cluster.peer_blocks() == []


def test_numbers_and_identity(store: LeaseStore) -> None:
    assert store.cluster.number("net") == 0
    store.cluster.set_number("net", 7)
    assert store.cluster.number("net") == 7
    assert store.cluster.numbers() == {"net": 7}
    assert store.cluster.identity() == Identity()
    store.cluster.identify(Identity("ab", "cd", 9))
    assert store.cluster.identity() == Identity("ab", "cd", 9)


@given(st.sampled_from([FOUR, SIX]), st.integers(2, 12), st.data())
def test_blocks_cut_a_subnet(
    subnet: IPv4Network | IPv6Network, bits: int, data: st.DataObject
) -> None:
    size = 1 << bits
    index = data.draw(st.integers(0, min(blocks_in(subnet, size), 2**60) - 1))
    block = block_at(subnet, size, index)
    assert block.subnet_of(subnet)  # type: ignore[arg-type]
    assert block.num_addresses == size
    inside = block.network_address + data.draw(st.integers(0, size - 1))
    assert block_with(subnet, size, inside) == block
    own = host_address(subnet, block)
    assert own in block
    assert refusal(subnet, own) is None


def test_a_claim_is_a_block_of_one() -> None:
    assert Block("net", ip_network("10.9.0.5/32"), "held").is_claim
    assert Block("net", claim_of(ip_address("fd09::5")), "held").is_claim
    assert not Block("net", FIRST, "held").is_claim
