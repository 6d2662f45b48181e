"""Addresses that no name opens: who answers for a name could have it lead into the host's networks.

Sources: the registries of special-purpose addresses (RFC 6890) as :mod:`ipaddress` has them,
RFC 6052 (NAT64).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Final

from handlers.kernel import rtnl
from handlers.kernel.rtnl.numbers import RTN_UNICAST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from handlers.kernel.netlink import Netlink
    from watcher.model.address import Address
    from watcher.model.network import Network

_NAT64: Final = IPv6Network("64:ff9b::/96")
_6TO4: Final = IPv6Network("2002::/16")


def behind_nat64(address: Address) -> Address:
    """The address that a packet to `address` goes to in the end: NAT64 may make another of it."""
    if isinstance(address, IPv6Address) and address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_special(address: Address) -> bool:
    """Whether `address` is none of the Internet, but private, loopback, link-local, multicast."""
    if isinstance(address, IPv6Address):
        if address in _6TO4:
            return True
        if address.ipv4_mapped is not None or address.is_site_local:
            return True
    return not address.is_global or address.is_multicast or address.is_reserved


def is_of_networks(address: Address, networks: Iterable[Network]) -> bool:
    """Whether `address` is in the subnet of a network of sandboxes."""
    return any(address in subnet for network in networks for subnet in network.subnets)


def is_of_host(address: Address, netlink: Netlink) -> bool:
    """Whether the host itself has `address` at present, or broadcasts to it.

    Raises:
        OSError: the kernel did not answer.
    """
    (route,) = netlink.answers([rtnl.path_to(address.version, address.packed)])
    return route is not None and route[7] != RTN_UNICAST
