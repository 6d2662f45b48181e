"""Both ends of each link of a sandbox, its addresses and its routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from handlers.kernel import neighbour_table
from handlers.link import ours
from watcher.checks.check import Finding, fail, ok, warn
from watcher.checks.container.gathered import Gathered
from watcher.checks.container.legs import Leg
from watcher.checks.container.limits import rejects_echo
from watcher.containers import proc
from watcher.model.sandbox import Interface

_NEARLY: Final = 0.9
"""The part of a table of neighbours from which on it may have been full a moment ago."""

_SYNC: Final = "run `watcher sync`"
_INSIDE: Final = (
    "run `watcher sync`, and see what in the container changes its network; it needs CAP_NET_ADMIN"
    " for that"
)


def of_interfaces(gathered: Gathered) -> Iterator[Finding]:
    """What is wrong with each interface."""
    if proc.netns_of(gathered.known.init.pid) not in (None, gathered.sandbox.netns):
        yield fail(
            "its first process has left the network namespace that has its network",
            "see what in the container calls unshare(2) or setns(2)",
        )
    if not gathered.sandbox.interfaces:
        yield fail(
            "it is connected to no network", "run `watcher connect CONTAINER NETWORK` for one"
        )
    if not gathered.inside.loopback:
        yield warn("lo is down inside: it does not reach itself at localhost", _INSIDE)
    for interface in gathered.sandbox.interfaces:
        wrong = [*_of_host_end(gathered, interface), *_of_sandbox_end(gathered, interface)]
        yield from wrong
        if not wrong:
            ways = gathered.drivers[interface.network].ways(interface)
            shown = " and ".join(str(way.address) for way in ways)
            yield ok(f"{interface.name} is up and has {shown} of network {interface.network}")


def _of_host_end(gathered: Gathered, interface: Interface) -> Iterator[Finding]:
    name, netlink = interface.host_name, gathered.netlink
    link = ours.find(netlink, name)
    if link is None or not link.ours:
        yield fail(f"the host end {name} of {interface.name} is missing", _SYNC)
    elif not link.up:
        yield fail(f"the host end {name} of {interface.name} is down", _SYNC)
    else:
        wrong = gathered.drivers[interface.network].wrong(netlink, link, interface)
        if wrong:
            yield fail(f"the host end {name} of {interface.name}: {wrong}", _SYNC)


def _of_sandbox_end(gathered: Gathered, interface: Interface) -> Iterator[Finding]:
    link = gathered.inside.links[interface.name]
    end, name = link.end, interface.name
    if end is None:
        error = "" if link.wrong.endswith("was missing") else link.wrong
        yield fail(f"inside, {error or f'{name} is missing'}", _INSIDE)
        return
    if not end.up:
        yield fail(f"{name} is down inside", _INSIDE)
        return
    if link.mac != interface.mac:
        yield fail(
            f"{name} has the MAC {link.mac} inside, not its own {interface.mac}: the guard drops"
            " what it sends",
            f"run `ip link set {name} address {interface.mac}` inside, or ask for that MAC by"
            " io.watcher.mac",
        )
    lacking = [leg for leg in gathered.legs if leg.interface is interface and not link.has(leg)]
    off = [leg for leg in lacking if leg.version == 6 and not end.ipv6]
    for leg in off:
        yield warn(
            f"IPv6 is turned off inside: nobody reaches it at {leg.address}",
            f"set net.ipv6.conf.{name}.disable_ipv6 = 0 inside, and run `watcher sync`",
        )
    for leg in lacking:
        if leg not in off:
            yield fail(f"{name} does not have {leg.way.address} inside", _INSIDE)


def of_routes(gathered: Gathered) -> Iterator[Finding]:
    """Whether there is a default route of each IP version, and which."""
    versions = sorted({leg.version for leg in gathered.legs})
    wrong: list[Finding] = []
    told: list[Finding] = []
    for version in versions:
        leg = gathered.outwards(version)
        if leg is not None and gathered.inside.links[leg.interface.name].has(leg):
            found = _of_default(gathered, leg)
            (told if found.level == "ok" else wrong).append(found)
    yield from (*wrong, *told)
    if wrong:
        return
    for interface in gathered.sandbox.interfaces:
        link = gathered.inside.links[interface.name]
        if link.end is not None and link.wrong.startswith(("the route to", "a route or rule")):
            yield warn(f"inside, {link.wrong}", _INSIDE)
            return


def _of_default(gathered: Gathered, leg: Leg) -> Finding:
    version, interface = leg.version, leg.interface
    default = gathered.inside.defaults.get(version)
    if default is None:
        return fail(
            f"it has no IPv{version} default route: it reaches nobody beyond its own networks",
            _INSIDE,
        )
    end = gathered.inside.links[interface.name].end
    static = [r.via for r in leg.network.routes if not r.to.prefixlen and r.to.version == version]
    hop = static[0] if static else leg.way.hop
    if end is None or default.index != end.index or default.via != hop:
        by = "another interface" if default.via is None else str(default.via)
        return warn(
            f"its IPv{version} default route leads by {by}, not by {hop} on {interface.name}",
            "if nobody meant it, see what in the container made that route (a VPN does)",
        )
    return ok(f"its IPv{version} default route leads by {hop} on {interface.name}")


def _full_table(version: int) -> str:
    """The remedy for a table of neighbours that is full, or may be; else empty."""
    found = neighbour_table.used(version)
    if found is None or found[0] < found[1] * _NEARLY:
        return ""
    return (
        f"raise net.ipv{version}.neigh.default.gc_thresh3: the host's table of neighbours has"
        f" {found[0]} of {found[1]} entries, and takes no new ones"
    )


def of_gateways(gathered: Gathered) -> Iterator[Finding]:
    """Whether each gateway answers a probe from inside."""
    for leg in gathered.legs:
        answer = gathered.inside.gateways.get((leg.interface.name, leg.version))
        if answer is None:  # it has no such address, which another line tells
            continue
        where = f"its gateway {leg.gateway} on {leg.interface.name}"
        bridge = ours.find(gathered.netlink, leg.network.bridge)
        if answer.mac and leg.network.managed and bridge and answer.mac not in ("?", bridge.mac):
            yield fail(
                f"{answer.mac} answers for {where}, and that is not {bridge.name}",
                "find who has that MAC: `ip neigh`, and `bridge fdb show` on this host",
            )
        elif answer.echo:
            yield ok(f"{where} answers an echo request")
        elif answer.mac:
            yield ok(f"{where} answers, though to no echo request")
        elif answer.error and leg.gateway and rejects_echo(gathered, leg.interface, leg.gateway):
            yield ok(
                f"{where} answers: it rejects an echo request, as its egress list does not have it"
            )
        else:
            why = f" ({answer.error})" if answer.error else ""
            name = leg.network.bridge
            lost = (
                f"run `watcher sync`, and see that {name} is up and has that address"
                f" (`ip addr show {name}`), and whether filters inside drop"
            )
            yield fail(
                f"{where} does not answer from inside{why}", _full_table(leg.version) or lost
            )
