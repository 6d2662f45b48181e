"""What drivers with veth pairs have in common."""

from __future__ import annotations

from contextlib import suppress

from handlers.kernel import rtnl, sysctl
from watcher.model.network import Network
from watcher.model.sandbox import Interface


def mtu_of(network: Network) -> int:
    """The MTU of the links of `network`, in bytes."""
    assert network.mtu != "auto", "settled when the host is opened"
    return network.mtu


def pair(
    interface: Interface, network: Network, netns: int, *, master: int = 0, host_mac: str = ""
) -> bytearray:
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


def turn_off_ipv6(name: str) -> None:
    """Keep the host from using IPv6 on `name`.

    Each interface with IPv6 has a route to ff00::/8 in one list, which the kernel walks whenever an
    interface goes up or down (`fib6_add_rt2node`, `fib6_ifdown` in `net/ipv6`). With thousands of
    interfaces, this takes longer than everything else.
    """
    with suppress(FileNotFoundError):  # a kernel without IPv6
        sysctl.put(f"ipv6/conf/{name}/disable_ipv6", "1")
