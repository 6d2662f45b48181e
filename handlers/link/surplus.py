"""Addresses without a lease on a sandbox's interface.

With the guard on, their packets are dropped. Removing the addresses makes that visible.
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
"""The most addresses that a message names."""


def surplus(
    inside: Netlink, index: int, interface: Interface, network: Network
) -> list[AddressWithPrefix]:
    """The addresses of `interface` without a lease; empty if the network has no guard.

    The link-local address of its MAC is not among them: the guard allows it. `inside` is a socket
    in the namespace.
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
