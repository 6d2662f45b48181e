"""How much room this host has in what it holds of a clustered network; it knows nothing of SQL."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from msgspec import Struct

from watcher.model.cluster import host_address
from watcher.model.network import gateway

if TYPE_CHECKING:
    from collections.abc import Iterable

    from watcher.model.address import Address, Subnet
    from watcher.model.cluster import Block
    from watcher.model.network import Network


class Room(Struct, frozen=True):
    """What this host has of one subnet.

    Attributes:
        blocks: how many blocks it holds.
        leased: how many addresses its sandboxes have, of whatever block.
        free: how many more it can lease from its blocks.
    """

    blocks: int = 0
    leased: int = 0
    free: int = 0


def room(
    network: Network, subnet: Subnet, used: Iterable[tuple[Block, int]], lent: Iterable[str] = ()
) -> Room:
    """The room in `subnet` of `network`.

    Args:
        network: a clustered network.
        subnet: one of its subnets.
        used: what this host has, each with the number of addresses that are leased from it.
        lent: the addresses of that network that other hosts have alone.
    """
    blocks, leased, free = 0, 0, 0
    starts: dict[int, set[Address]] = {}
    for block, count in used:
        if block.network != network.name or block.prefix.version != subnet.version:
            continue
        leased += count
        if block.state == "held" and not block.is_claim:
            blocks += 1
            reserved = _not_for_sandboxes(subnet, block.prefix)
            starts[int(block.prefix.network_address)] = reserved
            free += max(0, int(block.prefix.num_addresses) - len(reserved) - count)
    if starts:
        mask = ~(network.block - 1)
        for address in _of(subnet, lent):
            start = int(address) & mask
            free -= start in starts and address not in starts[start]
    return Room(blocks, leased, max(0, free))


def capacity(subnet: Subnet, block: Subnet) -> int:
    """How many addresses of `block` sandboxes can have."""
    return int(block.num_addresses) - len(_not_for_sandboxes(subnet, block))


def _not_for_sandboxes(subnet: Subnet, block: Subnet) -> set[Address]:
    """The addresses of `block` that no sandbox can have."""
    reserved = {subnet.network_address, gateway(subnet)}
    if subnet.version == 4:
        reserved.add(subnet.broadcast_address)
    return {host_address(subnet, block), *(one for one in reserved if one in block)}


def _of(subnet: Subnet, texts: Iterable[str]) -> Iterable[Address]:
    colon = subnet.version == 6
    return (ip_address(text) for text in texts if (":" in text) == colon)
