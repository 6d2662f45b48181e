"""`mode = "routed"` with `cluster = true`: the same network on several hosts.

To its own sandboxes, a host has routes as in any routed network. This module decides how it reaches
the blocks of other hosts, and from which address its own packets to them come: the gateway's is the
same on all hosts, so an answer to that would never come back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from handlers.networks.routed import RoutedDriver
from watcher.model.address import Address, Subnet
from watcher.model.cluster import Block, block_prefix, block_with, host_address

type Path = Literal["plain", "vxlan", ""]
"""How packets get to a block of another host: by a plain route, in VXLAN, or not at all."""


class ClusteredDriver(RoutedDriver):
    """A routed network of which this host has some blocks, and others have others."""

    __slots__ = ()

    def path(self, block: int, address: Address, *, common: bool) -> Path:
        """How packets get to a block of IP version `block` of the host with that `address`.

        `common` is whether the address is on a link of this host. An IPv4 next hop cannot stand in
        a route to an IPv6 block, while an IPv6 one can stand in either (RFC 5549).
        """
        backend = self.network.backend
        if common and backend != "vxlan" and not (block == 6 and address.version == 4):
            return "plain"
        return "vxlan" if backend != "routes" else ""

    def tunnels(self, address: Address, *, common: bool) -> bool:
        """Whether packets to the host with that `address` may travel in VXLAN."""
        versions = (subnet.version for subnet in self.network.subnets)
        return any(self.path(version, address, common=common) == "vxlan" for version in versions)

    def sources(self, blocks: Iterable[Block]) -> dict[int, Address]:
        """Its address here by IP version: that of the oldest of this host's `blocks` of each."""
        found: dict[int, Address] = {}
        for block in blocks:
            subnet = self.network.subnet_of(block.prefix.version)
            if (
                block.network == self.network.name
                and block.state == "held"
                and not block.is_claim
                and subnet is not None
            ):
                found.setdefault(subnet.version, host_address(subnet, block.prefix))
        return found

    def may_be_source(self, address: Address) -> bool:
        """Whether `address` is one that a host with some block has."""
        subnet = self.network.subnet_of(address.version)
        if subnet is None or address not in subnet:
            return False
        block = block_with(subnet, self.network.block, address)
        return address == host_address(subnet, block)

    def has_room_for(self, prefix: Subnet) -> bool:
        """Whether `prefix` can be a block or a claim of this network.

        Other hosts say what they have; nothing that they say may lead packets for others to them.
        """
        subnet = self.network.subnet_of(prefix.version)
        if subnet is None or prefix.network_address not in subnet:
            return False
        size = block_prefix(subnet, self.network.block)
        return prefix.prefixlen in (size, prefix.max_prefixlen)


DRIVER: Final = ClusteredDriver
