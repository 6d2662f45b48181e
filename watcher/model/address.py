"""Addresses and subnets of either family."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

type Address = IPv4Address | IPv6Address
type AddressWithPrefix = IPv4Interface | IPv6Interface
type Subnet = IPv4Network | IPv6Network
