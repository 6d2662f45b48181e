"""The addresses in blocks that the host itself has, on the bridges of its networks.

Source: `fib_sync_down_addr` in `net/ipv4/fib_semantics.c`: with an address, the routes go whose
packets come from it. So an old one goes once no route needs it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from ipaddress import ip_interface

from handlers.handler import Difference
from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink
from handlers.networks.clustered import ClusteredDriver
from watcher.model.address import Address
from watcher.model.network import gateways
from watcher.model.repair import Repair


def missing(
    netlink: Netlink, driver: ClusteredDriver, wanted: Mapping[int, Address]
) -> Iterator[Difference]:
    """Those of the `wanted` addresses that the bridge of a network lacks."""
    bridge = driver.network.bridge
    index = netlink.index(bridge)
    if not index:
        return
    there = on_bridge(netlink, driver)
    for address in wanted.values():
        if address not in there:
            yield Difference(
                Repair(f"added {address} to {bridge}", "", "the host's own address was missing"),
                partial(netlink.send, [rtnl.address(index, ip_interface(address))]),
                alone=True,
            )


def surplus(
    netlink: Netlink, driver: ClusteredDriver, wanted: Mapping[int, Address]
) -> Iterator[Difference]:
    """The addresses of blocks that this host had before."""
    bridge = driver.network.bridge
    index = netlink.index(bridge)
    if not index:
        return
    own = {address.ip for address in gateways(driver.network)} | set(wanted.values())
    for address in on_bridge(netlink, driver):
        if address not in own and driver.may_be_source(address):
            gone = rtnl.no_address(index, ip_interface(address))
            yield Difference(
                Repair(f"removed {address} from {bridge}", "", "its block is not this host's"),
                partial(netlink.send_unless_done, gone, errno.EADDRNOTAVAIL),
                alone=True,
            )


def usable(
    netlink: Netlink, driver: ClusteredDriver, wanted: Mapping[int, Address]
) -> dict[int, Address]:
    """Those of the `wanted` addresses that the bridge has; of others no packet can come."""
    there = on_bridge(netlink, driver)
    return {version: address for version, address in wanted.items() if address in there}


def on_bridge(netlink: Netlink, driver: ClusteredDriver) -> set[Address]:
    """The addresses of the network's bridge, with the prefix that the host's own ones have."""
    index = netlink.index(driver.network.bridge)
    return set(_whole(netlink, index)) if index else set()


def _whole(netlink: Netlink, index: int) -> Iterable[Address]:
    for address in rtnl.read_addresses(netlink.dump(rtnl.addresses(index))):
        if address.network.prefixlen == address.max_prefixlen:
            yield address.ip
