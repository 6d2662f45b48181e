"""Checks for networks that this host cannot have, and for bridges that are full or missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink
from handlers.networks.bridge import MAX_PORTS
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
    ports = sum(link.master == bridge.index for link in links)
    if bridge.kind == "bridge" and ports >= MANY_PORTS:
        yield warn(
            f"bridge {network.bridge} has {ports} ports; the kernel gives it no more than"
            f" {MAX_PORTS}",
            f'set mode = "routed" in [network.{network.name}], or use another network',
        )


def _subnets(network: Network) -> str:
    return ", ".join(map(str, network.subnets))
