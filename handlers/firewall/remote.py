"""The rules for what comes from sandboxes on other hosts of the cluster, and goes there.

A clustered network has the same subnets on all hosts. The blocks of other hosts are elements of
sets like `blocks4_24`, and the single addresses that they have beside are in `claims4` and
`claims6`, so the rules are the same for two hosts and for a thousand. The sandbox's own host judges
what it sends, and lets it out only to such a block. The other host believes a source of a clustered
subnet only if it is in a block of another host, and comes in VXLAN or by the link that leads back
there.

A block is found by its first address, as all of a network are of one size. Of sets of intervals,
libnftables reads all elements whenever one is added to any set of the table
(`set_is_non_concat_range` in `src/cache.c`), and one of an address and more takes long to remove
(`pipapo_drop` in `net/netfilter/nft_set_pipapo.c`).

Between hosts nothing is masqueraded. What others send into a clustered network, such as sandboxes
of a network of this host alone, leaves with this host's address there, from `own4` and `own6`.

VXLAN carries packets without any proof of who has sent them. So that of our networks is taken from
hosts with such blocks alone, and nothing on this host's own links may send it: what a sandbox sends
would leave with the host's address. What a user of a host sends has that address as well, but not
one of the source ports. All that is asked first, as no later rule sees what belongs to a
connection. VXLAN is not tracked: its source ports would fill the table of connections.

Source: nft(8); RFC 7348, section 5; `nft_fib4_eval` and `nft_fib6_eval` in `net/ipv4/netfilter` and
`net/ipv6/netfilter`, which compare the link of the longest prefix.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from typing import Final

from handlers.firewall.matches import HOST_ENDS, ip_family, ip_of, side, span
from handlers.kernel.rtnl import OURS
from handlers.networks.driver import Driver
from watcher.model.address import Subnet
from watcher.model.cluster import DEVICE, MOST_NETWORKS, SOURCE_PORTS, block_prefix, vni
from watcher.model.network import Network, versions_of
from watcher.model.reaching import Reach, parse_reach

_NAMES: Final = re.compile("blocks[46]_[0-9]+|(claims|own|hosts|peers)[46]")
ISOLATED: Final = "hosts"
"""The sets of other hosts' own addresses in isolated networks, if there are any."""

_DEVICES: Final = f"{DEVICE}*"
_NOT_OURS: Final = f'iifname != "{HOST_ENDS}"'
_UNBELIEVED: Final = f'iifname != "{_DEVICES}" fib saddr . iif oif missing'
"""Matches what comes by another link than leads back to its source.

VXLAN comes from hosts of the cluster alone. One that sends from one network to another uses the
device of the other one.
"""

_UNBELIEVED_MARKED: Final = _UNBELIEVED.replace("iif oif", "mark . iif oif")
"""The same of what is forwarded, where networks are closed.

There the way back is looked up as for a packet that comes from a sandbox (`nft_fib4_eval`), which
needs the mark.
"""


def is_of_cluster(name: str) -> bool:
    """Whether the elements of that set or map come with the cluster, and with no sandbox."""
    return _NAMES.fullmatch(name) is not None


def clustered(drivers: Sequence[Driver]) -> list[Driver]:
    """The drivers of clustered networks."""
    return [driver for driver in drivers if driver.network.cluster]


def sets(drivers: Sequence[Driver]) -> Iterator[str]:
    """The sets and maps that the clustered networks of `drivers` need."""
    networks = [driver.network for driver in clustered(drivers)]
    for v in versions_of(networks):
        for name in (*(blocks(v, length) for length in _lengths(networks, v)), f"claims{v}"):
            yield f"set {name} {{ type ipv{v}_addr; }}"
        yield f"map own{v} {{ type ipv{v}_addr : ipv{v}_addr; }}"
    for v in versions_of(network for network in networks if network.isolate):
        yield f"set {ISOLATED}{v} {{ type ipv{v}_addr; }}"
    if any(network.tunnelled for network in networks):
        yield from (f"set peers{v} {{ type ipv{v}_addr; }}" for v in (4, 6))


