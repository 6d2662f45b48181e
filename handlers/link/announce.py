"""Announcements: tell neighbours at once if an address has another MAC than they may know.

A neighbour goes on sending to the MAC that it knows for up to half a minute (`net/core/
neighbour.c`). The sandbox end announces itself: gratuitous ARP, unsolicited neighbour
advertisements. The kernel sends them when an interface's MAC is set, even to the one that it has,
if `arp_notify` and `ndisc_notify` are on (`inetdev_event` in `net/ipv4/devinet.c`,
`ndisc_netdev_event` in `net/ipv6/ndisc.c`). So neither a raw socket nor its capability is needed,
and the guard, the bridge and switches beyond it see frames of the sandbox.

An announcement reaches all ports of the bridge, so it is made only if it may tell something new:

- the last sandbox with that address had another MAC;
- no such sandbox is known, and the address is a fixed one, or the MAC is not the usual one, which
  follows from the address. Only this process remembers: the last sandbox may have been another's;
- the bridge is another program's: the address may have been a machine's somewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from handlers.kernel import rtnl, sysctl
from handlers.kernel.netlink import Netlink
from handlers.networks.driver import Driver
from watcher.model.naming import mac_of
from watcher.model.sandbox import Interface, Sandbox

_REMEMBERED: Final = 20_000
"""The most addresses whose last MAC is remembered; the oldest are forgotten."""

_IPV4: Final = 4
"""Bytes of an address."""

_SETTINGS: Final = ("ipv4/conf/{}/arp_notify", "ipv6/conf/{}/ndisc_notify")


class Announcer:
    """Remembers the MACs of addresses, and announces what has changed."""

    def __init__(self) -> None:
        self._macs: dict[tuple[str, bytes], str] = {}
        """By network and packed address, the last MAC; left out if nothing else is expected."""

    def remember_all(self, sandboxes: Iterable[Sandbox], drivers: Mapping[str, Driver]) -> None:
        """Remember the MACs of all `sandboxes`, which their neighbours know.

        Not those of interfaces that were connected later: that may have been cut off.
        """
        for sandbox in sandboxes:
            for interface in sandbox.interfaces:
                if drivers[interface.network].master and interface.member is None:
                    self.remember(sandbox, interface)

    def is_news(self, sandbox: Sandbox, interface: Interface, driver: Driver) -> bool:
        """Whether neighbours may know an address of `interface` by another MAC."""
        if not driver.master:  # nobody is on the link but the host, which is told the MAC
            return False
        if not driver.network.managed:
            return True
        usual = interface.mac if _is_expected(sandbox, interface) else ""
        known = {self._macs.get(key, usual) for key in _keys(interface)}
        return not known <= {interface.mac}

    def remember(self, sandbox: Sandbox, interface: Interface, *, news: bool = True) -> None:
        """Remember the MAC of `interface`, which its neighbours know by now.

        If it was no `news`, that of an IPv4 address is expected, or remembered already.
        """
        if not (news or [one for one in interface.addresses if one.version == 6]):
            return
        expected = _is_expected(sandbox, interface)
        for key in _keys(interface):
            self._macs.pop(key, None)
            if not expected or len(key[1]) != _IPV4:
                self._macs[key] = interface.mac
        while len(self._macs) > _REMEMBERED:
            del self._macs[next(iter(self._macs))]


def prepare(interface: Interface) -> None:
    """Have `interface` announce itself; it is in the namespace that this thread is in.

    Without IPv6, or with settings that cannot be written, neighbours find out by themselves.
    """
    for setting in _SETTINGS:
        with suppress(OSError):
            sysctl.put(setting.format(interface.name), "1")


def announce(inside: Netlink, index: int, interface: Interface) -> None:
    """Announce the addresses of `interface`, the link `index` in the namespace of `inside`."""
    inside.send([rtnl.changed(index, [["IFLA_ADDRESS", interface.mac]])])


def _is_expected(sandbox: Sandbox, interface: Interface) -> bool:
    """Whether the MAC follows from the first address, which nobody has chosen."""
    if interface.member is not None:  # the administrator may have chosen
        return False
    for member in sandbox.members:
        if member.asked.addresses:
            return False
    return bool(interface.addresses) and mac_of(interface.addresses[0]) == interface.mac


def _keys(interface: Interface) -> list[tuple[str, bytes]]:
    return [(interface.network, address.packed) for address in interface.addresses]
