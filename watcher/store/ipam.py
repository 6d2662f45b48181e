"""Chooses a sandbox's addresses; it knows nothing of how they are stored."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

from watcher.model import keys
from watcher.model.errors import InvalidRequest
from watcher.model.network import gateway

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from watcher.model.address import Address, Subnet
    from watcher.model.network import Network

FIRST: Final = 2
"""Offset in a subnet of the first address for a sandbox; the gateway is before it."""

POOL: Final = 1 << 16
"""How many addresses of a subnet, from the first on, are leased without a request: all of an IPv4
/16, and 64 times the ports of one bridge. Later ones are leased only on request. It bounds the
store's memory of freed addresses, which would grow for ever in an IPv6 /64."""


class Pool(Struct, frozen=True):
    """What every lease needs to know of a subnet; of the same subnet it is always the same.

    Attributes:
        subnet, text: the subnet, and as text.
        family: its IP version.
        prefix: its prefix length.
        base: its first address, as a number.
        end: the offset after the last address of the pool.
        kind: the class of its addresses.
    """

    subnet: Subnet
    text: str
    family: int
    prefix: int
    base: int
    end: int
    kind: type[IPv4Address | IPv6Address]

    def has(self, address: Address) -> bool:
        """Whether `address` is leased without a request."""
        return isinstance(address, self.kind) and FIRST <= int(address) - self.base < self.end


@lru_cache(256)
def pool_of(subnet: Subnet) -> Pool:
    """The pool of `subnet`."""
    kind = IPv4Address if subnet.version == 4 else IPv6Address
    base = int(subnet.network_address)
    end = pool_end(subnet)
    return Pool(subnet, str(subnet), subnet.version, subnet.prefixlen, base, end, kind)


@lru_cache(256)
def pools_of(subnets: tuple[Subnet, ...]) -> tuple[Pool, ...]:
    """The pools of a network's `subnets`, that of IPv4 first."""
    return tuple(pool_of(subnet) for subnet in sorted(subnets, key=lambda one: one.version))


class Book(Protocol):
    """The known addresses of one network and family, for one container that needs an address.

    Attributes:
        cursor: offset in the subnet; every address of the pool before it is in the book, or is
            leased on request only.
    """

    cursor: int

    def take(self, address: Address) -> bool:
        """Lease `address`, unless it is leased or remembered; whether it was leased."""

    def free(self, address: Address) -> bool:
        """Whether no sandbox has leased `address`."""

    def had(self) -> Iterable[Address]:
        """The free addresses that the container had before, the latest first."""

    def freed(self) -> Iterable[Address]:
        """The free remembered addresses, the first freed first."""


def choose(
    book: Book, pool: Pool, adopt: Iterable[Address] = (), asked_for: Collection[Address] = ()
) -> Address | None:
    """The address of a subnet for a container; `None` if none is left.

    In this order: one of `adopt`, which it has already; the one that it had last; one that was
    never leased, which is leased by now; the one freed first. Those `asked_for` are leased on
    request only. `book.cursor` is moved past known addresses.
    """
    for address in adopt:
        if refusal(pool.subnet, address) is None and book.free(address):
            return address
    for address in book.had():
        if pool.has(address) and address not in asked_for:
            return address
    for offset in range(book.cursor, pool.end):
        book.cursor = offset + 1
        address = pool.kind(pool.base + offset)
        if address not in asked_for and book.take(address):
            return address
    freed = (address for address in book.freed() if address not in asked_for)
    return next((address for address in freed if pool.has(address)), None)


def pool_end(subnet: Subnet) -> int:
    """The offset in `subnet` after the last address of the pool."""
    reserved = 1 if subnet.version == 4 else 0  # the broadcast address
    return max(FIRST, min(subnet.num_addresses - reserved, FIRST + POOL))


def refusal(subnet: Subnet, address: Address) -> str | None:
    """Why no sandbox may have `address` in `subnet`, as the end of a sentence; `None` if it may."""
    if address not in subnet:
        return f"is not in {subnet}"
    if address == subnet.network_address:
        kind = "network" if subnet.version == 4 else "subnet-router anycast"
        return f"is the {kind} address of {subnet}"
    if address == gateway(subnet):
        return f"is the gateway of {subnet}"
    if subnet.version == 4 and address == subnet.broadcast_address:
        return f"is the broadcast address of {subnet}"
    return None


def place_fixed(
    networks: Sequence[Network], addresses: Sequence[Address], annotation: str | None = None
) -> Mapping[tuple[int, int], Address]:
    """The fixed addresses by ordinal and IP version: each is in the first network that contains it.

    `networks` are in the order of the interfaces. An error quotes the `annotation`'s value.

    Raises:
        InvalidRequest: an address is in no network, may not be leased, or is the second of its
            family on one interface.
    """
    placed: dict[tuple[int, int], Address] = {}
    value = ",".join(map(str, addresses)) if annotation is None else annotation
    for address in addresses:
        found = next(
            (
                (ordinal, subnet)
                for ordinal, network in enumerate(networks)
                for subnet in network.subnets
                if address in subnet
            ),
            None,
        )
        if found is None:
            subnets = ", ".join(str(s) for network in networks for s in network.subnets)
            names = ", ".join(network.name for network in networks)
            reason = f"{address} is in no subnet of its networks ({names or 'none'})"
            remedy = f"ask for an address of {subnets}" if subnets else "leave it out"
            raise InvalidRequest(keys.IP, value, reason, remedy)
        ordinal, subnet = found
        if (why := refusal(subnet, address)) is not None:
            raise InvalidRequest(
                keys.IP, value, f"{address} {why}", f"ask for another address of {subnet}"
            )
        if (other := placed.setdefault((ordinal, address.version), address)) != address:
            reason = f"{other} and {address} would be on one interface"
            raise InvalidRequest(keys.IP, value, reason, "ask for one address of a family")
    return placed
