"""The container's way out of the host: forwarding, the uplink, masquerade, and filters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from handlers.kernel import sysctl
from handlers.kernel.uplink import uplink_index
from handlers.networks.forwarding import FORWARDING
from watcher.checks.check import Finding, fail, ok, warn
from watcher.checks.container import packets
from watcher.checks.container.reach import dropped
from watcher.checks.filters import remedies

if TYPE_CHECKING:
    from watcher.checks.container.gathered import Gathered
    from watcher.checks.container.legs import Leg
    from watcher.model.address import Subnet
    from watcher.model.network import Network


def findings(gathered: Gathered) -> Iterator[Finding]:
    """What is in the way, for each IP version."""
    versions = sorted({leg.version for leg in gathered.legs})
    for version in versions:
        leg = gathered.outwards(version)
        if leg is None:
            yield ok(
                f"its networks are internal: nothing leaves this host by IPv{version}",
                "if it is to, run `watcher connect CONTAINER NETWORK` for one that is not",
            )
            continue
        wrong = list(_of_version(gathered, leg, alone=version == versions[0]))
        yield from wrong
        if not wrong:
            yield ok(f"its way out by IPv{version} is open")
    yield from _to_host(gathered)


def _of_version(gathered: Gathered, leg: Leg, *, alone: bool) -> Iterator[Finding]:
    version, network = leg.version, leg.network
    index = uplink_index(gathered.netlink, version)
    uplink = gathered.netlink.name(index) if index else ""
    yield from _forwarding(leg, uplink)
    if not uplink:
        tell = fail if alone else warn
        yield tell(
            f"this host has no IPv{version} default route: the container reaches nobody beyond"
            " what is on its links",
            f"give it one (`ip -{version} route add default via ROUTER`)",
        )
    elif not gathered.netlink.is_up(uplink):
        yield fail(f"the uplink {uplink} is down", f"run `ip link set {uplink} up`")
    if not network.masquerade:
        yield ok(
            f"it leaves with its own address {leg.address} (masquerade = false): others need a"
            " route to it",
            f"if they have none, set masquerade = true in [network.{network.name}]",
        )
    elif not _is_masqueraded(gathered, network, leg.way.address.network.version):
        yield fail(
            f"network {network.name} is not masqueraded by the nftables table inet watcher: nobody"
            f" outside can answer to {leg.address}",
            "run `watcher sync`",
        )
    for drop, _, remedy in dropped(gathered, packets.outwards(gathered, leg)):
        yield remedies.told(drop, "what it sends out of this host", remedy)


def _forwarding(leg: Leg, uplink: str) -> Iterator[Finding]:
    """The settings by which the host does not forward; for IPv6 only that of all links counts."""
    names = [FORWARDING[leg.version]]
    if leg.version == 4:
        names += [f"ipv4/conf/{link}/forwarding" for link in (leg.link, uplink) if link]
    for name in names:
        if sysctl.get(name) == "0":
            setting = f"net/{name}"
            yield fail(
                f"this host does not forward IPv{leg.version} ({setting} = 0)",
                f"run `sysctl -w {setting}=1`, and see what turned it off",
            )
            return


def _is_masqueraded(gathered: Gathered, network: Network, version: int) -> bool:
    """Whether our table has the rule that masquerades `network`, of whatever else it lacks."""
    subnet = network.subnet_of(version)
    if gathered.intact or subnet is None:
        return True
    rules = [o["rule"] for o in gathered.rules or () if "rule" in o]
    return any(
        rule["chain"] == "postrouting" and _masquerades(rule["expr"], network, subnet)
        for rule in rules
    )


def _masquerades(expressions: list[Mapping[str, Any]], network: Network, subnet: Subnet) -> bool:
    ours: Any = {"prefix": {"addr": str(subnet.network_address), "len": subnet.prefixlen}}
    if not network.managed:
        ours = f"@guests{subnet.version}"
    matches = [e["match"] for e in expressions if "match" in e]
    return (
        any("masquerade" in expression for expression in expressions)
        and any(match["right"] == ours for match in matches)
        and any(match["op"] == "!=" for match in matches)
    )


def _to_host(gathered: Gathered) -> Iterator[Finding]:
    """Filters that keep it from the services of the host."""
    legs = [leg for leg in gathered.legs if not leg.network.named]  # else a resolver is no matter
    tried = [one for leg in legs for one in packets.to_host(leg)]
    for drop, _, remedy in dropped(gathered, tried):
        does = "drops" if drop.certain else "may drop"
        yield warn(
            f"{remedies.named(drop)} {does} what it sends to services of this host, such as a"
            " resolver",
            remedy,
        )
