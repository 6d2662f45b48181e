"""What is noted of each packet that a limit of a sandbox rejects: a count, and now and then a log.

Each direction has sets `rejected_egress4`, …, whose elements are addresses of sandboxes. The kernel
makes an element with the first packet that it rejects, so that a sandbox of which nothing is
rejected costs nothing. The element counts all such packets, and lets some of them be logged
(:mod:`handlers.kernel.nflog`): so many a second of each sandbox, whatever the others send.

Source: nft(8), "SET STATEMENT", "LIMIT STATEMENT" and "LOG STATEMENT".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

from handlers.firewall.matches import ip_family
from handlers.kernel import nflog
from handlers.kernel.nflog import RANGE
from handlers.kernel.nft import Element, Nft

type Direction = Literal["egress", "ingress", "connections"]

DIRECTIONS: Final[tuple[Direction, ...]] = ("egress", "ingress", "connections")
"""What rejects: a list of destinations, a list of sources, the bound of connections."""

MOST: Final = 65535
"""The most elements of a set: as many sandboxes as a network can have."""

ANSWERED: Final = {direction: f"answered_{direction}" for direction in DIRECTIONS}
"""The sets of those of whom IPv4 packets were rejected lately; the kernel fills them."""

_MANY: Final = "limit rate over 1/second burst 5 packets"
"""More than the kernel answers by ICMP."""

_LOGGED: Final = "limit rate 2/second burst 20 packets"

COUNTED: Final = {
    f"{direction}{v}": f"rejected_{direction}{v}" for direction in DIRECTIONS for v in (4, 6)
}
"""By the map that has what a sandbox is held to, the set that counts what is rejected of it."""


def sets(direction: Direction, versions: Sequence[int]) -> Iterator[str]:
    """The sets of a direction, for these IP versions."""
    if 4 in versions:
        yield (
            f"set {ANSWERED[direction]} {{ type ipv4_addr; size {MOST}; flags dynamic;"
            " timeout 1m; }"
        )
    for v in versions:
        yield (
            f"set {COUNTED[f'{direction}{v}']} {{ type ipv{v}_addr; flags dynamic; size {MOST};"
            f" counter; {_LOGGED}; }}"
        )


def answered(
    direction: Direction, v: int, *, side: Literal["saddr", "daddr"] = "saddr"
) -> Iterator[str]:
    """The rules that reject packets of IP version `v`: the program is to hear of it at once.

    By ICMP it does not always. The kernel sends few of these to one host (`icmp_ratelimit` in
    icmp(7)). One of IPv6 is dropped if connect(2) still has the lock of its socket (`tcp_v6_err` in
    `net/ipv6/tcp_ipv6.c`), as it does in so short a time. Then a reset is the answer.

    `side` is the field with the sandbox's address: nobody can invent many of these.
    """
    many = f"update @{ANSWERED[direction]} {{ ip {side} {_MANY} }} " if v == 4 else ""
    yield f"meta l4proto tcp {many}reject with tcp reset"
    yield REJECT


REJECT: Final = "reject with icmpx admin-prohibited"


def noted(
    direction: Direction,
    v: int,
    log_group: int,
    *,
    side: Literal["saddr", "daddr"] = "saddr",
    of_host: bool = False,
) -> Iterator[str]:
    """The rules in front of those that reject, for packets of IP version `v`.

    `side` is the field with the sandbox's address; `log_group` is 0 if nothing is logged. `of_host`
    tells that the host itself has sent them. Link-local addresses go with no sandbox, so what they
    send is not counted.

    A prefix of what is logged has the direction and the side, then `host`, and `mapped` if a port
    map has changed the port.
    """
    ip = ip_family(v)
    named = f"{direction} {side}{' host' if of_host else ''}"
    ways = _WAYS if direction == "ingress" else {"": ""}
    for match, way in ways.items():
        rule = f"{match}update @{COUNTED[f'{direction}{v}']} {{ {ip} {side} }}"
        if log_group:
            rule += f' log prefix "{named}{way}" group {log_group} snaplen {RANGE}'
        yield rule if v == 4 else f"ip6 {side} != fe80::/10 {rule}"


_WAYS: Final = {"ct status and dnat == 0 ": "", "ct status dnat ": " mapped"}


def group(configured: int) -> int:
    """The log group that the rules name: 0, none, if the kernel cannot log to one."""
    return configured if configured and nflog.is_there() else 0


def counts(nft: Nft, directions: Iterable[str] = DIRECTIONS) -> dict[str, dict[str, int]]:
    """By direction and address of a sandbox, how many packets were rejected of it.

    Raises:
        OSError: this process may not see it.
    """
    return {
        direction: {
            entry["elem"]["val"]: entry["elem"]["counter"]["packets"]
            for v in (4, 6)
            for entry in nft.elements("inet", "set", COUNTED[f"{direction}{v}"])
        }
        for direction in directions
    }


def seen() -> dict[str, dict[str, int]]:
    """:func:`counts`, for who has no :class:`Nft` of its own."""
    return counts(Nft())


def counted(elements: Iterable[Element]) -> Iterator[Element]:
    """The counts that go with `elements` of a sandbox when these go.

    The keys of such elements begin with an address of the sandbox.
    """
    for element in elements:
        if element.name in COUNTED:
            yield Element(element.family, COUNTED[element.name], element.key[:1])


def carried(nft: Nft, elements: Iterable[Element]) -> list[Element]:
    """The counts that go with `elements`, as they are now, for a table that is made anew."""
    counting = {(e.name, e.key[0]): e.family for e in elements if e.name in COUNTED}
    if not counting:
        return []
    there = counts(nft)
    return [
        Element(family, COUNTED[name], (f"{key} counter packets {count} bytes 0 {_LOGGED}",))
        for (name, key), family in counting.items()
        if (count := there[name[:-1]].get(key))
    ]
