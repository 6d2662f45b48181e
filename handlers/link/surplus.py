"""Addresses on a sandbox's interface without a lease.

With the guard on, packets from them are dropped. So the addresses are removed, and do not look as
if they worked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink
from watcher.model.address import AddressWithPrefix
from watcher.model.naming import link_local
from watcher.model.network import Network
from watcher.model.sandbox import Interface

_SHOWN: Final = 3
"""The most addresses to name in a message."""


def surplus(
    inside: Netlink, index: int, interface: Interface, network: Network
) -> list[AddressWithPrefix]:
    """The addresses of `interface` that are no leases, seen by a socket `inside`; none unguarded.

    The link-local address that the kernel makes of its MAC is none of them: the guard allows it.
    """
    if not network.guard:
        return []
    kept = {address.ip for address in interface.addresses} | {link_local(interface.mac)}
    there = rtnl.read_addresses(inside.dump(rtnl.addresses(index)))
    return [address for address in there if address.ip not in kept]


def described(name: str, addresses: Sequence[AddressWithPrefix]) -> str:
    """What is wrong with the interface `name`; empty if there are no `addresses`."""
    if not addresses:
        return ""
    shown = ", ".join(map(str, addresses[:_SHOWN]))
    more = f" and {len(addresses) - _SHOWN} more" if len(addresses) > _SHOWN else ""
    return f"{name} had {shown}{more}, which it has no lease for"
