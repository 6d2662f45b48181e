"""Bridges: one a network, with the gateway's addresses, a fixed MAC, and forwarding.

Sources: `net/bridge/br_if.c` (a bridge without an address of its own takes its lowest port's) and
`Documentation/networking/ip-sysctl.rst` (`route_localnet`, `forwarding`, `accept_ra`).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from handlers.handler import Difference, closed
from handlers.kernel import rtnl, sysctl
from handlers.kernel.netlink import Netlink
from handlers.link.host_end import mtu_of
from handlers.settings import Sysctl
from watcher.model.address import AddressWithPrefix
from watcher.model.naming import mac_of
from watcher.model.network import Network, gateways
from watcher.model.repair import Repair
from watcher.model.sandbox import Member, Sandbox

NET_ADDR_SET: Final = "3"
"""In `/sys/class/net/<name>/addr_assign_type`: somebody set the MAC, so it stays."""

FORWARDING: Final = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}

_OF_IPV6: Final = {
    "accept_ra": "a sandbox is no router for the host",
    "accept_dad": "nothing is forwarded to a sandbox until the bridge has a link-local address",
}
"""What is turned off for a bridge with IPv6, and why: the kernel asks for the MAC of a packet's
next hop in the name of its link-local address alone, which is none for a second where it is probed
for first (`net/ipv6/ndisc.c`)."""


class NotABridge(OSError):
    """Another kind of interface has the bridge's name, or one that we may not make is missing."""


