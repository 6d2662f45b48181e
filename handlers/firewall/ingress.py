"""The rules for who may open connections to sandboxes.

Each address of a sandbox that is held to a list has the number of that list in `ingress4` or
`ingress6`, and each list has its boxes in `from4` and `from6`, once. A new connection is judged
where it is forwarded: by its source, and by the port that its client dialled, which of a published
port is the host's. What the host itself opens is judged where it leaves, and only if a list keeps
any of it out.

`received4` and `received6` have the same addresses as these maps. When a table is deleted, the
kernel empties its maps at once, even for a packet that still asks the old rules, but not its sets
(`nft_map_deactivate` in `net/netfilter/nf_tables_api.c`): no packet then passes for one to a
sandbox without a list.

The number travels in `meta priority`, which is nothing again afterwards: for the first packet of
such a connection, the priority that the host made of its type of service is lost.

Source: nft(8).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Final

from handlers.firewall import rejecting, remote
from handlers.firewall.classids import classid
from handlers.firewall.egress import Group, fields
from handlers.firewall.matches import ERRORS, HOST_ENDS, ip_family, local_key
from handlers.firewall.rejecting import REJECT
from handlers.handler import Numbers
from handlers.kernel.nft import Element
from handlers.networks.driver import Driver
from handlers.networks.held import HeldBy, held_interfaces
from watcher.model.policy.words import of_host, spelled_out
from watcher.model.sandbox import Sandbox

BLOCK: Final = "ingress"
"""The name of these rules among those that are there only if they are needed."""

OF_HOST: Final = "ingress of the host"
"""The name of those for what the host itself opens."""

BLOCKS: Final = {
    "ingress4": BLOCK, "ingress6": BLOCK, "host_ingress4": OF_HOST, "host_ingress6": OF_HOST,
}  # fmt: skip
"""By the maps that they look up, the rules that are there only if they are needed."""

SHARED: Final = frozenset({"from4", "from6", "from_host4", "from_host6", "closed4", "closed6"})
"""The sets whose elements stay when a sandbox goes, as others may need them."""

FORWARDED: Final = "jump to_judged"
"""The rule for what is forwarded, behind those for connections that are there already."""

_LOCAL: Final = (
    "    ip6 daddr fe80::/10 meta priority set oifname . ip6 daddr map @host_ingress_local",
)
_DIALLED: Final = "meta l4proto . ct original proto-dst"


def sets(versions: Sequence[int]) -> Iterator[str]:
    """The sets and maps of :data:`BLOCK`, for these IP versions."""
    for v in versions:
        yield f"set received{v} {{ type ipv{v}_addr; }}"
        yield f"set closed{v} {{ type ipv{v}_addr; flags interval; }}"
        yield f"map ingress{v} {{ type ipv{v}_addr : classid; }}"
        yield (
            f"set from{v} {{ type classid . ipv{v}_addr . inet_proto . inet_service;"
            " flags interval; }"
        )
    yield from rejecting.sets("ingress", versions)


def sets_of_host(versions: Sequence[int]) -> Iterator[str]:
    """The sets and maps of :data:`OF_HOST`, for these IP versions."""
    for v in versions:
        yield f"map host_ingress{v} {{ type ipv{v}_addr : classid; }}"
        if v == 6:
            yield "map host_ingress_local { type ifname . ipv6_addr : classid; }"
        yield f"set from_host{v} {{ type classid . inet_proto . inet_service; flags interval; }}"


def chains(
    drivers: Sequence[Driver], versions: Sequence[int], mark: int, log_group: int
) -> Iterator[str]:
    """The chains of :data:`BLOCK`; `log_group` gets some of what is rejected, unless it is 0.

    What goes to a network with such sandboxes gets the bit `mark`, behind all that translates: a
    rule of ip-rule(8) that lets nothing else there keeps it closed while this table is missing.

    A packet without an entry in the table of connections has no port that was dialled, so it does
    not pass either: segments outside of their connections' windows, for instance.
    """
    yield "chain arrives {"
    yield "    type filter hook prerouting priority dstnat + 10; policy accept;"
    for v in versions:
        ip = ip_family(v)
        yield f"    {ip} daddr @closed{v} meta mark set meta mark | {mark:#x}"
    yield "}"
    yield "chain to_judged {"
    yield from (f"    meta nfproto ipv{v} goto to_judged{v}" for v in versions)
    yield "}"
    for v in versions:
        ip = ip_family(v)
        near = [(d, s) for d in drivers for s in d.network.subnets if s.version == v]
        policed = ", ".join(str(s) for d, s in near if d.network.ingress is not None)
        # In a network with a list, an address without a number is held to the list of no entries.
        free = f" {ip} daddr != {{ {policed} }}" if policed else ""
        yield f"chain to_judged{v} {{"
        for driver, subnet in near:
            if driver.network.cluster and driver.network.ingress is not None:
                yield f"    {remote.leaves_to(subnet)} return"  # the other host judges
        yield from (
            f"    {ip} daddr != @received{v}{free} return",
            "    ct state invalid,untracked drop",
            "    meta priority set none",
            f"    meta priority set {ip} daddr map @ingress{v}",
        )
        for driver, subnet in near:  # no other link may claim to be a neighbour
            link = driver.master or HOST_ENDS
            claims = [f'iifname != "{link}" {ip} saddr {subnet}']
            if driver.network.cluster:
                claims = list(remote.no_neighbour(driver, subnet))
            yield from (f"    {claim} goto rejected_from{v}" for claim in claims)
        yield from (
            f"    meta priority . {ip} saddr . {_DIALLED} @from{v} meta priority set none return",
            f"    goto rejected_from{v}",
            "}",
            f"chain rejected_from{v} {{",
            *(
                f"    {ip} daddr @received{v} {rule}"
                for rule in rejecting.noted("ingress", v, log_group, side="daddr")
            ),
            *(f"    {rule}" for rule in rejecting.answered("ingress", v, side="daddr")),
            "}",
        )


def chains_of_host(versions: Sequence[int], log_group: int) -> Iterator[str]:
    """The chains of :data:`OF_HOST`."""
    yield from (
        "chain host_to_judged {",
        "    type filter hook output priority filter; policy accept;",
    )
    new = "ct state new,related"
    yield from (f"    {new} meta nfproto ipv{v} goto host_to_judged{v}" for v in versions)
    yield "}"
    for v in versions:
        ip = ip_family(v)
        noted = rejecting.noted("ingress", v, log_group, side="daddr", of_host=True)
        yield from (
            f"chain host_to_judged{v} {{",
            f"    {ERRORS} return",
            "    meta priority set none",
            f"    meta priority set {ip} daddr map @host_ingress{v}",
            *(_LOCAL if v == 6 else ()),
            "    meta priority none return",
            f"    meta priority . {_DIALLED} @from_host{v} meta priority set none return",
            *(f"    {rule}" for rule in noted),
            # The kernel sends the host itself as many errors as there are.
            *(("    meta l4proto tcp reject with tcp reset",) if v == 6 else ()),
            f"    {REJECT}",
            "}",
        )


def own(
    held_by: Iterable[HeldBy], drivers: Mapping[str, Driver], numbers: Numbers
) -> Iterator[Element]:
    """The elements that go with a sandbox, of which `held_by` has what :func:`held` says."""
    for interface, held in held_by:
        number = classid(numbers.number_of(held.document))
        for address in interface.addresses:
            v, key = address.version, (str(address.ip),)
            yield Element("inet", f"received{v}", key)
            yield Element("inet", f"ingress{v}", key, (number,))
            if of_host(held, v) is not None:
                yield Element("inet", f"host_ingress{v}", key, (number,))
        local = local_key(interface, drivers[interface.network])
        if local is not None and of_host(held, 6) is not None:
            yield Element("inet", "host_ingress_local", local, (number,))


def shared(
    held_by: Iterable[HeldBy],
    drivers: Mapping[str, Driver],
    numbers: Numbers,
    there: Container[Group],
) -> Iterator[Element]:
    """The elements that a sandbox has in common with others, without the groups in `there`."""
    for interface, held in held_by:
        number = classid(numbers.number_of(held.document))
        for subnet in drivers[interface.network].network.subnets:
            name = f"closed{subnet.version}"
            span = f"{subnet.network_address}-{subnet.broadcast_address}"
            if (name, span) not in there:
                yield Element("inet", name, (span,))
        for v in sorted({address.version for address in interface.addresses}):
            if (f"from{v}", number) not in there:
                for box in held.boxes(v):
                    yield Element("inet", f"from{v}", (number, *fields(box)))
            if (f"from_host{v}", number) in there:
                continue
            for box in of_host(held, v) or ():
                yield Element("inet", f"from_host{v}", (number, *fields(box)[1:]))


def held(sandbox: Sandbox, drivers: Mapping[str, Driver]) -> list[HeldBy]:
    """The interfaces of `sandbox` that are held to a list, which is spelled out."""
    return [
        (interface, spelled_out(held, drivers[interface.network].network.subnets))
        for interface, held in held_interfaces("ingress", sandbox, drivers)
    ]
