"""The text of this program's nftables table. Source: nft(8).

The rules are the same for one sandbox and for ten thousand; what belongs to a sandbox is elements
of sets and maps (`elements.py`).

    inet watcher     port maps, masquerade, forward policy

The rules tell our links by their names. Somebody may rename one, but it keeps its interface group:
until it has its name again, nothing new is forwarded by it.

A packet pays for each chain and each rule that it meets, so those that most packets meet are few,
and what most packets are is asked first.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from itertools import chain
from typing import Final

from msgspec import Struct

from handlers.firewall import admin, connections, egress, ingress, names, remote
from handlers.firewall.matches import ERRORS, HOST_ENDS, ip_family, ip_of, side
from handlers.kernel.rtnl import OURS
from handlers.networks.driver import Driver
from watcher.model.address import Subnet
from watcher.model.network import Network, versions_of
from watcher.model.reaching import parse_reach

TABLE: Final = ("inet", "watcher")
"""The family and the name of this program's table."""

OLD_TABLE: Final = ("bridge", "watcher")
"""The table in which earlier versions guarded the sandboxes on bridges."""

_AWAY: Final = f'oifname != @bridges oifname != "{HOST_ENDS}"'
"""Matches packets that leave the host's networks."""

_INET: Final = """
table inet watcher {{
    {sets}
    set bridges {{ type ifname; {bridges} }}

    chain input {{
        comment "packets from the wire to 127.0.0.0/8, whatever route_localnet says"
        type filter hook input priority filter; policy accept;
        {admin_input}
        {to_names}
        {arriving}
        ip daddr 127.0.0.0/8 iifname != "lo" ct status snat,dnat accept
        ip daddr 127.0.0.0/8 iifname != "lo" drop
    }}
    chain publish {{
        {publish}
    }}
    {of_names}
    {blocks}
    chain prerouting {{
        comment "before other tables rewrite: they would hide that it was to 127.0.0.0/8"
        type nat hook prerouting priority dstnat - 1; policy accept;
        ip daddr 127.0.0.0/8 iifname != "lo" drop
        {questions}
        fib daddr type local jump publish
    }}
    chain output {{
        type nat hook output priority dstnat; policy accept;
        {late_answers}
        fib daddr type local jump publish
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname @bridges ct status dnat ip saddr 127.0.0.0/8 masquerade
        oifname @bridges ct status dnat ip6 saddr ::1 masquerade
        {localhost}
        {returning}
        oifname "lo" accept comment "the host's question to its own gateway keeps its source"
        {masquerade}
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        {admin_forward}
        {forwarded}
        oifname @bridges jump to_sandboxes
        iifname @bridges jump from_sandboxes
        {forward}
        iifgroup {ours} iifname != @bridges iifname != "{ends}" drop
        oifgroup {ours} oifname != @bridges oifname != "{ends}" drop
    }}
    chain to_sandboxes {{
        {to_others}
        {inside}
        ct status dnat accept
        drop
    }}
    chain from_sandboxes {{
        {from_others}
        {unmasqueraded}
        {outwards}
    }}
}}
"""

_PUBLISHED: Final = (
    "map port{v} {{ type inet_proto . inet_service : ipv{v}_addr . inet_service; }}",
    (
        "map port{v}_on {{ type ipv{v}_addr . inet_proto . inet_service"
        " : ipv{v}_addr . inet_service; }}"
    ),
    "map range{v} {{ type inet_proto . inet_service : ipv{v}_addr; flags interval; }}",
    (
        "map range{v}_on {{ type ipv{v}_addr . inet_proto . inet_service"
        " : ipv{v}_addr; flags interval; }}"
    ),
)
"""The maps of published ports, if any network has a subnet of IP version v."""

_LOOKED_UP: Final = (
    "dnat {ip} to {ip} daddr . meta l4proto . th dport map @port{v}_on",
    "dnat {ip} to meta l4proto . th dport map @port{v}",
    "dnat {ip} to {ip} daddr . meta l4proto . th dport map @range{v}_on",
    "dnat {ip} to meta l4proto . th dport map @range{v}",
)
"""The rules that look up a port in these maps."""