class BridgeHandler:
    """Owns the bridges of managed networks, and the forwarding that they need."""

    def __init__(self, netlink: Netlink, networks: Mapping[str, Network], settings: Sysctl) -> None:
        self._netlink = netlink
        self._networks = networks
        self._settings = settings
        self._whole: dict[str, int] = {}
        """The index of each bridge that was found to be whole; one made anew has another."""

    def appear(self, sandbox: Sandbox) -> None:
        """Make the bridges that `sandbox` needs, or what is missing of them.

        Raises:
            NotABridge: something else has its name.
        """
        for interface in sandbox.interfaces:
            network = self._networks[interface.network]
            index = self._whole.get(network.name)
            if index is None or self._netlink.index(network.bridge) != index:
                self._make_whole(network)

    def vanish(self, sandbox: Sandbox, leaving: Sequence[Member]) -> None:
        """Nothing: a bridge stays for the next sandbox, until `network rm` or `down`."""

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Make whole the bridges of all networks in use."""
        used = {interface.network for sandbox in sandboxes for interface in sandbox.interfaces}
        repairs: list[Repair] = []
        for name in sorted(used):
            network = self._networks[name]
            repairs += closed(self._differences(network), dry_run=dry_run)
            if not dry_run:
                self._whole[name] = self._netlink.index(network.bridge)
        return repairs

    def exists(self, network: Network) -> bool:
        """Whether the bridge of `network` is there."""
        return self._netlink.index(network.bridge) > 0

    def remove(self, network: Network) -> bool:
        """Delete the bridge of `network` if this program made it; whether it did."""
        self._whole.pop(network.name, None)
        link = self._find(network)
        if link is None or not link.ours:
            return False
        self._netlink.send([rtnl.gone(link.index)])
        return True

    def give_back_forwarding(self) -> list[str]:
        """Turn off the forwarding that was turned on for bridges; the settings changed."""
        names = [*_accept_ra_names(), *FORWARDING.values()]
        return self._settings.give_back(names + [name for v in FORWARDING for name in _swept(v)])

    def _make_whole(self, network: Network) -> None:
        closed(self._differences(network), dry_run=False)
        self._whole[network.name] = self._netlink.index(network.bridge)

    def _differences(self, network: Network) -> Iterator[Difference]:
        """What is not as it should be, each found once those before it are closed."""

        def of(what: str, why: str) -> Repair:
            return Repair(f"{what} {network.bridge}", "", why)

        link = self._find(network)
        if link is None:
            if not network.managed:
                raise NotABridge(
                    errno.ENODEV,
                    f"bridge {network.bridge} of network {network.name} is missing and not ours to"
                    " make; make it, or set managed = true",
                )
            yield Difference(of("made bridge", "it was missing"), lambda: self._make(network))
            link = self._find(network)
        elif link.kind != "bridge":
            raise NotABridge(
                errno.EEXIST,
                f"{network.bridge} of network {network.name} is no bridge but"
                f" {link.kind or 'a device'}; name another bridge in the configuration",
            )
        if not network.managed:
            return
        if link is not None:  # it is None only in a dry run
            yield from self._of_link(network, link, of)
        yield from self._of_settings(network)

    def _of_link(self, network: Network, link: rtnl.Link, of: object) -> Iterator[Difference]:
        assert callable(of)
        if not _mac_is_fixed(link.name):
            yield Difference(
                of("fixed the MAC of", "it would have changed with its ports"),
                lambda: self._netlink.send(
                    [rtnl.changed(link.index, [["IFLA_ADDRESS", link.mac]])]
                ),
            )
        body = self._netlink.get(rtnl.link_at(link.index))
        if body is not None and rtnl.learns_link_local(body):
            yield Difference(
                of("guarded", "it learned MACs from frames that it does not forward"),
                lambda: self._netlink.send([rtnl.learn_no_link_local(link.index)]),
            )
        if not link.up:
            yield Difference(
                of("set up", "it was down"), lambda: self._netlink.send([rtnl.up(link.name)])
            )
        there = rtnl.read_addresses(self._netlink.dump(rtnl.addresses(link.index)))
        for address in gateways(network):
            if address not in there:
                yield Difference(
                    of(f"added {address} to", "the gateway's address was missing"),
                    lambda address=address: self._add_gateway(  # type: ignore[misc]
                        network, link.index, address
                    ),
                )

    def _add_gateway(self, network: Network, index: int, address: AddressWithPrefix) -> None:
        requests = [rtnl.address(index, address)]
        if address.version == 6 and not network.internal:
            requests.append(rtnl.loopback(index))  # what `route_localnet` is for IPv4
        self._netlink.send(requests)

    def _of_settings(self, network: Network) -> Iterator[Difference]:
        for key, why in _OF_IPV6.items() if network.subnet_of(6) is not None else ():
            name = f"ipv6/conf/{network.bridge}/{key}"
            if sysctl.get(name) not in ("0", None):
                yield Difference(
                    Repair(f"turned off {name}", "", why),
                    lambda name=name: sysctl.put(name, "0"),  # type: ignore[misc]
                )
        if network.internal and network.mode == "bridge":
            return
        for subnet in network.subnets:
            name = FORWARDING[subnet.version]
            if sysctl.get(name) == "0":
                yield Difference(
                    Repair(f"turned on {name}", "", "containers need it to get out"),
                    lambda v=subnet.version: self._forward(v),  # type: ignore[misc]
                )
        localnet = f"ipv4/conf/{network.bridge}/route_localnet"
        if network.subnet_of(4) is not None and sysctl.get(localnet) == "0":
            yield Difference(
                Repair(f"turned on {localnet}", "", "localhost needs it for published ports"),
                lambda: sysctl.put(localnet, "1"),
            )

    def _forward(self, version: int) -> None:
        if version == 6:
            # A router ignores advertisements, and so would lose its own default route, unless told.
            for name in _accept_ra_names():
                if sysctl.get(name) == "1":
                    self._settings.set(name, "2")
        for name, value in _swept(version).items():
            if sysctl.get(name) != value:
                self._settings.keep(name)
        self._settings.set(FORWARDING[version], "1")

    def _find(self, network: Network) -> rtnl.Link | None:
        body = self._netlink.get(rtnl.link(network.bridge))
        return None if body is None else rtnl.read_link(body)

    def _make(self, network: Network) -> None:
        mac = mac_of(gateways(network)[0].ip)
        self._netlink.send([rtnl.bridge(network.bridge, mac=mac, mtu=mtu_of(network))])


def _accept_ra_names() -> list[str]:
    ours = ("all", "default", "lo")
    return [f"ipv6/conf/{n}/accept_ra" for n in _conf(6) if n not in ours and "netnsv" not in n]


def _swept(version: int) -> dict[str, str]:
    """What the kernel sets as forwarding is turned off, whatever it was before, and to what."""
    swept = {f"ipv{version}/conf/{name}/forwarding": "0" for name in _conf(version)}
    swept.pop(f"ipv{version}/conf/all/forwarding", None)
    if version == 4:
        swept["ipv4/conf/all/accept_redirects"] = "1"
    return swept


def _conf(version: int) -> list[str]:
    """The interfaces that have settings of IP `version`, and `all` and `default`."""
    try:
        return sorted(path.name for path in Path(f"/proc/sys/net/ipv{version}/conf").iterdir())
    except FileNotFoundError:
        return []


def _mac_is_fixed(name: str) -> bool:
    try:
        text = Path(f"/sys/class/net/{name}/addr_assign_type").read_text(encoding="ascii")
    except OSError:  # no sysfs of this namespace here: nothing can be told, nothing is changed
        return True
    return text.strip() == NET_ADDR_SET
