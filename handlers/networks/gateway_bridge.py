"""The bridge with a network's gateway addresses: its MAC, addresses and settings.

Sources: `net/bridge/br_if.c` (a bridge without a MAC of its own takes its lowest port's) and
`Documentation/networking/ip-sysctl.rst` (`route_localnet`).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

from handlers.handler import Difference
from handlers.kernel import rtnl, sysctl
from handlers.kernel.netlink import Netlink
from handlers.networks import forwarding
from handlers.networks.veth import mtu_of
from handlers.renaming import rename
from handlers.settings import Sysctl
from watcher.model.address import AddressWithPrefix, Subnet
from watcher.model.naming import mac_of
from watcher.model.network import Network, gateway, gateways
from watcher.model.repair import Repair

NET_ADDR_SET: Final = "3"
"""`/sys/class/net/<name>/addr_assign_type` if the MAC was set, and so does not change."""

_OF_IPV6: Final = {
    "accept_ra": "a sandbox is no router for the host",
    "accept_dad": "nothing is forwarded to a sandbox until the bridge has a link-local address",
}
"""Settings turned off for a bridge with IPv6, and why. The kernel solicits neighbours only from the
bridge's link-local address, which duplicate address detection delays by a second
(`net/ipv6/ndisc.c`)."""


class NotABridge(OSError):
    """Another interface has the bridge's name, or an unmanaged bridge is missing."""


def find(network: Network, netlink: Netlink) -> rtnl.Link | None:
    """The interface with the name of the network's bridge."""
    body = netlink.get(rtnl.link(network.bridge))
    return None if body is None else rtnl.read_link(body)


def renamed(network: Network, netlink: Netlink) -> rtnl.Link | None:
    """The bridge of `network` that this program made and somebody has renamed.

    Its MAC identifies it, which follows from the gateway's address and does not change.
    """
    own = mac(network)
    for link in map(rtnl.read_link, netlink.dump(rtnl.links("bridge"))):
        if link.ours and link.kind == "bridge" and link.mac == own and link.name != network.bridge:
            return link
    return None


def differences(
    network: Network, netlink: Netlink, settings: Sysctl, *, forwarded: bool
) -> Iterator[Difference]:
    """What is wrong with the bridge; each difference is looked for after the earlier repairs.

    `forwarded` is whether the host has to forward the network's packets.

    Raises:
        NotABridge: another interface has its name, or an unmanaged bridge is missing.
        NameTaken: it was renamed, and another interface has its name.
    """
    link = find(network, netlink)
    if network.managed and (link is None or not link.ours or link.name != network.bridge):
        former = renamed(network, netlink)
        if former is not None:
            yield Difference(
                _repair(network, f"renamed {former.name} to", "somebody had renamed it"),
                partial(rename, netlink, former, network.bridge),
            )
            link = find(network, netlink) or former
    if link is None:
        if not network.managed:
            raise NotABridge(
                errno.ENODEV,
                f"bridge {network.bridge} of network {network.name} is missing and not ours to"
                " make; make it, or set managed = true",
            )
        yield Difference(
            _repair(network, "made bridge", "it was missing"), partial(_make, network, netlink)
        )
        link = find(network, netlink)
    elif link.kind != "bridge":
        raise NotABridge(
            errno.EEXIST,
            f"{network.bridge} of network {network.name} is no bridge but"
            f" {link.kind or 'a device'}; name another bridge in the configuration",
        )
    if not network.managed:
        return
    if link is not None:  # it is None only in a dry run
        yield from _of_link(network, link, netlink)
    yield from _of_settings(network, settings, forwarded=forwarded)


def _of_link(network: Network, link: rtnl.Link, netlink: Netlink) -> Iterator[Difference]:
    def difference(what: str, why: str, *requests: bytes) -> Difference:
        return Difference(_repair(network, what, why), lambda: netlink.send(requests))

    if link.mac != mac(network):  # guards of forced interfaces have the one that follows
        own = rtnl.changed(link.index, [["IFLA_ADDRESS", mac(network)]])
        yield difference("gave its MAC back to", "it had another one", own)
    elif not mac_is_fixed(link.name):
        fixed = rtnl.changed(link.index, [["IFLA_ADDRESS", link.mac]])
        yield difference("fixed the MAC of", "it would have changed with its ports", fixed)
    body = netlink.get(rtnl.link_at(link.index))
    if body is not None and rtnl.learns_link_local(body):
        why = "it learned MACs from frames that it does not forward"
        yield difference("guarded", why, rtnl.learn_no_link_local(link.index))
    if not link.up:
        yield difference("set up", "it was down", rtnl.up(link.name))
    there = rtnl.read_addresses(netlink.dump(rtnl.addresses(link.index)))
    for address in gateways(network):
        if address not in there:
            why = "the gateway's address was missing"
            yield difference(f"added {address} to", why, *_gateway(network, link.index, address))


def _gateway(network: Network, index: int, address: AddressWithPrefix) -> list[bytes]:
    requests = [rtnl.address(index, address)]
    if address.version == 6 and not network.internal:
        requests.append(rtnl.loopback(index))  # for IPv6, what `route_localnet` is for IPv4
    return requests


def _of_settings(network: Network, settings: Sysctl, *, forwarded: bool) -> Iterator[Difference]:
    for key, why in _OF_IPV6.items() if network.subnet_of(6) is not None else ():
        name = f"ipv6/conf/{network.bridge}/{key}"
        if sysctl.get(name) not in ("0", None):
            yield Difference(
                Repair(f"turned off {name}", "", why),
                partial(sysctl.put, name, "0"),
            )
    if not forwarded:
        return
    for subnet in network.subnets:
        name = forwarding.FORWARDING[subnet.version]
        of_bridge = f"ipv{subnet.version}/conf/{network.bridge}/forwarding"
        why = "containers need it to get out"
        if sysctl.get(name) == "0":  # which turns on that of each interface, too
            yield Difference(
                Repair(f"turned on {name}", "", why),
                partial(forwarding.turn_on, settings, subnet.version),
            )
        elif sysctl.get(of_bridge) == "0":
            why = why if subnet.version == 4 else "the bridge is the containers' router"
            yield Difference(
                Repair(f"turned on {of_bridge}", "", why), partial(sysctl.put, of_bridge, "1")
            )
    localnet = f"ipv4/conf/{network.bridge}/route_localnet"
    if network.subnet_of(4) is not None and sysctl.get(localnet) == "0":
        yield Difference(
            Repair(f"turned on {localnet}", "", "localhost needs it for published ports"),
            partial(sysctl.put, localnet, "1"),
        )


def _make(network: Network, netlink: Netlink) -> None:
    netlink.send([rtnl.bridge(network.bridge, mac=mac(network), mtu=mtu_of(network))])


def mac(network: Network) -> str:
    """The MAC of the bridge of `network`, if this program made it."""
    return _mac(network.subnets[0])


@lru_cache(256)
def _mac(first: Subnet) -> str:
    return mac_of(gateway(first))


def _repair(network: Network, what: str, why: str) -> Repair:
    return Repair(f"{what} {network.bridge}", "", why)


def mac_is_fixed(name: str) -> bool:
    """Whether the bridge `name` has a MAC of its own, which its ports do not change."""
    try:
        text = Path(f"/sys/class/net/{name}/addr_assign_type").read_text(encoding="ascii")
    except OSError:  # /sys is of another namespace: unknown, so change nothing
        return True
    return text.strip() == NET_ADDR_SET
