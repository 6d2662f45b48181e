"""What drivers with veth pairs have in common."""

from __future__ import annotations

import errno
from typing import Final

from handlers.kernel import rtnl, sysctl
from watcher.model.network import Network
from watcher.model.sandbox import Interface


def mtu_of(network: Network) -> int:
    """The MTU of the links of `network`, in bytes."""
    assert network.mtu != "auto", "settled when the host is opened, or that of another's bridge"
    return network.mtu


def pair(
    interface: Interface, network: Network, netns: int, *, master: int = 0, host_mac: str = ""
) -> bytes:
    """The request for the pair. Send it alone: if it fails, later ones would hit another's link."""
    return rtnl.veth(
        interface.host_name,
        interface.name,
        netns,
        master=master,
        host_mac=host_mac,
        mac=interface.mac,
        mtu=mtu_of(network),
    )


HIGHEST_MAC: Final = "fe:ff:ff:ff:ff:ff"
"""The MAC of host ends on bridges of others. A bridge without a MAC of its own takes the lowest of
its ports' (`br_stp_recalculate_bridge_id` in `net/bridge/br_stp_if.c`), and none is higher."""


def pair_on(bridge: rtnl.Link, interface: Interface, network: Network, netns: int) -> bytes:
    """The request for a pair on another program's `bridge`, which stays as it is.

    A bridge takes the lowest MTU of its ports (`br_mtu_auto_adjust` in `net/bridge/br_if.c`), so
    the host end has that of the bridge.
    """
    return rtnl.veth(
        interface.host_name,
        interface.name,
        netns,
        master=bridge.index,
        host_mac=HIGHEST_MAC,
        mac=interface.mac,
        mtu=bridge.mtu if network.mtu == "auto" else min(network.mtu, bridge.mtu),
        host_mtu=bridge.mtu,
    )


def fit(bridge: rtnl.Link, index: int) -> bytes:
    """The request after which the host end `index` can join another program's `bridge`."""
    return rtnl.changed(index, [["IFLA_MTU", bridge.mtu], ["IFLA_ADDRESS", HIGHEST_MAC]])


def turn_off_ipv6(name: str) -> None:
    """Keep the host from using IPv6 on `name`.

    Each interface with IPv6 has a route to ff00::/8 in one list, which the kernel walks whenever an
    interface goes up or down (`fib6_add_rt2node`, `fib6_ifdown` in `net/ipv6`). With thousands of
    interfaces, this takes longer than everything else.
    """
    try:
        sysctl.put(f"ipv6/conf/{name}/disable_ipv6", "1")
    except OSError as error:  # a kernel without IPv6, or a read-only /proc/sys
        if error.errno not in (errno.ENOENT, errno.EROFS):
            raise
