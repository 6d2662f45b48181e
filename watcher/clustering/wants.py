"""How many blocks this host would like to have: more ahead of need, and empty ones back.

Half a block of free addresses is ahead of any need: the registry answers in milliseconds. An empty
block is given back only if a whole block of free addresses is left, so that none goes and comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from watcher.model.address import Subnet
from watcher.model.cluster import Block, is_claim
from watcher.model.network import Network
from watcher.store.room import capacity

type Used = Sequence[tuple[Block, int]]
"""Blocks in the order of taking, each with the number of addresses that are leased from it."""


def free(network: Network, subnet: Subnet, used: Used) -> int:
    """How many addresses of `subnet` this host could lease now."""
    return sum(
        capacity(subnet, block.prefix) - leased for block, leased in _held(network, subnet, used)
    )


def with_lent(used: Used, lent: Iterable[tuple[str, Subnet]]) -> Used:
    """`used`, with the addresses of these blocks that others have counted as leased."""
    counts = Counter(
        index
        for name, prefix in lent
        for index, (block, _) in enumerate(used)
        if block.network == name and prefix.network_address in block.prefix
    )
    return [(block, leased + counts[index]) for index, (block, leased) in enumerate(used)]


def wanted(network: Network, version: int, used: Used) -> int:
    """How many more blocks of that IP version this host would like to take."""
    subnet = network.subnet_of(version)
    if subnet is None:
        return 0
    lacking = max(1, network.block // 2) - free(network, subnet, used)
    return max(0, -(-lacking // network.block))


def to_give_back(network: Network, used: Used) -> list[Subnet]:
    """The empty blocks of `network` that this host does not need."""
    back = []
    for subnet in network.subnets:
        left = free(network, subnet, used)
        held = _held(network, subnet, used)
        # The first one stays: the host's own packets have an address of it.
        for block, leased in reversed(held[1:]):
            room = capacity(subnet, block.prefix)
            if leased == 0 and left - room >= network.block:
                back.append(block.prefix)
                left -= room
    return back


def misfits(networks: Sequence[Network], used: Used) -> list[Block]:
    """The held blocks that are no blocks of any of the clustered `networks` any more."""
    by_name = {network.name: network for network in networks}
    return [
        block
        for block, _ in used
        if block.state == "held" and not _fits(by_name.get(block.network), block.prefix)
    ]


def _fits(network: Network | None, prefix: Subnet) -> bool:
    if network is None:
        return False
    subnet = network.subnet_of(prefix.version)
    inside = subnet is not None and prefix.network_address in subnet
    return inside and (is_claim(prefix) or prefix.num_addresses == network.block)


def _held(network: Network, subnet: Subnet, used: Used) -> list[tuple[Block, int]]:
    return [
        (block, leased)
        for block, leased in used
        if block.network == network.name
        and block.state == "held"
        and not block.is_claim
        and block.prefix.version == subnet.version
    ]
