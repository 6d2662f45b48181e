"""What an address is open for, if several names lead to it."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from watcher.model.policy import opening
from watcher.model.policy.access import AccessList

if TYPE_CHECKING:
    from watcher.model.policy.opening import Profile

ENTRIES = (
    "a.example.org", "a.example.org:80", "a.example.org:443-460/udp", "!any/icmp",
    "!a.example.org:25/tcp", "!any/udp", "!a.example.org:443", "!any:1-9/sctp",
)  # fmt: skip


def of(entries: list[str]) -> Profile:
    held = AccessList("egress", (tuple(entries),))
    return opening.profile(held.opened("a.example.org", IPv4Address("8.8.8.8"), rebinds=False))


def lets(profile: Profile, protocol: int, port: int) -> int:
    """How many parts of `profile` let that pass."""
    return sum(
        first <= protocol <= last and any(low <= port <= high for low, high in ports)
        for (first, last), ports in profile
    )


LISTS = st.lists(st.sampled_from(ENTRIES), unique=True)


@given(LISTS, LISTS)
def test_both_is_what_either_lets_pass_and_no_two_parts_overlap(
    some: list[str], others: list[str]
) -> None:
    one, other = of(some), of(others)
    both = opening.both(one, other)
    for protocol in (0, 1, 2, 6, 7, 17, 18, 132, 133, 255):
        for port in (0, 5, 25, 53, 80, 443, 450, 65535):
            either = lets(one, protocol, port) or lets(other, protocol, port)
            assert lets(both, protocol, port) == either
    assert opening.parsed(opening.document(both)) == both
