"""VXLAN devices: one for each clustered network with hosts that no plain route leads to.

A device is recognised by our interface group and its network identifier, so it may be renamed. What
is wrong with it is put right while it is up; only what the kernel cannot change is made anew.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from handlers.handler import Difference, unknown
from handlers.kernel import rtnl, sysctl
from handlers.kernel.netlink import Netlink, NetlinkError
from handlers.kernel.rtnl.vxlan import KIND, Vxlan, read_vxlan, sent_from, vxlan
from handlers.networks.forwarding import FORWARDING
from handlers.renaming import rename
from watcher.model.repair import Repair

_REASONS: Final = {
    errno.EADDRINUSE: "UDP port {port} has another program's VXLAN with other settings; set another"
    " `port` below [cluster], on all hosts",
    errno.EOPNOTSUPP: 'the kernel has no VXLAN; load its module `vxlan`, or set backend = "routes"',
}


_OF_IPV6: Final = {"disable_ipv6": "0", "accept_ra": "0"}
"""Settings of a device: it has IPv6, and no other host is a router for all that this one sends."""


class Device(Struct, frozen=True):
    """A device that is wanted.

    Attributes:
        name: its name.
        its: what the kernel cannot change.
        mac: its MAC, which the other hosts work out as well.
        mtu: its MTU.
        ipv6: whether packets of IPv6, or next hops of it, go through.
        alias: says what it is for.
    """

    name: str
    its: Vxlan
    mac: str
    mtu: int
    ipv6: bool
    alias: str


class Found(Struct, frozen=True):
    """A device that is there."""

    link: rtnl.Link
    its: Vxlan


def ours(netlink: Netlink) -> list[Found]:
    """The VXLAN devices of this program."""
    found = []
    for body in netlink.dump(rtnl.links(KIND)):
        link, its = rtnl.read_link(body), read_vxlan(body)
        if link.ours and its is not None:
            found.append(Found(link, its))
    return found


def differences(netlink: Netlink, device: Device) -> Iterator[Difference]:
    """What is wrong with `device`; each difference is looked for after the earlier repairs."""
    close = partial(_Closer, netlink, device)
    found = _find(netlink, device)
    if found is not None and found.link.name != device.name:
        why = "somebody had renamed it"
        yield close(f"renamed {found.link.name} to", why).by(
            partial(rename, netlink, found.link, device.name)
        )
    if found is None and netlink.index(device.name):
        what = Repair(f"made {device.name}", "", "it was missing")
        yield unknown(what, OSError(errno.EEXIST, _taken(device.name)))
        return
    if found is not None and not _fits(found.its, device.its):
        why = "it was not that of the network any more"
        yield close("removed", why).by_sending(rtnl.gone(found.link.index))
        found = None
    if found is None:
        made = vxlan(device.name, device.its, mac=device.mac, mtu=device.mtu)
        yield close("made", "it was missing").by_sending(made)
        found = _find(netlink, device)
        if found is None:  # a dry run, or it could not be made
            return
        yield close("set up", "it was made").by(partial(_set_up, netlink, device))
        return
    yield from _of_link(netlink, device, found, close)


def _of_link(
    netlink: Netlink, device: Device, found: Found, close: Callable[[str, str], _Closer]
) -> Iterator[Difference]:
    link, local = found.link, device.its.local
    if found.its.local != local and local is not None:
        why = "this host has another address"
        yield close("changed the address of", why).by_sending(sent_from(link.index, local))
    if link.mac != device.mac:
        mac = rtnl.changed(link.index, [["IFLA_ADDRESS", device.mac]])
        yield close("gave its MAC back to", "it had another one").by_sending(mac)
    if link.mtu != device.mtu:
        mtu = rtnl.changed(link.index, [["IFLA_MTU", device.mtu]])
        yield close("changed the MTU of", f"it was {link.mtu}").by_sending(mtu)
    if not link.up:
        yield close("set up", "it was down").by(partial(_set_up, netlink, device))
    elif device.ipv6 and not _has_ipv6(device.name):
        why = "its settings of IPv6 were others"
        yield close("repaired", why).by(partial(_set_ipv6, device.name))
    if _is_not_forwarding(device.name):
        why = "it did not forward"
        yield close("repaired", why).by(partial(_forward, device.name))


def surplus(netlink: Netlink, wanted: Collection[Device]) -> Iterator[Difference]:
    """The devices of this program that no network needs."""
    ids = {device.its.id for device in wanted}
    for found in ours(netlink):
        if found.its.id not in ids:
            what = Repair(f"removed {found.link.name}", "", "no network needs it")
            gone = partial(netlink.send_unless_done, rtnl.gone(found.link.index), errno.ENODEV)
            yield Difference(what, gone, alone=True)


class _Closer:
    """Makes the differences of one device."""

    def __init__(self, netlink: Netlink, device: Device, what: str, why: str) -> None:
        self._netlink = netlink
        self._device = device
        self._repair = Repair(f"{what} {device.name}", "", why)

    def by(self, close: Callable[[], None]) -> Difference:
        """The difference that `close` closes."""
        return Difference(self._repair, partial(self._close, close), alone=True)

    def by_sending(self, message: bytes) -> Difference:
        """The difference that a message closes."""
        return self.by(partial(self._netlink.send, [message]))

    def _close(self, close: Callable[[], None]) -> None:
        try:
            close()
        except NetlinkError as error:
            reason = _REASONS.get(error.errno or 0)
            if reason is None:
                raise
            text = reason.format(port=self._device.its.port)
            raise OSError(error.errno, f"{self._device.name}: {text}") from error


def _find(netlink: Netlink, device: Device) -> Found | None:
    """The device that `device` is to be, whatever its name."""
    there = [one for one in ours(netlink) if one.its.id == device.its.id]
    return min(there, key=lambda one: one.link.name != device.name, default=None)


def _fits(there: Vxlan, wanted: Vxlan) -> bool:
    """Whether one can become the other: another address of the same family can be set."""
    if there.local is None or wanted.local is None or there.local.version != wanted.local.version:
        return False
    return replace(there, local=wanted.local) == wanted


def _set_up(netlink: Netlink, device: Device) -> None:
    """Set it up, without an address of its own: nothing is sent to all."""
    if device.ipv6:
        _set_ipv6(device.name)
    netlink.send([rtnl.quiet(device.name, alias=device.alias, up=True)])
    if _is_not_forwarding(device.name):
        _forward(device.name)


def _has_ipv6(name: str) -> bool:
    return all(
        sysctl.get(f"ipv6/conf/{name}/{key}") in (value, None) for key, value in _OF_IPV6.items()
    )


def _set_ipv6(name: str) -> None:
    for key, value in _OF_IPV6.items():
        if sysctl.get(f"ipv6/conf/{name}/{key}") not in (value, None):
            sysctl.put(f"ipv6/conf/{name}/{key}", value)


def _is_not_forwarding(name: str) -> bool:
    """Whether the host forwards packets, but not those that come in by `name`."""
    forwards = sysctl.get(FORWARDING[4]) == "1"
    return forwards and sysctl.get(f"ipv4/conf/{name}/forwarding") == "0"


def _forward(name: str) -> None:
    sysctl.put(f"ipv4/conf/{name}/forwarding", "1")


def _taken(name: str) -> str:
    return f"{os.strerror(errno.EEXIST)}: {name} is another program's; rename or delete that link"
