"""The rules for questions to the name service, which listens on a high port of each gateway.

A sandbox asks port 53 of its gateway. Whatever the host itself runs on port 53 is left alone: the
questions of each named network are told by the links that they come from and by the address that
they go to. These rules come before the port maps, so no container that publishes port 53 gets the
questions of others.

An answer of the host's own server to a question from before these rules has no flow any more once
that has ended. It would begin one, in which all that the sandbox asks from the same port would go
on to that server. So it is dropped.

Sources: nft(8); `fib_validate_source` in `net/ipv4/fib_frontend.c`, to which IPv6 has no like.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from handlers.firewall.matches import HOST_ENDS, ip_family, ip_of, side
from handlers.networks.driver import Driver
from watcher.model.address import Subnet
from watcher.model.names import DNS_PORT, PORT
from watcher.model.network import gateway

ASKERS: Final = ("askers4", "askers6")
"""The sets of those who asked in the last second, which the kernel fills by itself."""

_RATE: Final = "10000/second burst 1000 packets"
"""What one sandbox may ask; the rest is dropped.

It is more than any program needs, and less than what the name service can answer, so that one
sandbox cannot fill the queue in which the questions of all others wait.
"""

_BOTH: Final = "meta l4proto { tcp, udp }"


def sets(drivers: Sequence[Driver]) -> Iterator[str]:
    """The sets of who asked. An element is as good as new after a tenth of a second."""
    for version in sorted({s.version for d, s in _asked(drivers) if d.network.guard}):
        yield (
            f"set askers{version} {{ type ipv{version}_addr; size 65535;"
            " flags dynamic,timeout; timeout 1s; }"
        )


def jump(drivers: Sequence[Driver], to: str, port: int, field: str = "dport") -> Iterator[str]:
    """The rule that most packets fail; `th` is of any protocol, which the chain `to` looks at."""
    if any(_asked(drivers)):
        yield f"th {field} {port} jump {to}"


def chains(drivers: Sequence[Driver]) -> Iterator[str]:
    """The chains of :func:`prerouting`, :func:`arriving` and :func:`output`."""
    if any(_asked(drivers)):
        yield from _chain("questions", _redirected(drivers))
        yield from _chain("to_names", _arriving(drivers))
        yield from _chain("late_answers", _late(drivers))


def prerouting(drivers: Sequence[Driver]) -> Iterator[str]:
    """The rule for the first packet of a connection."""
    return jump(drivers, "questions", DNS_PORT)


def arriving(drivers: Sequence[Driver]) -> Iterator[str]:
    """The rule for a packet to the host itself."""
    return jump(drivers, "to_names", PORT)


def output(drivers: Sequence[Driver]) -> Iterator[str]:
    """The rule for the first packet of a connection of the host itself."""
    return jump(drivers, "late_answers", DNS_PORT, "sport")


def _chain(name: str, rules: Iterable[str]) -> Iterator[str]:
    yield f"chain {name} {{"
    yield from (f"    {rule}" for rule in rules)
    yield "}"


def _redirected(drivers: Sequence[Driver]) -> Iterator[str]:
    for driver, subnet in _asked(drivers):
        ip, own = ip_of(subnet), gateway(subnet)
        asked = f"{side(driver, 'iifname', 'saddr', subnet)} {ip} daddr {own} {_BOTH}"
        target = f"[{own}]" if subnet.version == 6 else str(own)
        yield f"{asked} dnat {ip} to {target}:{PORT}"


def _late(drivers: Sequence[Driver]) -> Iterator[str]:
    for driver, subnet in _asked(drivers):
        to, own = side(driver, "oifname", "daddr", subnet), gateway(subnet)
        yield f"{to} {ip_of(subnet)} saddr {own} {_BOTH} drop"


def _arriving(drivers: Sequence[Driver]) -> Iterator[str]:
    """Nobody but the network's own sandboxes and the host itself reaches the name service."""
    yield "meta l4proto != { tcp, udp } return"
    yield 'iifname "lo" return'
    for driver, subnet in _asked(drivers):
        ip, own = ip_of(subnet), gateway(subnet)
        to = f"{ip} daddr {own}"
        yield f"{to} {ip} saddr {own} drop"  # only the host has this address
        if driver.master:
            yield f'{to} iifname != "{driver.master}" drop'
        else:
            yield f'{to} iifname != "{HOST_ENDS}" drop'
            # The guard of this network says nothing of the links of others.
            yield f"{to} fib saddr . iif oif missing drop"
        if not driver.network.guard:  # the source proves nothing: they share one limit
            yield f"{to} limit rate over {_RATE} drop"
    for version in sorted({s.version for d, s in _asked(drivers) if d.network.guard}):
        ip = ip_family(version)
        known = ", ".join(
            str(gateway(s)) for d, s in _asked(drivers) if d.network.guard and s.version == version
        )
        yield (
            f"{ip} daddr {{ {known} }} update @askers{version}"
            f" {{ {ip} saddr limit rate over {_RATE} }} drop"
        )


def _asked(drivers: Sequence[Driver]) -> Iterator[tuple[Driver, Subnet]]:
    for driver in drivers:
        if driver.network.named:
            yield from ((driver, subnet) for subnet in driver.network.subnets)