def chains(drivers: Sequence[Driver], port: int, *, marked: bool) -> Iterator[str]:
    """The chains; `port` is that of VXLAN.

    `marked` says that there are those of :func:`marking`, as networks may be closed.
    """
    known = clustered(drivers)
    if not known:
        return
    yield from _chain("from_wire", _from_wire(known))
    for v in versions_of(driver.network for driver in known):
        ip = ip_family(v)
        unknown = f"{_unknown(known, v, 'saddr')} drop"
        yield from _chain(f"verified{v}", (unknown, f"{_UNBELIEVED} drop"))
        unbelieved = _UNBELIEVED_MARKED if marked else _UNBELIEVED
        let_in = (unknown, f"{unbelieved} drop", *_let_in(known, v))
        yield from _chain(f"from_remote{v}", let_in)
        yield from _chain(f"to_remote{v}", _let_out(drivers, v))
        yield from _chain(
            f"between_hosts{v}",
            (
                f"{ip} saddr {_subnets(known, v)} accept",
                *(
                    f"{ip} daddr {s} snat {ip} to {ip} daddr & {s.netmask} map @own{v}"
                    for _, s in _of(known, v)
                ),
            ),
        )
    if any(driver.network.tunnelled for driver in known):
        yield from _of_vxlan(drivers, port)


def prerouting(drivers: Sequence[Driver]) -> Iterator[str]:
    """The rule for the first packet of a connection, before port maps."""
    if clustered(drivers):
        yield f'iifname != "lo" {_NOT_OURS} jump from_wire'


def postrouting(drivers: Sequence[Driver]) -> Iterator[str]:
    """The rules before those that masquerade, for what leaves the host's networks."""
    away = f'oifname != @bridges oifname != "{HOST_ENDS}"'
    for v, to in _each(drivers):
        yield f"{ip_family(v)} daddr {to} {away} goto between_hosts{v}"


def from_sandboxes(drivers: Sequence[Driver]) -> Iterator[str]:
    """The rules for what leaves the host's networks; what goes to sandboxes of this host does not.

    What bridges send comes here before it is known to go to such a sandbox.
    """
    for v, to in _each(drivers):
        yield f'oifname != "{HOST_ENDS}" {ip_family(v)} daddr {to} goto to_remote{v}'


def to_sandboxes(drivers: Sequence[Driver]) -> Iterator[str]:
    """The rules for what goes to sandboxes, behind those for neighbours on this host."""
    for v, of in _each(drivers):
        yield f"{_NOT_OURS} {ip_family(v)} saddr {of} jump from_remote{v}"


def forward(drivers: Sequence[Driver]) -> Iterator[str]:
    """The last rules for what is forwarded: this host is no router to and from other hosts."""
    for v, of in _each(drivers):
        yield f"{ip_family(v)} daddr {of} drop"
        yield f"{_NOT_OURS} {ip_family(v)} saddr {of} drop"


def marked(drivers: Sequence[Driver]) -> Iterator[str]:
    """The rules by which what comes from other hosts is not dropped where a network is closed.

    Their own hosts have judged it.
    """
    for v, of in _each(drivers):
        yield f'iifname != "lo" {_NOT_OURS} {ip_family(v)} saddr {of} goto from_remote_marked{v}'


def marking(drivers: Sequence[Driver], passed: str) -> Iterator[str]:
    """The chains of :func:`marked`; `passed` sets the mark."""
    for v, _ in _each(drivers):
        unknown = f"{_unknown(clustered(drivers), v, 'saddr')} return"
        known = f"ct state established {passed}"
        rules = (unknown, known, f"{_UNBELIEVED} return", passed)
        yield from _chain(f"from_remote_marked{v}", rules)


def leaves_to(subnet: Subnet) -> str:
    """Matches what is forwarded to sandboxes of other hosts in a clustered `subnet`."""
    return f'oifname != "{HOST_ENDS}" {ip_of(subnet)} daddr {subnet}'


def no_neighbour(driver: Driver, subnet: Subnet) -> Iterator[str]:
    """Matches of what is forwarded and claims falsely to be of a neighbour on another host."""
    source = f"{_NOT_OURS} {ip_of(subnet)} saddr {subnet}"
    yield f"{source} {_unknown([driver], subnet.version, 'saddr')}"
    yield f"{source} {_UNBELIEVED_MARKED}"


def _from_wire(known: Sequence[Driver]) -> Iterator[str]:
    if any(driver.network.tunnelled for driver in known):
        found = dict(_each(known))
        for v in (4, 6):
            other = (
                f" {ip_family(v)} saddr != {found[v]}" if v in found else f" meta nfproto ipv{v}"
            )
            yield f'iifname "{_DEVICES}"{other} drop'
    for v, of in _each(known):
        yield f"{ip_family(v)} saddr {of} goto verified{v}"


