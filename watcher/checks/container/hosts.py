"""Whether other hosts of the cluster reach the container, and it the containers there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING

from handlers.cluster import comparing
from watcher.checks.check import Finding, fail, ok, warn
from watcher.checks.cluster.reached import reached
from watcher.checks.cluster.state import some

if TYPE_CHECKING:
    from watcher.checks.container.gathered import Gathered
    from watcher.checks.container.legs import Leg
    from watcher.cluster.known import KnownHost
    from watcher.model.address import Subnet
    from watcher.model.network import Network


def findings(gathered: Gathered) -> Iterator[Finding]:
    """Lines about each clustered network; none without one."""
    legs = [leg for leg in gathered.legs if leg.network.cluster]
    if not legs:
        return
    for leg in legs:
        yield _of_address(gathered, leg)
    there = {ip_network((route.to, route.length)) for route in comparing.routes(gathered.netlink)}
    for network in {leg.network.name: leg.network for leg in legs}.values():
        yield from _of_hosts(gathered, network, there)


def _of_address(gathered: Gathered, leg: Leg) -> Finding:
    """Whether other hosts lead packets for an address of it here."""
    name = leg.network.name
    holding = [
        block
        for block in gathered.known.blocks
        if block.network == name and leg.address in block.prefix
    ]
    if not holding:
        return warn(
            f"its address {leg.address} is in no block of network {name} that this host has: other"
            " hosts do not reach it",
            "see that `watcher cluster` runs, and start it again",
        )
    block = max(holding, key=lambda one: one.prefix.prefixlen)
    if block.state == "lost":
        return warn(
            f"its address {leg.address} is of {block.prefix}, which this host has lost: another"
            " host may use it",
            "start it again",
        )
    return ok(f"its address {leg.address} is of {block.prefix}, which this host holds")


def _of_hosts(gathered: Gathered, network: Network, there: set[Subnet]) -> Iterator[Finding]:
    """Whether there are routes to what the other hosts have of a network."""
    others = [
        host
        for host in gathered.known.hosts
        if host.state != "this" and network.name in host.blocks
    ]
    if not others:
        yield ok(f"no other host has anything of network {network.name}")
        return
    missing = [
        f"{prefix} of {host.name}"
        for host in others
        for prefix in host.blocks[network.name]
        if prefix not in there
    ]
    if missing:
        yield fail(
            f"this host has no route to {some(missing)} in network {network.name}",
            'run `watcher sync`; with backend = "routes", see that the host is on a common link',
        )
    silent = [host.name for host in others if host.state == "silent"]
    if silent:
        yield warn(
            f"of the hosts with containers in network {network.name}, {some(silent)} did not tell"
            " etcd lately that they live",
            "see `watcher hosts ls`, and whether they run",
        )
    if not missing:
        ways = reached([network], others)
        yield ok(
            f"routes lead to what other hosts have of network {network.name}:"
            f" {some([_shown(host, ways.get(host.name, ())) for host in others])}"
        )


def _shown(host: KnownHost, ways: Sequence[str]) -> str:
    return f"{host.name} ({' and '.join(ways) or 'no way'})"
