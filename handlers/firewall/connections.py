"""The rules for how many connections a sandbox may have at once, in either direction.

The table of connections is one for the whole host. A new connection that is forwarded from a
sandbox or to its published port, or that goes from it to the host itself, is counted in the
sandbox's list; if that is full, it is rejected. All its addresses have one list. The kernel looks
up each connection of a list before it adds one (`__nf_conncount_add` in
`net/netfilter/nf_conncount.c`: once a tick, but 4 ms at 20,000 of them), so a large bound is
divided: each of its parts takes the connections that a hash gives it.

A set with such elements that is not `dynamic` keeps those that are empty
(`nft_rhash_expr_needs_gc_run` in `net/netfilter/nft_set_hash.c`, since Linux 6.15 and the stable
kernels of April 2025). nft(8) asks for a statement in the declaration of the set, which counts for
no element.

Source: nft(8).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from handlers.firewall import rejecting
from handlers.firewall.classids import classid
from handlers.firewall.matches import HOST_ENDS, ip_family, local_key
from handlers.kernel.nft import Element
from handlers.networks.driver import Driver
from watcher.model.policy.limits import bound
from watcher.model.sandbox import Sandbox

BLOCK: Final = "connections"
"""The name of these rules among those that are there only if they are needed."""

BLOCKS: Final = {"connections4": BLOCK, "connections6": BLOCK}
"""By the maps that they look up, the rules that are there only if they are needed."""

WHOLE: Final = 1024
"""Up to so many connections have one list, which is exact."""

PARTS: Final = 64
"""In so many parts a larger bound is divided."""

FORWARDED: Final = "jump bounded"
"""The rule for what is forwarded, behind those for connections that are there already."""

ARRIVING: Final = "ct state new,related jump bounded"
"""The rule for what goes to the host itself."""


_LOCAL: Final = (
    "    ip6 saddr fe80::/10 meta priority set iifname . ip6 saddr map @connections_local",
)
_SIDES: Final[tuple[Literal["saddr", "daddr"], ...]] = ("saddr", "daddr")


def sets(versions: Sequence[int]) -> Iterator[str]:
    """The sets and maps, for these IP versions."""
    yield from (f"map connections{v} {{ type ipv{v}_addr : classid; }}" for v in versions)
    if 6 in versions:
        yield "map connections_local { type ifname . ipv6_addr : classid; }"
    yield "set bounds { type classid; ct count over 1; }"
    yield "set bounds_of_parts { type classid . mark; ct count over 1; }"
    yield from rejecting.sets("connections", versions)


def chains(drivers: Sequence[Driver], versions: Sequence[int], log_group: int) -> Iterator[str]:
    """The chains; `log_group` gets some of what is rejected, unless it is 0.

    A published port is told by `ct status dnat`: what comes to an address of a sandbox from
    elsewhere is dropped, and does not count.
    """
    links = ["iifname @bridges"] if any(driver.master for driver in drivers) else []
    if not all(driver.master for driver in drivers):
        links.append(f'iifname "{HOST_ENDS}"')
    yield from ("chain bounded {", "    ct status confirmed return")  # it has its entry already
    yield from (f"    meta nfproto ipv{v} goto bounded{v}" for v in versions)
    yield "}"
    for v in versions:
        ip = ip_family(v)
        part = f"jhash {ip} daddr . ct original proto-src . ct original proto-dst mod {PARTS}"
        sides = [*((link, "saddr") for link in links), ("ct status dnat", "daddr")]
        yield f"chain bounded{v} {{"
        for match, field in sides:
            yield from (
                "    meta priority set none",
                f"    {match} meta priority set {ip} {field} map @connections{v}",
                *(_LOCAL if v == 6 and field == "saddr" else ()),
                f"    meta priority @bounds goto full{v}_{field}",
                f"    meta priority . {part} @bounds_of_parts goto full{v}_{field}",
            )
        yield from ("    meta priority set none", "}")
        for field in _SIDES:
            noted = rejecting.noted("connections", v, log_group, side=field)
            yield from (f"chain full{v}_{field} {{", *(f"    {rule}" for rule in noted))
            yield from (f"    {rule}" for rule in rejecting.answered("connections", v, side=field))
            yield "}"


def own(sandbox: Sandbox, drivers: Mapping[str, Driver]) -> Iterable[Element]:
    """The elements that go with `sandbox`. The bound is part of a key's text."""
    most = bound(sandbox.limits, [drivers[one.network].network for one in sandbox.interfaces])
    return () if most is None else _bounded(sandbox, drivers, most)


def _bounded(sandbox: Sandbox, drivers: Mapping[str, Driver], most: int) -> Iterator[Element]:
    number = classid(sandbox.key)
    for interface in sandbox.interfaces:
        if (key := local_key(interface, drivers[interface.network])) is not None:
            yield Element("inet", "connections_local", key, (number,))
    for address in sandbox.leased:
        yield Element("inet", f"connections{address.version}", (str(address),), (number,))
    if most <= WHOLE:
        yield Element("inet", "bounds", (f"{number} ct count over {most}",))
        return
    for part in range(PARTS):
        share = (most + part) // PARTS  # together: the bound
        yield Element("inet", "bounds_of_parts", (number, f"{part} ct count over {share}"))
