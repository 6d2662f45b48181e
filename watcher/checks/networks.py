"""Checks for networks that this host cannot have, and for bridges that are full or missing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Final

from handlers.kernel import rtnl, sysctl
from handlers.kernel.netlink import Netlink
from handlers.kernel.uplink import uplink_index
from handlers.networks.bridge import MAX_PORTS
from handlers.networks.forwarding import FORWARDING
from handlers.networks.gateway_bridge import mac_is_fixed
from watcher.checks.check import Finding, Subject, fail, ok, warn
from watcher.reconcile.conflicts import problems

if TYPE_CHECKING:
    from watcher.model.network import Network

MANY_PORTS: Final = 900
"""From this number of ports on, the check warns."""


def findings(subject: Subject) -> Iterator[Finding]:
    """The problems of each network; those that the service would refuse come first."""
    networks = subject.networks.values()
    wrong = [fail(p.what, p.remedy) for p in problems(networks)]
    with Netlink() as netlink:
        links = [rtnl.read_link(body) for body in netlink.dump(rtnl.links())]
        for network in networks:
            wrong += _of_bridge(network, links)
        wrong += _of_uplink(networks, netlink)
    yield from wrong
    if not wrong:
        shown = ", ".join(f"{n.name} ({_subnets(n)} on {n.bridge})" for n in networks)
        yield ok(f"nothing is in the way of {shown}")


def _of_bridge(network: Network, links: list[rtnl.Link]) -> Iterator[Finding]:
    """Problems of a bridge that only `watcher check` reports."""
    bridge = next((link for link in links if link.name == network.bridge), None)
    if bridge is None:
        if not network.managed:
            yield fail(
                f"network.{network.name}.bridge = {network.bridge}: it is missing and, with"
                " managed = false, not watcher's to make",
                "make it, or set managed = true",
            )
        return
    if not network.managed and bridge.kind == "bridge":
        yield from _of_others(network, bridge)
    ports = sum(link.master == bridge.index for link in links)
    if bridge.kind == "bridge" and ports >= MANY_PORTS:
        yield warn(
            f"bridge {network.bridge} has {ports} ports; the kernel gives it no more than"
            f" {MAX_PORTS}",
            f'set mode = "routed" in [network.{network.name}], or use another network',
        )


def _of_others(network: Network, bridge: rtnl.Link) -> Iterator[Finding]:
    """What another program's bridge lacks, which this program may not change."""
    if not mac_is_fixed(bridge.name):
        yield warn(
            f"bridge {bridge.name} of network {network.name} has no MAC of its own: it takes the"
            " lowest of its ports', and changes it as they come and go",
            f"run `ip link set {bridge.name} address {bridge.mac}`, and have it made like that",
        )
    for subnet in () if network.internal else network.subnets:
        version = subnet.version
        for name in (FORWARDING[version], f"ipv{version}/conf/{bridge.name}/forwarding"):
            if sysctl.get(name) == "0":
                dotted = f"net.{name.replace('/', '.')}"
                yield warn(
                    f"this host forwards no IPv{version} for network {network.name}"
                    f" ({dotted} = 0), and with managed = false watcher does not turn it on: its"
                    " published ports are not reached from elsewhere, and nothing gets out by this"
                    " host",
                    f"run `sysctl -w {dotted}=1`",
                )
                break


def _of_uplink(networks: Collection[Network], netlink: Netlink) -> Iterator[Finding]:
    """Whether the host forwards what comes from outside, where it forwards at all."""
    index = uplink_index(netlink, 4)
    name = netlink.name(index) if index else ""
    out = [n.name for n in networks if not n.internal and n.subnet_of(4) is not None]
    setting = f"ipv4/conf/{name}/forwarding"
    if name and out and sysctl.get(FORWARDING[4]) == "1" and sysctl.get(setting) == "0":
        dotted = f"net.{setting.replace('/', '.')}"
        yield warn(
            f"this host forwards nothing that comes in by {name} ({dotted} = 0): containers of"
            f" {', '.join(out)} get no answers from outside",
            f"run `sysctl -w {dotted}=1`",
        )


def _subnets(network: Network) -> str:
    return ", ".join(map(str, network.subnets))
