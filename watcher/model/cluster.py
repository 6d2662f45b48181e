"""Hosts of a cluster: which parts of a network's subnets each leases from, and how it is reached.

A clustered network has the same subnets on all hosts. Each host takes *blocks* of them, and leases
from these alone. What other hosts have to know follows from a block or from a host's address, so
that it is stored nowhere: it is the same before and after any restart.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, Literal

from msgspec import Struct

from watcher.model.address import Address, Subnet
from watcher.model.naming import hashed_mac
from watcher.model.network import gateway

PROTOCOL: Final = 119
"""The routing protocol number of this program's routes to blocks: `ip route show proto 119`."""

DEVICE: Final = "netnsx"
"""How the name of a network's VXLAN device begins; the network's number follows."""

_VNI: Final = 0x770000
"""The VXLAN network identifiers of this program begin here."""

MOST_NETWORKS: Final = 4096
"""The numbers of clustered networks are from 1 to this."""

SOURCE_PORTS: Final = (512, 1023)
"""The UDP ports that VXLAN is sent from: no unprivileged user of a host can send from these."""

HEADERS: Final = {4: 50, 6: 70}
"""Bytes that VXLAN adds to a packet, by the IP version that carries it: an Ethernet header of 14,
VXLAN and UDP with 8 each, IP with 20 or 40 (RFC 7348, section 5)."""

type BlockState = Literal["wanted", "held", "leaving", "lost"]


class Block(Struct, frozen=True):
    """A part of a network's subnet that this host leases from, or wants to.

    Attributes:
        network: the network's name.
        prefix: the part. A single address is a *claim*: an address that a container has asked for,
            and that is in no other block of this host.
        state: `wanted`: a claim that the registry has not granted yet; `held`: this host leases
            from it; `leaving`: it is given back, and nothing is leased from it any more; `lost`:
            another host may have it; what is leased from it stays so until it is released.
    """

    network: str
    prefix: Subnet
    state: BlockState

    @property
    def is_claim(self) -> bool:
        """Whether it is one address."""
        return is_claim(self.prefix)


class Peer(Struct, frozen=True):
    """Another host of the cluster.

    Attributes:
        host: its name.
        address: what this host reaches it by.
        alive: whether it has been heard of lately. Routes do not depend on that.
    """

    host: str
    address: Address
    alive: bool = True


class PeerBlock(Struct, frozen=True):
    """A part of a network's subnet that another host has: a block or a claim.

    Attributes:
        host: that host's name; empty if it is not known.
    """

    network: str
    prefix: Subnet
    host: str


class ClusterChange(Struct, frozen=True):
    """What has become different in the lease store's part of the cluster.

    Attributes:
        peers: other hosts that are new, or of which something is.
        gone: the names of those that are there no more.
        blocks: what other hosts have that is new, or that another one has now.
        gone_blocks: what no other host has any more: network and prefix.
        own: the networks of which this host's blocks have changed, or whose number has.
    """

    peers: tuple[Peer, ...] = ()
    gone: tuple[str, ...] = ()
    blocks: tuple[PeerBlock, ...] = ()
    gone_blocks: tuple[tuple[str, Subnet], ...] = ()
    own: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return any((self.peers, self.gone, self.blocks, self.gone_blocks, self.own))


def is_claim(prefix: Subnet) -> bool:
    """Whether `prefix` is one address."""
    return prefix.prefixlen == prefix.max_prefixlen


def claim_of(address: Address) -> Subnet:
    """The block of `address` alone."""
    return ip_network((address.packed, address.max_prefixlen))


def block_prefix(subnet: Subnet, size: int) -> int:
    """The prefix length of the blocks of `subnet`, each with `size` addresses, a power of two."""
    return subnet.max_prefixlen - size.bit_length() + 1


def block_at(subnet: Subnet, size: int, index: int) -> Subnet:
    """The block number `index` of `subnet`."""
    network = IPv4Network if subnet.version == 4 else IPv6Network
    first = int(subnet.network_address) + index * size
    return network((first, block_prefix(subnet, size)))


def block_with(subnet: Subnet, size: int, address: Address) -> Subnet:
    """The block of `subnet` with `address` in it."""
    return block_at(subnet, size, (int(address) - int(subnet.network_address)) // size)


def blocks_in(subnet: Subnet, size: int) -> int:
    """How many blocks `subnet` has."""
    return int(subnet.num_addresses // size)


def host_address(subnet: Subnet, block: Subnet) -> Address:
    """The address of `block` that the host itself has, and that no sandbox gets.

    It is the first one that is neither the subnet's own address nor its gateway.
    """
    taken = (subnet.network_address, gateway(subnet))
    return next(
        address
        for address in (block.network_address + offset for offset in range(3))
        if address not in taken
    )


def vni(number: int) -> int:
    """The VXLAN network identifier of the clustered network `number`."""
    return _VNI + number


def device(number: int) -> str:
    """The VXLAN device of the clustered network `number`."""
    return f"{DEVICE}{number}"


def vtep_mac(address: Address, number: int) -> str:
    """The MAC of the VXLAN device of the network `number` on the host with that address."""
    return hashed_mac(f"{address} {number}".encode())
