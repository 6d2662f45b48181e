"""Veth pairs, as drivers make them."""

from __future__ import annotations

from contextlib import suppress

from handlers.kernel import rtnl, sysctl
from watcher.model.network import Network
from watcher.model.sandbox import Interface


def mtu_of(network: Network) -> int:
    """The MTU of the links of `network`, in bytes."""
    assert network.mtu != "auto", "it is settled as the host is opened"
    return network.mtu


def pair(
    interface: Interface, network: Network, netns: int, *, master: int = 0, host_mac: str = ""
) -> bytearray:
    """Make the pair of `interface`; to be sent alone: what follows must not hit another's link."""
    return rtnl.veth(
        interface.host_name,
        interface.name,
        netns,
        master=master,
        host_mac=host_mac,
        mac=interface.mac,
        mtu=mtu_of(network),
    )


def turn_off_ipv6(name: str) -> None:
    """Have the host itself speak no IPv6 by `name`: on a bridge, that is the bridge's to do.

    Each interface with IPv6 has a route to ff00::/8, all in one list, which the kernel walks as one
    comes up and as one goes down (`fib6_add_rt2node`, `fib6_ifdown` in `net/ipv6`): with thousands
    of them this takes longer than all the rest.
    """
    with suppress(FileNotFoundError):  # a kernel without IPv6
        sysctl.put(f"ipv6/conf/{name}/disable_ipv6", "1")
