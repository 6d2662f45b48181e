"""The rules for what sandboxes may open connections to.

Each sandbox that is held to a list has the number of that list in `egress4` and `egress6`, and each
list has its boxes in `to4` and `to6`, once, however many sandboxes are held to it. What is judged
is what the program dialled, before any port map. What passes gets a bit of the packet mark: without
it nothing from these networks is routed (:mod:`handlers.closing`).

The number travels in `meta priority`, which the kernel overwrites when it forwards
(`ip_forward` in `net/ipv4/ip_forward.c`).

Source: nft(8).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from handlers.firewall import rejecting
from handlers.firewall.matches import HOST_ENDS, ip_of, side
from handlers.handler import Numbers
from handlers.kernel.nft import Element
from handlers.networks.driver import Driver
from watcher.model.names import DNS_PORT
from watcher.model.network import gateway
from watcher.model.policy.access import AccessList, access, text_of
from watcher.model.policy.boxes import Box
from watcher.model.sandbox import Interface, Sandbox

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
    yield "set judged { type ifname; }"
    for v in versions:
        yield f"map egress{v} {{ type ipv{v}_addr : classid; }}"
        yield (
            f"set to{v} {{ type classid . ipv{v}_addr . inet_proto . inet_service;"
            " flags interval; }"
        )
    yield from rejecting.sets("egress", versions)


def chains(
    drivers: Sequence[Driver], versions: Sequence[int], mark: int, log_group: int
) -> Iterator[str]:
    """The chains; `log_group` gets some of what is rejected, unless it is 0."""
    passed = f"meta mark set meta mark | {mark:#x} accept"
    yield from (
        "chain judge {",
        "    type filter hook prerouting priority mangle - 10; policy accept;",
        "    iifname @judged jump from_judged",
    )
    if not all(driver.master for driver in drivers):
        yield f'    iifname "{HOST_ENDS}" jump from_judged'
    yield "}"
    yield from ("chain from_judged {", f"    ct state established,related {passed}")
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
        ip = "ip" if v == 4 else "ip6"
        yield from (
            f"chain from_judged{v} {{",
            "    meta priority set none",
            f"    meta priority set {ip} saddr map @egress{v}",
            f"    meta priority none {passed}",
            f"    meta priority . {ip} daddr . meta l4proto . th dport @to{v} {passed}",
            *(f"    {rule}" for rule in rejecting.noted("egress", v, log_group)),
            "    reject with icmpx admin-prohibited",
            "}",
        )


def own(sandbox: Sandbox, drivers: Mapping[str, Driver], numbers: Numbers) -> Iterator[Element]:
    """The elements that go with `sandbox`."""
    for interface, held in _held(sandbox, drivers):
        number = classid(numbers.number_of(held.document))
        for address in interface.addresses:
            yield Element("inet", f"egress{address.version}", (str(address.ip),), (number,))


def shared(sandbox: Sandbox, drivers: Mapping[str, Driver], numbers: Numbers) -> Iterator[Element]:
    """The elements that `sandbox` has in common with others."""
    for interface, held in _held(sandbox, drivers):
        driver = drivers[interface.network]
        if driver.master:
            yield Element("inet", "judged", (f'"{driver.master}"',))
        number = classid(numbers.number_of(held.document))
        for version in sorted({address.version for address in interface.addresses}):
            yield from (
                Element("inet", f"to{version}", (number, *fields(box)))
                for box in held.boxes(version)
            )


def _held(
    sandbox: Sandbox, drivers: Mapping[str, Driver]
) -> Iterator[tuple[Interface, AccessList]]:
    """The interfaces of `sandbox` that are held to a list."""
    for interface in sandbox.interfaces:
        held = access_of(sandbox, interface, drivers)
        if held is not None:
            yield interface, held


def access_of(
    sandbox: Sandbox, interface: Interface, drivers: Mapping[str, Driver]
) -> AccessList | None:
    """What `interface` of `sandbox` may open connections to; `None` if anything."""
    forced = drivers.get(sandbox.limits.policy)
    network = drivers[interface.network].network
    return access("egress", sandbox.limits, network, None if forced is None else forced.network)


def classid(number: int) -> str:
    """A number as nft(8) writes a value of type classid."""
    return f"{number >> 16:x}:{number & 0xFFFF:x}"


def fields(box: Box) -> tuple[str, str, str]:
    """Address, protocol and port of an element, as nft lists them."""
    return (
        text_of(box.version, box.addresses),
        _PROTOCOLS.get(box.protocols, f"{box.protocols[0]}-{box.protocols[1]}"),
        str(box.ports[0]) if box.ports[0] == box.ports[1] else f"{box.ports[0]}-{box.ports[1]}",
    )


_PROTOCOLS: Final = {
    (1, 1): "icmp", (6, 6): "tcp", (17, 17): "udp", (58, 58): "ipv6-icmp", (132, 132): "sctp",
    (0, 0): "0",
}  # fmt: skip
"""As libnftables lists them; those of ranges are numbers."""
