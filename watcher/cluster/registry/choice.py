"""Which block a host takes next."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from watcher.model.cluster import block_at, blocks_in

if TYPE_CHECKING:
    import random
    from collections.abc import Container, Sequence

    from watcher.model.address import Subnet

_AMONG: Final = 16
"""Free blocks from which one is drawn."""


def start_of(host: str, count: int) -> int:
    """Where in `count` blocks a host begins to look: elsewhere than most other hosts."""
    return int.from_bytes(blake2b(host.encode(), digest_size=16).digest()) % count


def choose(
    host: str,
    subnet: Subnet,
    size: int,
    wanted: int,
    taken: Container[int],
    claimed: Container[int],
    rng: random.Random,
) -> Sequence[Subnet]:
    """Up to `wanted` free blocks of `subnet`, at random near the place where the host begins.

    Args:
        taken: the first addresses of the blocks that somebody has.
        claimed: those of the blocks with an address that another host has; they are the last.
    """
    count = blocks_in(subnet, size)
    start = start_of(host, count)
    first = int(subnet.network_address)
    free: list[int] = []
    others: list[int] = []
    for offset in range(count):
        index = (start + offset) % count
        at = first + index * size
        if at in taken:
            continue
        (others if at in claimed else free).append(index)
        if len(free) >= _AMONG + wanted:
            break
    drawn = rng.sample(free, min(wanted, len(free)))
    drawn += others[: wanted - len(drawn)]
    return [block_at(subnet, size, index) for index in drawn]