_GUESTS: Final = ("set guests4 { type ipv4_addr; }", "set guests6 { type ipv6_addr; }")
"""Our addresses on bridges that this program does not manage."""


class Parts(Struct, frozen=True):
    """What the table depends on besides the networks.

    Attributes:
        blocks: names of the rules that are there only if they are needed.
        mark: the bit of the packet mark on what sandboxes held to a list may send.
        log_group: the NFLOG group that gets some of what is rejected; 0 means none.
        rules: the administrator's own rules, if any.
        port: that of VXLAN.
    """

    blocks: Set[str]
    mark: int
    log_group: int = 0
    rules: str | None = None
    port: int = 0


def base(drivers: Iterable[Driver], parts: Parts) -> str:
    """The commands that make the table anew for the networks of `drivers`, without elements."""
    blocks, mark, log_group = parts.blocks, parts.mark, parts.log_group
    known = sorted(drivers, key=lambda driver: driver.network.name)
    networks = [driver.network for driver in known]
    modes = list(dict.fromkeys(driver.rules for driver in known))
    bridges = ", ".join(f'"{network.bridge}"' for network in networks)
    versions = versions_of(networks)
    sets = [*_sets(networks), *names.sets(known), *remote.sets(known)]
    chains = [*remote.chains(known, parts.port, marked=egress.BLOCK in blocks)]
    returning: list[str] = []
    if egress.BLOCK in blocks:
        returning += egress.returning(known)
        sets += egress.sets(versions)
        chains += egress.chains(known, versions, mark, log_group)
    if ingress.BLOCK in blocks:
        sets += ingress.sets(versions)
        chains += ingress.chains(known, versions, mark, log_group)
    if ingress.OF_HOST in blocks:
        sets += ingress.sets_of_host(versions)
        chains += ingress.chains_of_host(versions, log_group)
    if connections.BLOCK in blocks:
        sets += connections.sets(versions)
        chains += connections.chains(known, versions, log_group)
    from_ours, to_ours = list[str](), list[str]()
    if parts.rules is not None:
        sets += admin.sets(networks, parts.rules)
        chains.append(admin.chain(parts.rules))
        from_ours += admin.from_ours(known)
        to_ours += admin.to_ours(known)
    inet = _INET.format(
        sets="\n    ".join(sets),
        blocks="\n    ".join(chains),
        bridges=f"elements = {{ {bridges} }}" if bridges else "",
        publish=_lines(_looked_up(networks)),
        of_names="\n    ".join(names.chains(known)),
        admin_input=_lines(from_ours),
        admin_forward=_lines((*from_ours, *to_ours)),
        to_names=_lines(names.arriving(known)),
        arriving=_lines([connections.ARRIVING] if connections.BLOCK in blocks else []),
        forwarded=_lines(_forwarded(blocks)),
        late_answers=_lines(names.output(known)),
        questions=_lines((*remote.prerouting(known), *names.prerouting(known))),
        localhost=_lines(chain.from_iterable(mode.localhost for mode in modes)),
        masquerade=_lines((*remote.postrouting(known), *_masquerade(known))),
        returning=_lines(returning),
        forward=_lines(
            (*chain.from_iterable(mode.forward for mode in modes), *remote.forward(known))
        ),
        to_others=_lines(_others(networks, "oifname", "daddr")),
        inside=_lines((*_inside(known), *remote.to_sandboxes(known))),
        from_others=_lines((*_others(networks, "iifname", "saddr"), *remote.from_sandboxes(known))),
        unmasqueraded=_lines(_unmasqueraded(known)),
        outwards=_lines(chain.from_iterable(map(_kept_in, known))),
        ours=OURS,
        ends=HOST_ENDS,
    )
    return "table inet watcher\ndelete table inet watcher\n" + inet


def _lines(rules: Iterable[str]) -> str:
    return "\n        ".join(rules)


