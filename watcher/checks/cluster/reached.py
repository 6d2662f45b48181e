"""How the hosts of a cluster are reached: by plain routes, or by VXLAN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from handlers.cluster.ways import ways
from handlers.kernel.netlink import Netlink
from handlers.networks import driver_of
from handlers.networks.clustered import ClusteredDriver

if TYPE_CHECKING:
    from watcher.cluster.known import KnownHost
    from watcher.model.network import Network

_WORDS: Final = {"plain": "routes", "vxlan": "vxlan", "": ""}


def reached(
    networks: Iterable[Network], hosts: Iterable[KnownHost]
) -> Mapping[str, tuple[str, ...]]:
    """By host: `routes`, `vxlan`, or both, if networks or families differ.

    It looks for them in the same way as the handler that makes the routes. A host that has nothing
    of `networks`, and one to which this host has no route, is reached by neither.
    """
    drivers = {network.name: driver_of(network) for network in networks if network.cluster}
    others = {host.name: host for host in hosts if host.state != "this" and host.address}
    with Netlink() as netlink:
        found = ways(netlink, {host.address for host in others.values() if host.address})
    told = {}
    for name, host in others.items():
        assert host.address is not None
        way = found[host.address]
        words = set()
        for network, prefixes in host.blocks.items():
            driver = drivers.get(network)
            if way.link and isinstance(driver, ClusteredDriver):
                for version in {prefix.version for prefix in prefixes}:
                    words.add(_WORDS[driver.path(version, host.address, common=way.common)])
        told[name] = tuple(sorted(words - {""}))
    return told