def _let_in(known: Sequence[Driver], v: int) -> Iterator[str]:
    """The rules for what comes from other hosts, which is where it says."""
    ip = ip_family(v)
    by_name = {driver.network.name: subnet for driver, subnet in _of(known, v)}
    for driver, subnet in _of(known, v):
        if driver.network.internal:
            yield f"{ip} saddr {subnet} {ip} daddr != {subnet} drop"
    for driver, subnet in _of(known, v):
        # An isolated network is reached by other hosts, as by this one.
        who = f"{ip} saddr @{ISOLATED}{v} " if driver.network.isolate else ""
        yield f"{who}{ip} saddr {subnet} {ip} daddr {subnet} accept"
        for reach in map(parse_reach, driver.network.reach):
            if (to := by_name.get(reach.network)) is not None:
                yield f"{ip} saddr {subnet} {ip} daddr {to}{_ports(reach)} accept"


def _let_out(drivers: Sequence[Driver], v: int) -> Iterator[str]:
    """The rules for what sandboxes send to other hosts."""
    ip = ip_family(v)
    to = {driver.network.name: subnet for driver, subnet in _of(clustered(drivers), v)}
    for driver in drivers:
        subnet = driver.network.subnet_of(v)
        if driver.network.internal and driver.master:
            yield f'iifname "{driver.master}" drop'
        elif driver.network.internal and subnet is not None:
            yield f"{ip} saddr {subnet} {ip} daddr != {subnet} drop"
    yield f"{_unknown(clustered(drivers), v, 'daddr')} reject with icmpx host-unreachable"
    for driver in drivers:
        name, subnet = driver.network.name, driver.network.subnet_of(v)
        if subnet is None:
            continue
        source = side(driver, "iifname", "saddr", subnet)
        if name in to and not driver.network.isolate:
            yield f"{source} {ip} daddr {subnet} accept"
        for reach in map(parse_reach, driver.network.reach):
            if (there := to.get(reach.network)) is not None:
                yield f"{source} {ip} daddr {there}{_ports(reach)} accept"
    yield "drop"


def _of_vxlan(drivers: Sequence[Driver], port: int) -> Iterator[str]:
    ours = f"udp dport {port} @th,96,24 {vni(1):#x}-{vni(MOST_NETWORKS):#x}"
    yield from _chain(
        "tunnels",
        ("type filter hook prerouting priority raw; policy accept;", f"{ours} goto tunnelled"),
    )
    yield from _chain(
        "tunnels_out", ("type filter hook output priority raw; policy accept;", f"{ours} notrack")
    )
    guests = not all(driver.network.managed for driver in drivers)
    yield from _chain(
        "tunnelled",
        (
            f"iifgroup {OURS} drop",
            f"udp sport != {span(SOURCE_PORTS)} drop",
            *(f"{ip_family(v)} saddr @guests{v} drop" for v in (4, 6) if guests),
            *(f"{ip_family(v)} saddr @peers{v} notrack accept" for v in (4, 6)),
            "drop",
        ),
    )


def blocks(v: int, length: int) -> str:
    """The set of the blocks of other hosts of that prefix length."""
    return f"blocks{v}_{length}"


def _unknown(known: Sequence[Driver], v: int, side: str) -> str:
    """Matches an address that is in no block of another host in these networks."""
    field, found = f"{ip_family(v)} {side}", list[str]()
    for length in _lengths([driver.network for driver in known], v):
        mask = ip_network((0 if v == 4 else bytes(16), length)).netmask
        found.append(f"{field} & {mask} != @{blocks(v, length)}")
    return " ".join((*found, f"{field} != @claims{v}"))


def _lengths(networks: Sequence[Network], v: int) -> list[int]:
    """The prefix lengths of the blocks of `networks`."""
    of = ((network, network.subnet_of(v)) for network in networks)
    return sorted({block_prefix(s, network.block) for network, s in of if s is not None})


def _ports(reach: Reach) -> str:
    return f" {reach.match}" if reach.match else ""


def _each(drivers: Sequence[Driver]) -> Iterator[tuple[int, str]]:
    """The clustered subnets of each IP version that has any, as nft writes them."""
    known = clustered(drivers)
    for v in versions_of(driver.network for driver in known):
        yield v, _subnets(known, v)


def _subnets(known: Sequence[Driver], v: int) -> str:
    found = [str(subnet) for _, subnet in _of(known, v)]
    return found[0] if len(found) == 1 else f"{{ {', '.join(found)} }}"


def _of(known: Sequence[Driver], v: int) -> Iterator[tuple[Driver, Subnet]]:
    """Those drivers that have a subnet of IP version `v`, with that."""
    for driver in known:
        subnet = driver.network.subnet_of(v)
        if subnet is not None:
            yield driver, subnet


def _chain(name: str, rules: Iterator[str] | Sequence[str]) -> Iterator[str]:
    yield f"chain {name} {{"
    yield from (f"    {rule}" for rule in rules)
    yield "}"