def _forwarded(blocks: Set[str]) -> Iterable[str]:
    """The rules for what belongs to a connection that is there, and those that limit new ones.

    What a helper of the host expects (`nf_conntrack_ftp`) is related, and yet a new connection.
    """
    limits = [part.FORWARDED for part in (ingress, connections) if part.BLOCK in blocks]
    if not limits:
        return ["ct state established,related accept"]
    there = "ct state established accept", f"{ERRORS} accept"
    return [*there, *limits, "ct state related accept"]


def _sets(networks: list[Network]) -> Iterable[str]:
    """The sets and maps that these networks need; no more, as libnftables lists all each time."""
    for version in versions_of(networks):
        yield from (map_.format(v=version) for map_ in _PUBLISHED)
    if not all(network.managed for network in networks):
        yield from _GUESTS


def _looked_up(networks: list[Network]) -> Iterable[str]:
    for version in versions_of(networks):
        yield from (rule.format(v=version, ip=ip_family(version)) for rule in _LOOKED_UP)


def _masquerade(drivers: list[Driver]) -> Iterable[str]:
    for driver in drivers:
        network = driver.network
        for subnet in network.subnets:
            ip, ours = ip_of(subnet), _ours(network, subnet)
            # To a neighbour or itself through a host port: the answer has to come back here.
            out = f'oifname "{driver.master or HOST_ENDS}"'
            yield f"{out} ct status dnat {ip} saddr {subnet} {ip} daddr {ours} masquerade"
            if network.masquerade and not network.internal:
                yield f"{ip} saddr {ours} {_AWAY} masquerade"


def _unmasqueraded(drivers: list[Driver]) -> Iterable[str]:
    """The rules that drop what would leave with a sandbox's own address.

    Without an entry in the table of connections, nothing is masqueraded. There is none for a
    packet that conntrack calls invalid, such as a segment outside of its connection's window.
    """
    for driver in drivers:
        network = driver.network
        if network.masquerade and not network.internal:
            for subnet in network.subnets:
                source = f"{ip_of(subnet)} saddr {_ours(network, subnet)}"
                yield f"ct state invalid,untracked {source} {_AWAY} drop"


def _ours(network: Network, subnet: Subnet) -> str:
    """The addresses of sandboxes in `subnet` of `network`."""
    return str(subnet) if network.managed else f"@guests{subnet.version}"


def _others(networks: list[Network], side: str, field: str) -> Iterable[str]:
    """The rules that ignore other machines on a bridge that this program does not manage."""
    for network in networks:
        if not network.managed:
            for ip, guests in (("ip", "guests4"), ("ip6", "guests6")):
                yield f'{side} "{network.bridge}" {ip} {field} != @{guests} return'


def _inside(drivers: list[Driver]) -> Iterable[str]:
    yield from chain.from_iterable(map(_kept_in, drivers))
    for driver in drivers:
        verdict = "ct status dnat accept" if driver.network.isolate else "accept"
        yield from (f"{match} {verdict}" for match in _between(driver, driver))
        by_name = {other.network.name: other for other in drivers}
        for reach in map(parse_reach, driver.network.reach):
            if (other := by_name.get(reach.network)) is not None:
                ports = f" {reach.match}" if reach.match else ""
                yield from (f"{match}{ports} accept" for match in _between(driver, other))


def _kept_in(driver: Driver) -> Iterable[str]:
    """The rules that let nothing out of an internal network."""
    if not driver.network.internal:
        return
    if driver.master:
        yield f'iifname "{driver.master}" oifname != "{driver.master}" drop'
        return
    for subnet in driver.network.subnets:
        ip = ip_of(subnet)
        yield f'iifname "{HOST_ENDS}" {ip} saddr {subnet} {ip} daddr != {subnet} drop'


def _between(driver: Driver, other: Driver) -> Iterable[str]:
    """Matches of packets from one network to another, or to itself."""
    if driver.master and other.master:
        yield f'iifname "{driver.master}" oifname "{other.master}"'
        return
    for source in driver.network.subnets:
        target = other.network.subnet_of(source.version)
        if target is not None:
            yield (
                f"{side(driver, 'iifname', 'saddr', source)}"
                f" {side(other, 'oifname', 'daddr', target)}"
            )
