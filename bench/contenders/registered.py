"""A clustered network, with what the registry would tell of it in the lease store from the start.

So neither etcd nor `watcher cluster` has to run: neither is on the way of a packet or of an attach.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from watcher.config import load
from watcher.model.cluster import Peer, PeerBlock, block_at
from watcher.store.files import store_path
from watcher.store.leases import LeaseStore

if TYPE_CHECKING:
    from collections.abc import Mapping

SUBNETS: Final = (IPv4Network("172.19.0.0/16"), IPv6Network("fd00:19::/64"))
BLOCK: Final = 256
"""Addresses of a block."""


def blocks(number: int) -> list[IPv4Network | IPv6Network]:
    """The blocks of the host of that number, one of each family."""
    return [block_at(subnet, BLOCK, 1 + number) for subnet in SUBNETS]


def keys(number: int, address: str, *more: str, etcd: str = "https://192.0.2.9:2379") -> list[str]:
    """The keys of a clustered network in `watcher.toml`, and what comes after it.

    Args:
        number: of the host.
        address: by which others reach it.
        more: more keys of the network.
        etcd: the registry, by default one that nobody asks.
    """
    return [
        f"subnets = {json.dumps([str(subnet) for subnet in SUBNETS])}",
        "cluster = true",
        f"block = {BLOCK}",
        *more,
        "[cluster]",
        f'etcd = ["{etcd}"]',
        f'host = "host-{number}"',
        f'address = "{address}"',
    ]


def fill(config: Path, number: int, others: Mapping[int, str]) -> None:
    """Put the blocks of the host `number` into its lease store, and those of other hosts.

    Args:
        config: its `watcher.toml`.
        number: of the host.
        others: the addresses of the others, by their numbers.
    """
    with LeaseStore.open_anew(store_path(load.load(config))) as store:
        store.cluster.set_number("default", 1)
        for block in blocks(number):
            store.cluster.take("default", block)
        peers = {of: Peer(f"host-{of}", ip_address(text)) for of, text in others.items()}
        theirs = [
            PeerBlock("default", block, peer.host)
            for of, peer in peers.items()
            for block in blocks(of)
        ]
        store.cluster.meet(peers.values(), theirs)
