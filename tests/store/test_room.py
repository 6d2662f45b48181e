"""The room that is told is what containers get."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.leases import container
from watcher.model.address import Subnet
from watcher.model.cluster import Peer, PeerBlock, block_at, blocks_in, claim_of
from watcher.model.errors import InvalidRequest
from watcher.model.network import Network
from watcher.model.request import Request
from watcher.store.leases import LeaseStore
from watcher.store.room import Room, room

FOUR, SIX = IPv4Network("10.9.0.0/27"), IPv6Network("fd09::/123")
BLOCKS = st.sets(st.integers(0, blocks_in(FOUR, 4) - 1), max_size=4)


@pytest.mark.parametrize("subnet", [FOUR, SIX])
@given(held=BLOCKS, lost=BLOCKS, lent=st.sets(st.integers(0, 31), max_size=6))
def test_it_is_what_containers_get(
    subnet: Subnet, held: set[int], lost: set[int], lent: set[int]
) -> None:
    net = Network(
        name="net", mode="routed", bridge="net0", subnets=(subnet,), cluster=True, block=4
    )
    claims = [claim_of(subnet.network_address + offset) for offset in lent]
    with TemporaryDirectory() as home, LeaseStore.open(Path(home, "leases.db")) as store:
        for index in held | lost:
            store.cluster.take("net", block_at(subnet, 4, index))
        store.cluster.meet([Peer("b", FOUR[1])], [PeerBlock("net", one, "b") for one in claims])
        for index in lost:
            store.cluster.turn("net", block_at(subnet, 4, index), "lost")
        first = told(store, net, subnet)
        assert (first.blocks, first.leased) == (len(held - lost), 0)
        assert attached(store, net) == first.free
        assert told(store, net, subnet) == Room(first.blocks, first.free, 0)


def test_what_is_lost_or_claimed_is_leased_and_not_free(store: LeaseStore) -> None:
    net = Network(name="net", mode="routed", bridge="n0", subnets=(FOUR,), cluster=True, block=4)
    store.cluster.take("net", block_at(FOUR, 4, 1))
    store.cluster.take("net", claim_of(FOUR[30]))
    asked = Request(addresses=(FOUR[30],))
    store.create_sandbox(container("claimer", 1), [net], asked)
    store.create_sandbox(container("other", 2), [net], Request())
    assert told(store, net, FOUR) == Room(1, 2, 2)
    store.cluster.turn("net", block_at(FOUR, 4, 1), "lost")
    assert told(store, net, FOUR) == Room(0, 2, 0)


def told(store: LeaseStore, net: Network, subnet: Subnet) -> Room:
    return room(net, subnet, store.cluster.used(), store.cluster.lent().get("net", ()))


def attached(store: LeaseStore, net: Network) -> int:
    """How many containers get an address."""
    for number in count():
        try:
            store.create_sandbox(container(f"c{number}", number + 1), [net], Request())
        except InvalidRequest:
            return number
    raise AssertionError
