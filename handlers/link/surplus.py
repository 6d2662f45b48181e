"""Addresses without a lease on a sandbox's interface.

With the guard on, their packets are dropped. Removing the addresses makes that visible.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_interface
from typing import Final

from watcher.model.address import AddressWithPrefix
from watcher.model.naming import link_local
from watcher.model.network import Network
from watcher.model.sandbox import Interface

_SHOWN: Final = 3
"""The most addresses that a message names."""


def surplus(
    there: Iterable[tuple[bytes, int]], interface: Interface, network: Network
) -> list[AddressWithPrefix]:
    """The addresses of `interface` without a lease; empty if the network has no guard.

    The link-local address of its MAC is not among them: the guard allows it. `there` are its
    addresses as :func:`handlers.kernel.rtnl.read_packed` returns them.
    """
    if not network.guard:
        return []
    kept = {address.ip.packed for address in interface.addresses}
    more = [one for one in there if one[0] not in kept]
    if not more:
        return []
    own = link_local(interface.mac).packed
    return [ip_interface(one) for one in more if one[0] != own]


def described(name: str, addresses: Sequence[AddressWithPrefix]) -> str:
    """What is wrong with the interface `name`; empty if there are no `addresses`."""
    if not addresses:
        return ""
    shown = ", ".join(map(str, addresses[:_SHOWN]))
    more = f" and {len(addresses) - _SHOWN} more" if len(addresses) > _SHOWN else ""
    return f"{name} had {shown}{more}, which it has no lease for"
