"""Matches that several rules of this program's table are made of. Source: nft(8)."""

from __future__ import annotations

from typing import Final

from handlers.networks.driver import Driver
from watcher.model.address import Subnet
from watcher.model.naming import link_local
from watcher.model.sandbox import Interface

HOST_ENDS: Final = "netnsv*"
"""All host ends; they match packets of networks without a bridge of their own."""

ERRORS: Final = "ct state related meta l4proto { icmp, ipv6-icmp }"
"""Errors about a connection; all else that is related begins one (`nf_conntrack_ftp`)."""


def side(driver: Driver, name: str, field: str, subnet: Subnet) -> str:
    """Matches one side of what a network's sandboxes send or get.

    A network is matched by the bridge of its host ends, or by its subnets if there is none.
    `name` is `iifname` or `oifname`, and `field` is `saddr` or `daddr`.
    """
    if driver.master:
        return f'{name} "{driver.master}"'
    return f'{name} "{HOST_ENDS}" {ip_of(subnet)} {field} {subnet}'


def local_key(interface: Interface, driver: Driver) -> tuple[str, str] | None:
    """The link by which the host has an interface, and its link-local address; `None` without IPv6.

    That address is nobody's lease, and the same one may be on several links.
    """
    for address in interface.addresses:
        if address.version == 6:
            return f'"{driver.master or interface.host_name}"', str(link_local(interface.mac))
    return None


def span(numbers: tuple[int, int]) -> str:
    """A range of ports or protocols, as nft writes it."""
    first, last = numbers
    return str(first) if first == last else f"{first}-{last}"


def ip_family(version: int) -> str:
    """What nft calls the family of IP `version`."""
    return "ip" if version == 4 else "ip6"


def ip_of(subnet: Subnet) -> str:
    """What nft calls the family of `subnet`."""
    return ip_family(subnet.version)
