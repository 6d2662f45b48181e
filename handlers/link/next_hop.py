"""By whom a sandbox's packets leave: its network's gateway, or a next hop that nobody has."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from watcher.model.address import Address
from watcher.model.network import Network, gateway

_ROUTED: Final[Mapping[int, Address]] = {
    4: IPv4Address("169.254.1.1"),
    6: IPv6Address("fe80::1"),
}
"""The next hop of `eth0` in a routed network; those of further interfaces are the next."""


def next_hop(network: Network, version: int, ordinal: int) -> Address | None:
    """The next hop of the IP `version` by the interface `ordinal`, which is in `network`.

    `None` if the network has no such subnet.
    """
    subnet = network.subnet_of(version)
    if subnet is None:
        return None
    return _ROUTED[version] + ordinal if network.mode == "routed" else gateway(subnet)
