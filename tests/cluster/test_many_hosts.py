"""A change of one of a thousand other hosts costs what it costs with one, in messages."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_network

from tests.cluster.conftest import PlayedMaker
from tests.support.cluster.messages import Messages
from tests.support.clustering import peer, theirs
from tests.support.waiting import eventually

MANY = 1000
FEW = 10
"""Routes of the network itself, and to where its device is."""


def changed(messages: Messages, expected: Counter[str]) -> Counter[str]:
    """Waits until at least what is `expected` was told; all that was told by then."""
    found: Counter[str] = Counter()

    def told() -> bool:
        found.update(messages.so_far())
        return found >= expected

    eventually(told, what=f"{expected}")
    return found


def test_a_change_of_one_host_touches_nothing_else(played: PlayedMaker) -> None:
    one = played(hosts="")
    a = one.add("a")
    peers = {f"h{n}": f"203.0.{n // 200}.{n % 200 + 20}" for n in range(MANY)}
    blocks = {f"10.9.{100 + n // 16}.{n % 16 * 16}/28": f"h{n}" for n in range(MANY)}
    rows = one.rows("a", peers=peers, blocks=blocks)
    registry = one.registry("a")
    with Messages(a.here) as messages:
        registry.whole_by_many(rows)
        eventually(lambda: len(a.routes()) == MANY + 2)
        told = messages.so_far()
        assert told["NEWNEIGH"] == 2 * MANY
        assert told["NEWROUTE"] <= MANY + FEW
    block = next(iter(blocks))
    with Messages(a.here) as messages:
        registry.tell(theirs(block, "h7"))
        eventually(lambda: a.leads(block.removesuffix("/28"))["gateway"] == peers["h7"])
        expected = Counter(NEWROUTE=1, DELNEIGH=2)
        assert changed(messages, expected) == expected
    with Messages(a.here) as messages:
        registry.tell(peer("h9", "203.0.113.250"))
        moved = "10.9.100.144"
        eventually(lambda: a.leads(moved)["gateway"] == "203.0.113.250")
        expected = Counter(NEWNEIGH=2, NEWROUTE=1, DELNEIGH=2)
        assert changed(messages, expected) == expected
    with Messages(a.here) as messages:
        registry.tell(peer("h10", peers["h10"], alive=False))
        registry.take_back(theirs("10.9.101.0/28", "h16"))
        eventually(lambda: ip_network("10.9.101.0/28") not in a.routes())
        expected = Counter(DELROUTE=1, DELNEIGH=2)
        assert changed(messages, expected) == expected
