"""Where things are in etcd: the keys of layout version 1. docs/cluster.md documents them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.model.network import valid_network_name

if TYPE_CHECKING:
    from watcher.model.address import Address, Subnet

VERSION: Final = 1
"""The version of the layout. A newer program that changes it changes `layout` as well."""

_DIGITS: Final = {4: 8, 6: 32}
"""Hexadecimal digits of an address: as many for each, so that keys sort as addresses do."""


class Part(Struct, frozen=True):
    """A block or a claim, as a key names it: its first address.

    The length of its prefix is that of the network's blocks, or the whole address of a claim.
    """

    network: str
    version: int
    first: int

    @property
    def address(self) -> Address:
        """Its first address."""
        return IPv4Address(self.first) if self.version == 4 else IPv6Address(self.first)

    def begins(self, length: int) -> bool:
        """Whether a subnet of that length begins there: anybody may have written the key."""
        return not self.first & ((1 << (self.address.max_prefixlen - length)) - 1)

    def prefix(self, length: int) -> Subnet:
        """The subnet of that length that :meth:`begins` there."""
        network = IPv4Network if self.version == 4 else IPv6Network
        return network((self.first, length))


def part_of(network: str, prefix: Subnet) -> Part:
    """The part of `network` that is `prefix`."""
    return Part(network, prefix.version, int(prefix.network_address))


class Keys:
    """The keys of a cluster.

    Args:
        prefix: how they begin (`[cluster] prefix`).

    Attributes:
        all: how they begin, with the version.
        layout: has the version of the layout that counts.
        restored: is there while etcd was restored a moment ago: nobody takes anything new.
    """

    __slots__ = ("all", "layout", "restored")

    def __init__(self, prefix: str) -> None:
        self.all = f"{prefix}/v{VERSION}/"
        self.layout = f"{self.all}layout"
        self.restored = f"{self.all}restored"

    def host(self, name: str) -> str:
        """A host, until it is removed."""
        return f"{self.all}hosts/{name}"

    def address(self, address: str) -> str:
        """The name of the host with that address."""
        return f"{self.all}addresses/{address}"

    def alive(self, name: str) -> str:
        """Is there while the host is heard of."""
        return f"{self.all}alive/{name}"

    def network(self, name: str) -> str:
        """A network, the same on all hosts."""
        return f"{self.all}networks/{name}"

    def networks(self) -> tuple[str, str]:
        """The range of all networks."""
        return self.network(""), f"{self.all}networks0"

    def block(self, part: Part) -> str:
        """Who has a block."""
        return f"{self.all}blocks/{_place(part)}"

    def claim(self, part: Part) -> str:
        """Who has a single address."""
        return f"{self.all}claims/{_place(part)}"

    def claims_in(self, network: str, block: Subnet) -> tuple[str, str]:
        """The range of all claims in a block."""
        last = Part(network, block.version, int(block.broadcast_address))
        return self.claim(part_of(network, block)), f"{self.claim(last)}\0"

    def endpoint(self, host: str, id: str) -> str:  # noqa: A002 - the project's word
        """What a host tells of one sandbox."""
        return f"{self.all}endpoints/{host}/{id}"

    def endpoints(self, host: str) -> tuple[str, str]:
        """The range of all endpoints of a host."""
        return f"{self.all}endpoints/{host}/", f"{self.all}endpoints/{host}0"

    def table(self, key: str) -> tuple[str, str]:
        """The table that a key is in, and the rest of the key."""
        table, _, rest = key[len(self.all) :].partition("/")
        return table, rest


def parse_part(rest: str) -> Part | None:
    """The block or claim that the rest of a key names; `None` if it names none."""
    network, _, place = rest.partition("/")
    family, _, digits = place.partition("/")
    version = {"4": 4, "6": 6}.get(family)
    if version is None or len(digits) != _DIGITS[version] or not valid_network_name(network):
        return None
    try:
        first = int(digits, 16)
    except ValueError:
        return None
    part = Part(network, version, first)
    return part if _place(part) == rest else None


def _place(part: Part) -> str:
    return f"{part.network}/{part.version}/{part.first:0{_DIGITS[part.version]}x}"
