"""The text of this program's nftables tables, and the elements that a sandbox has in them.

The rules are the same for one sandbox and for ten thousand: each port map, each guarded address is
an element of a map or set, found by one hash lookup; a long range of ports that stay the same
inside is one element of a map of intervals, asked where the others know nothing. Source: nft(8).

    inet watcher     port maps, masquerade, what may be forwarded
    bridge watcher   which addresses a sandbox may use
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

from watcher.model.address import Address, Subnet
from watcher.model.network import Network
from watcher.model.sandbox import Interface, Sandbox

TABLES: Final = (("inet", "watcher"), ("bridge", "watcher"))

RANGES: Final = ("range4", "range6", "range4_on", "range6_on")
"""The maps of intervals; no two of what is in one may overlap."""

LONG: Final = 32
"""Ports from which on a range is an interval.

Taking one away takes the longer the more there are (`pipapo_drop` in `net/netfilter/
nft_set_pipapo.c`: 14 ms at 500), so short ones, of which there may be many, are left to the hashes.
"""

_INET: Final = """
table inet watcher {{
    {sets}
    set bridges {{ type ifname; {bridges} }}

    chain loopback {{
        comment "packets from the wire to 127.0.0.0/8, whatever route_localnet says"
        type filter hook prerouting priority raw; policy accept;
        iifname != "lo" ip daddr 127.0.0.0/8 drop
        {guard}
    }}
    chain publish {{
        {publish}
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local jump publish
    }}
    chain output {{
        type nat hook output priority dstnat; policy accept;
        fib daddr type local jump publish
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname @bridges ct status dnat ip saddr 127.0.0.0/8 masquerade
        oifname @bridges ct status dnat ip6 saddr ::1 masquerade
        {localhost}
        {masquerade}
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        oifname @bridges jump to_sandboxes
        iifname @bridges jump from_sandboxes
        {forward}
    }}
    chain to_sandboxes {{
        {to_others}
        ct state established,related accept
        {inside}
        ct status dnat accept
        drop
    }}
    chain from_sandboxes {{
        {from_others}
        ct state established,related accept
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
"""The maps of published ports, where any network has a subnet of IP version v."""

_LOOKED_UP: Final = (
    "dnat {ip} to {ip} daddr . meta l4proto . th dport map @port{v}_on",
    "dnat {ip} to meta l4proto . th dport map @port{v}",
    "dnat {ip} to {ip} daddr . meta l4proto . th dport map @range{v}_on",
    "dnat {ip} to meta l4proto . th dport map @range{v}",
)
"""The rules that look a port up in them."""

_GUESTS: Final = ("set guests4 { type ipv4_addr; }", "set guests6 { type ipv6_addr; }")
"""The sets of our own on bridges of somebody else."""

_BRIDGE: Final = """
table bridge watcher {
    set free { type ifname; }
    set macs { type ifname . ether_addr; }
    set owner4 { type ifname . ether_addr . ipv4_addr; }
    set owner6 { type ifname . ether_addr . ipv6_addr; }

    chain prerouting {
        type filter hook prerouting priority -300; policy accept;
        iifname != "netnsv*" accept
        iifname @free accept
        iifname . ether saddr != @macs drop
        ether type arp iifname . arp saddr ether . arp saddr ip @owner4 accept
        ether type arp iifname . arp saddr ether @macs arp saddr ip 0.0.0.0 accept
        ether type ip iifname . ether saddr . ip saddr @owner4 accept
        ether type ip6 icmpv6 type { nd-router-advert, nd-redirect } drop
        ether type ip6 icmpv6 type nd-neighbor-advert \
            iifname . ether saddr . icmpv6 taddr != @owner6 drop
        ether type ip6 iifname . ether saddr . ip6 saddr @owner6 accept
        ether type ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit \
            iifname . ether saddr . icmpv6 taddr @owner6 accept
        ether type ip6 ip6 saddr :: icmpv6 type \
            { mld-listener-report, mld2-listener-report } accept
        drop
    }
    chain input {
        comment "the frames that no bridge forwards teach it a MAC all the same"
        type filter hook input priority -300; policy accept;
        ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 jump link_local
    }
    chain link_local {
        iifname "netnsv*" iifname != @free iifname . ether saddr != @macs drop
    }
}
"""


_ROUTED: Final = {
    "sets": (
        "set routed { type ifname; }",
        "set routed4 { type ifname . ipv4_addr; }",
        "set routed6 { type ifname . ipv6_addr; }",
    ),
    "guard": (
        "iifname @routed meta nfproto ipv4 iifname . ip saddr != @routed4 drop",
        "iifname @routed meta nfproto ipv6 iifname . ip6 saddr != @routed6 drop",
    ),
    "localhost": (
        'oifname "netnsv*" ct status dnat ip saddr 127.0.0.0/8 masquerade',
        'oifname "netnsv*" ct status dnat ip6 saddr ::1 masquerade',
    ),
    "forward": (
        'oifname "netnsv*" jump to_sandboxes',
        'iifname "netnsv*" jump from_sandboxes',
    ),
}
"""What is needed besides where a network is routed: its packets come in by the sandboxes' links."""


class Element(NamedTuple):
    """One element of a set or map: what is looked up, and what is found (empty in a set)."""

    family: str
    name: str
    key: tuple[str, ...]
    value: tuple[str, ...] = ()

    def text(self, verb: str) -> str:
        """What it is in a command that does `verb` (`add`, `destroy`) to it."""
        key = " . ".join(self.key)
        return f"{key} : {' . '.join(self.value)}" if self.value and verb == "add" else key


def commands(verb: str, elements: Iterable[Element]) -> str:
    """The commands that do `verb` (`add`, `destroy`) to `elements`.

    Neighbours of one set or map are in one command: for thousands that takes half the time.
    """
    return "".join(
        f"{verb} element {family} watcher {name} {{ {', '.join(e.text(verb) for e in some)} }}\n"
        for (family, name), some in groupby(elements, key=_SET)
    )


_SET: Final = itemgetter(0, 1)
"""The family and the name of an element's set or map."""


GUARDED: Final = frozenset(("owner4", "owner6", "routed4", "routed6"))
"""The sets of host ends, first in each key, with the addresses that they are held to, last."""


def base(networks: Iterable[Network]) -> str:
    """The commands that make both tables anew, empty of elements."""
    known = sorted(networks, key=lambda network: network.name)
    bridges = ", ".join(f'"{network.bridge}"' for network in known)
    routed = _ROUTED if any(network.mode == "routed" for network in known) else {}
    inet = _INET.format(
        **{part: _lines(routed.get(part, ())) for part in _ROUTED if part != "sets"},
        sets="\n    ".join((*_sets(known), *routed.get("sets", ()))),
        publish=_lines(_looked_up(known)),
        bridges=f"elements = {{ {bridges} }}" if bridges else "",
        to_others="\n        ".join(_others(known, "oifname", "daddr")),
        from_others="\n        ".join(_others(known, "iifname", "saddr")),
        masquerade="\n        ".join(_masquerade(known)),
        inside="\n        ".join(_inside(known)),
        outwards="\n        ".join(_outwards(known)),
    )
    anew = "".join(f"table {f} {t}\ndelete table {f} {t}\n" for f, t in TABLES)
    return anew + inet + _BRIDGE


def _lines(rules: Iterable[str]) -> str:
    return "\n        ".join(rules)


def _versions(networks: Iterable[Network]) -> list[int]:
    """The IP versions that any of `networks` has a subnet of."""
    return sorted({subnet.version for network in networks for subnet in network.subnets})


def _sets(networks: list[Network]) -> Iterable[str]:
    """The sets and maps that these networks need: libnftables lists all at each command."""
    for version in _versions(networks):
        yield from (map_.format(v=version) for map_ in _PUBLISHED)
    if not all(network.managed for network in networks):
        yield from _GUESTS


def _looked_up(networks: list[Network]) -> Iterable[str]:
    for version in _versions(networks):
        ip = "ip" if version == 4 else "ip6"
        yield from (rule.format(v=version, ip=ip) for rule in _LOOKED_UP)


def elements(sandbox: Sandbox, networks: Mapping[str, Network]) -> dict[Element, None]:
    """The elements that `sandbox` needs, in order and without repetition."""
    found: dict[Element, None] = {}
    for interface in sandbox.interfaces:
        found.update(dict.fromkeys(_guards(interface, networks[interface.network])))
    if sandbox.ports:
        found.update(dict.fromkeys(_forwards(sandbox, networks)))
    return found


def overlapping(one: Element, other: Element) -> bool:
    """Whether two elements of :data:`RANGES` cannot both be."""
    if (one.name, one.key[:-1]) != (other.name, other.key[:-1]):
        return False
    (first, last), (start, end) = (map(int, e.key[-1].split("-")) for e in (one, other))
    return first <= end and start <= last


def target(sandbox: Sandbox, networks: Mapping[str, Network], version: int) -> Address | None:
    """Where the port maps of `sandbox` lead: its first address of `version` to be published."""
    for interface in sandbox.interfaces:
        if not networks[interface.network].internal:
            for address in interface.addresses:
                if address.version == version:
                    return address.ip
    return None


def _masquerade(networks: list[Network]) -> Iterable[str]:
    for network in networks:
        for subnet in network.subnets:
            ip = _ip(subnet)
            ours = str(subnet) if network.managed else f"@guests{subnet.version}"
            # A neighbour, or itself, by the host's address: the answer has to come back.
            out = f'oifname "{network.bridge if network.mode == "bridge" else "netnsv*"}"'
            yield f"{out} ct status dnat {ip} saddr {subnet} {ip} daddr {ours} masquerade"
            if network.masquerade and not network.internal:
                away = 'oifname != @bridges oifname != "netnsv*"'
                yield f"{ip} saddr {ours} {away} masquerade"


def _others(networks: list[Network], side: str, field: str) -> Iterable[str]:
    """The rules that leave alone what is not of a sandbox, on a bridge of somebody else."""
    for network in networks:
        if not network.managed:
            for ip, guests in (("ip", "guests4"), ("ip6", "guests6")):
                yield f'{side} "{network.bridge}" {ip} {field} != @{guests} return'


def _inside(networks: list[Network]) -> Iterable[str]:
    for network in networks:
        yield from _kept_in(network)
    for network in networks:
        verdict = "ct status dnat accept" if network.isolate else "accept"
        yield from (f"{match} {verdict}" for match in _between(network, network))
        for other in networks:
            if other.name in network.reach:
                yield from (f"{match} accept" for match in _between(network, other))


def _outwards(networks: list[Network]) -> Iterable[str]:
    for network in networks:
        yield from _kept_in(network)


def _kept_in(network: Network) -> Iterable[str]:
    """The rules that let nothing out of an internal network."""
    if network.internal and network.mode == "bridge":
        yield f'iifname "{network.bridge}" oifname != "{network.bridge}" drop'
    elif network.internal:
        for subnet in network.subnets:
            ip = _ip(subnet)
            yield f'iifname "netnsv*" {ip} saddr {subnet} {ip} daddr != {subnet} drop'


def _between(network: Network, other: Network) -> Iterable[str]:
    """What matches packets from one network to another, or to itself.

    A bridged network is told by its bridge, a routed one by its subnets.
    """
    if network.mode == other.mode == "bridge":
        yield f'iifname "{network.bridge}" oifname "{other.bridge}"'
        return
    for source in network.subnets:
        target_ = other.subnet_of(source.version)
        if target_ is not None:
            yield (
                f"{_side(network, 'iifname', 'saddr', source)}"
                f" {_side(other, 'oifname', 'daddr', target_)}"
            )


def _side(network: Network, name: str, field: str, subnet: Subnet) -> str:
    if network.mode == "bridge":
        return f'{name} "{network.bridge}"'
    return f'{name} "netnsv*" {_ip(subnet)} {field} {subnet}'


def _ip(subnet: Subnet) -> str:
    return "ip" if subnet.version == 4 else "ip6"


def _guards(interface: Interface, network: Network) -> Iterable[Element]:
    name = f'"{interface.host_name}"'
    if not network.managed:
        for address in interface.addresses:
            yield Element("inet", f"guests{address.version}", (str(address.ip),))
    if network.mode == "routed":
        if network.guard:
            yield Element("inet", "routed", (name,))
            for address in interface.addresses:
                yield Element("inet", f"routed{address.version}", (name, str(address.ip)))
        return
    if not network.guard:
        yield Element("bridge", "free", (name,))
        return
    yield Element("bridge", "macs", (name, interface.mac))
    for address in interface.addresses:
        set_ = "owner4" if address.version == 4 else "owner6"
        yield Element("bridge", set_, (name, interface.mac, str(address.ip)))
    if any(address.version == 6 for address in interface.addresses):
        yield Element("bridge", "owner6", (name, interface.mac, str(link_local(interface.mac))))


def _forwards(sandbox: Sandbox, networks: Mapping[str, Network]) -> Iterable[Element]:
    targets = {version: target(sandbox, networks, version) for version in (4, 6)}
    ranges: defaultdict[tuple[str, tuple[str, ...], str], list[tuple[int, int]]] = defaultdict(list)
    for port in sandbox.ports:
        host = port.host_ip
        for version in (4, 6) if host is None else (host.version,):
            if targets[version] is None:
                continue
            key: tuple[str, ...] = (port.protocol,)
            to, name = str(targets[version]), str(version)
            if host is not None and not host.is_unspecified:
                name, key = name + "_on", (str(host), *key)
            if port.length >= LONG and port.port == port.host_port:
                ranges[f"range{name}", key, to].append((port.host_port, port.last))
                continue
            for n in range(port.length):
                yield Element(
                    "inet", f"port{name}", (*key, str(port.host_port + n)), (to, str(port.port + n))
                )
    for (name, key, to), spans in ranges.items():
        for first, last in _united(spans):
            yield Element("inet", name, (*key, f"{first}-{last}"), (to,))


def _united(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """`spans` in order, those that overlap made one: containers of one sandbox may share ports."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found


def link_local(mac: str) -> IPv6Address:
    """The link-local address that the kernel makes of `mac` (RFC 4291, appendix A)."""
    octets = bytearray.fromhex(mac.replace(":", ""))
    octets[0] ^= 2
    return IPv6Address(b"\xfe\x80" + bytes(6) + octets[:3] + b"\xff\xfe" + octets[3:])
