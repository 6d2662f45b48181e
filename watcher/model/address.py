"""Addresses and subnets of either family."""

from __future__ import annotations

from abc import ABC
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    type Address = IPv4Address | IPv6Address
    type AddressWithPrefix = IPv4Interface | IPv6Interface
else:

    class Address(ABC):  # noqa: B024
        """An address of either family; msgspec cannot decode a union of two foreign classes."""

    Address.register(IPv4Address)
    Address.register(IPv6Address)

    class AddressWithPrefix(ABC):  # noqa: B024
        """An address of either family with a prefix length."""

    AddressWithPrefix.register(IPv4Interface)
    AddressWithPrefix.register(IPv6Interface)

type Subnet = IPv4Network | IPv6Network
