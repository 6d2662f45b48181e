"""The rules for what sandboxes may open connections to.

Each address of a sandbox that is held to a list has the number of that list in `egress4`, `egress6`
or, if it is link-local, `egress_local`. Each list has its boxes in `to4` and `to6`, once, however
many sandboxes are held to it. What is judged is what the program dialled, before any port map. What
passes gets a bit of the packet mark: without it nothing from these networks is routed
(:mod:`handlers.closing`).

Each such address is in the set `limited4`, `limited6` or `limited_local` as well: when a table is
deleted, the kernel empties its maps at once, even for a packet that is still asking the old rules,
but not its sets (`nft_map_deactivate` in `net/netfilter/nf_tables_api.c`). So no packet that nobody
may send is taken for one of a sandbox without a list.

The number travels in `meta priority`, which the kernel overwrites when it forwards
(`ip_forward` in `net/ipv4/ip_forward.c`).

What looks like an answer is not always one:

- An error of ICMP belongs to whatever connection its content is of, also to another sandbox's. Only
  an end of that connection may send it. So `limited4` and `limited6` have pairs: an address
  twice for a packet of its own, and the same set then says whether the sender is an end.
- A related connection that a helper of the host expects is a new one.
- A source route leads elsewhere than the packet's address says (`ip_options_rcv_srr` in
  `net/ipv4/ip_options.c`, `ipv6_rthdr_rcv` in `net/ipv6/exthdrs.c`): no packet has one.

What conntrack calls invalid would begin no connection, such as a segment outside of the window of
its own one: it is dropped, since a reset in answer would end that connection (REJECT in
iptables-extensions(8)).

Source: nft(8).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Final

from handlers.closing.judged import closed
from handlers.firewall import opened_elements, rejecting, remote
from handlers.firewall.classids import classid
from handlers.firewall.matches import HOST_ENDS, ip_of, local_key, side, span
from handlers.firewall.rejecting import REJECT
from handlers.handler import Numbers
from handlers.kernel.netlink import Netlink
from handlers.kernel.nft import Element
from handlers.networks.driver import Driver
from handlers.networks.held import HeldBy
from watcher.model.names import DNS_PORT
from watcher.model.network import gateway
from watcher.model.policy.access import text_of
from watcher.model.policy.boxes import Box

type Group = tuple[str, str]
"""A set and the first part of keys in it: all boxes of one list."""

BLOCK: Final = "egress"
"""The name of these rules among those that are there only if they are needed."""

SHARED: Final = frozenset({"judged", "to4", "to6"})
"""The sets whose elements stay when a sandbox goes, as others may need them."""

_NEIGHBOUR_DISCOVERY: Final = (
    "nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld-listener-report,"
    " mld-listener-done, mld2-listener-report"
)


def sets(versions: Sequence[int]) -> Iterator[str]:
    """The sets and maps, for these IP versions."""
    yield "set judged { type ifname; }"  # not asked: it has these rules be there
    if 6 in versions:
        yield "set limited_local { type ifname . ipv6_addr; }"
        yield "map egress_local { type ifname . ipv6_addr : classid; }"
    for v in versions:
        yield f"set limited{v} {{ type ipv{v}_addr . ipv{v}_addr; }}"
        yield f"map egress{v} {{ type ipv{v}_addr : classid; }}"
        yield (
            f"set to{v} {{ type classid . ipv{v}_addr . inet_proto . inet_service;"
            " flags interval; }"
        )
    yield from opened_elements.sets(versions)
    yield from rejecting.sets("egress", versions)


def chains(
    drivers: Sequence[Driver], versions: Sequence[int], mark: int, log_group: int
) -> Iterator[str]:
    """The chains; `log_group` gets some of what is rejected, unless it is 0."""
    passed = f"meta mark set meta mark | {mark:#x} accept"
    yield from (
        "chain judge {",
        "    type filter hook prerouting priority mangle - 10; policy accept;",
        *_bridges(drivers),
    )
    if not all(driver.master for driver in drivers):
        yield f'    iifname "{HOST_ENDS}" jump from_judged'
    yield from (f"    {rule}" for rule in remote.marked(drivers))
    yield "}"
    yield from remote.marking(drivers, passed)
    yield from _no_redirects(drivers, versions)
    yield "chain from_judged {"
    if 4 in versions:
        yield f"    @nh,0,8 {_IPV4_WITH_OPTIONS} jump source_routes4"
    if 6 in versions:
        yield "    ip6 nexthdr != tcp ip6 nexthdr != udp jump source_routes6"
    yield f"    ct state established {passed}"
    for driver in drivers:
        if driver.network.named:
            for subnet in driver.network.subnets:
                own = gateway(subnet)
                yield (
                    f"    {side(driver, 'iifname', 'saddr', subnet)} {ip_of(subnet)} daddr {own}"
                    f" meta l4proto {{ tcp, udp }} th dport {DNS_PORT} {passed}"
                )
    if 6 in versions:
        own6 = [str(gateway(s)) for d in drivers for s in d.network.subnets if s.version == 6]
        near = ", ".join(("fe80::/10", "ff02::/16", *own6))
        yield f"    ip6 daddr {{ {near} }} icmpv6 type {{ {_NEIGHBOUR_DISCOVERY} }} {passed}"
    for v in versions:
        yield f"    meta nfproto ipv{v} goto from_judged{v}"
    yield "}"
    for v in versions:
        yield from _of_version(v, drivers, passed, log_group)


def _no_redirects(drivers: Sequence[Driver], versions: Sequence[int]) -> Iterator[str]:
    """The chain that keeps the host from telling sandboxes to send to a neighbour directly.

    It would, as what it forwards goes out by the bridge that it came in by (`__mkroute_input` in
    `net/ipv4/route.c`, `ip6_forward` in `net/ipv6/ip6_output.c`), and the guard drops such frames.
    A setting inside would do as well, but takes longer to write than all elements of a sandbox.
    """
    if any(driver.master for driver in drivers):
        yield "chain no_redirects {"
        yield "    type filter hook output priority filter; policy accept;"
        kinds = {4: "icmp type redirect", 6: "icmpv6 type nd-redirect"}
        yield from (f"    {kinds[v]} oifname @bridges drop" for v in versions)
        yield "}"


def _bridges(drivers: Sequence[Driver]) -> Iterator[str]:
    """The rules by which what comes from bridges is judged.

    To compare a few names costs a packet less than to look one up. What a network without lists
    sends is judged as well, and passes.
    """
    names = [driver.master for driver in drivers if driver.master]
    if len(names) > _MOST_NAMES:
        yield "    iifname @bridges jump from_judged"
    else:
        yield from (f'    iifname "{name}" jump from_judged' for name in names)


_MOST_NAMES: Final = 8


def _of_version(v: int, drivers: Sequence[Driver], passed: str, log_group: int) -> Iterator[str]:
    """The chains for IP version `v`: `passed` is what is done to what may pass."""
    ip, icmp = ("ip", "icmp") if v == 4 else ("ip6", "ipv6-icmp")
    error = f"ct state related meta l4proto {icmp} {ip} saddr"
    held = [d.network.subnet_of(v) for d in drivers if d.network.egress is not None]
    subnets = ", ".join(str(subnet) for subnet in held if subnet is not None)
    # Who is in a network with a list and has no number is held to the list without entries, 0.
    free = f" {ip} saddr != {{ {subnets} }}" if subnets else ""
    yield from (f"chain source_routes{v} {{", *_SOURCE_ROUTES[v], "}")
    yield from (f"chain from_judged{v} {{", "    meta priority set none")
    if v == 6:
        local = "ip6 saddr fe80::/10"
        yield f"    {local} iifname . ip6 saddr != @limited_local {passed}"
        yield f"    {local} meta priority set iifname . ip6 saddr map @egress_local"
    others = "ip6 saddr != fe80::/10 " if v == 6 else ""
    # IPv6 forwards with the priority that it finds, and a qdisc of the host's may go by that.
    cleared = f"meta priority set none {passed}" if v == 6 else passed
    yield from (
        f"    {others}{ip} saddr . {ip} saddr != @limited{v}{free} {passed}",
        f"    meta priority set {ip} saddr map @egress{v}",
        f"    meta priority . {ip} daddr . meta l4proto . th dport @to{v} {cleared}",
        *opened_elements.rules(v, cleared),
        f"    {error} . ct original {ip} saddr @limited{v} {cleared}",
        f"    {error} . ct reply {ip} saddr @limited{v} {cleared}",
        "    ct state invalid drop",
        *(f"    {rule}" for rule in rejecting.noted("egress", v, log_group)),
        *(f"    {rule}" for rule in rejecting.answered("egress", v)),
        "}",
    )


def returning(drivers: Sequence[Driver]) -> Iterator[str]:
    """The rules by which answers to who is held to a list come back by the host.

    Its packets to neighbours on its bridge pass by the host. Those of a neighbour that is held to
    none would go to it directly.
    """
    for driver in drivers:
        network = driver.network
        if driver.master and not network.policed and not network.isolate:
            for subnet in network.subnets:
                ip = ip_of(subnet)
                yield (
                    f'oifname "{driver.master}" {ip} daddr {subnet} {ip} saddr {subnet}'
                    f" {ip} saddr . {ip} saddr @limited{subnet.version} masquerade"
                )


_IPV4_WITH_OPTIONS: Final = "0x46-0x4f"
"""The first byte of the header (RFC 791); that of IPv6 begins with 6."""

_SOURCE_ROUTES: Final = {
    4: (f"    ip option lsrr exists {REJECT}", f"    ip option ssrr exists {REJECT}"),
    6: (f"    exthdr rt exists {REJECT}",),
}


def own(
    held_by: Iterable[HeldBy], drivers: Mapping[str, Driver], numbers: Numbers
) -> Iterator[Element]:
    """The elements that go with a sandbox, of which `held_by` has what is held to a list."""
    for interface, held in held_by:
        number = classid(numbers.number_of(held.document))
        for address in interface.addresses:
            own = str(address.ip)
            yield Element("inet", f"limited{address.version}", (own, own))
            yield Element("inet", f"egress{address.version}", (own,), (number,))
        if (key := local_key(interface, drivers[interface.network])) is not None:
            yield Element("inet", "limited_local", key)
            yield Element("inet", "egress_local", key, (number,))


def shared(
    judged: Iterable[Driver], held_by: Iterable[HeldBy], numbers: Numbers, there: Container[Group]
) -> Iterator[Element]:
    """The elements that a sandbox has in common with others, without the groups in `there`.

    `judged` has the drivers of the networks in which it is held to any list.
    """
    for driver in judged:
        if ("judged", f'"{driver.network.bridge}"') not in there:
            yield _judged(driver)
    for interface, held in held_by:
        number = classid(numbers.number_of(held.document))
        for version in sorted({address.version for address in interface.addresses}):
            if (f"to{version}", number) not in there:
                yield from (
                    Element("inet", f"to{version}", (number, *fields(box)))
                    for box in held.boxes(version)
                )


def while_closed(netlink: Netlink, drivers: Iterable[Driver]) -> Iterator[Element]:
    """The elements that closed networks need, though no sandbox may be held to a list any more."""
    return map(_judged, closed(netlink, drivers))


def _judged(driver: Driver) -> Element:
    """Has a network judged; the bridge of a routed one carries nothing, but stands for it."""
    return Element("inet", "judged", (f'"{driver.network.bridge}"',))


def fields(box: Box) -> tuple[str, str, str]:
    """Address, protocol and port of an element, as nft lists them."""
    return (
        text_of(box.version, box.addresses),
        _PROTOCOLS.get(box.protocols, span(box.protocols)),
        span(box.ports),
    )


_PROTOCOLS: Final = {
    (1, 1): "icmp", (6, 6): "tcp", (17, 17): "udp", (58, 58): "ipv6-icmp", (132, 132): "sctp",
}  # fmt: skip
"""As libnftables lists them; those of ranges are numbers."""
