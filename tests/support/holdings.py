"""What each host may lease, and what must hold of all of them at any moment.

No address is leased twice, and none can be: what two hosts may lease next is apart, too. So what is
wrong is seen before chance has two containers get one address.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations
from typing import Final

from msgspec import Struct

from tests.support.agreeing import PlayedHost
from watcher.model.cluster import block_with, host_address, is_claim
from watcher.store.ipam import refusal

BLOCK: Final = 4
"""How many addresses a block has."""


class Lease(Struct, frozen=True):
    """An address that is leased.

    Attributes:
        id: of the container.
        place: the block or claim that it is leased from; empty: from none.
        state: of that.
    """

    id: str
    place: str
    state: str


class Holding(Struct, frozen=True):
    """What a host has.

    Attributes:
        incarnation: of the host.
        held: its blocks and claims from which it leases.
        leases: what it has leased.
        free: what it may lease next.
    """

    incarnation: str = ""
    held: frozenset[str] = frozenset()
    leases: Mapping[IPv4Address, Lease] = {}
    free: frozenset[IPv4Address] = frozenset()


def holding(host: PlayedHost, subnet: IPv4Network) -> Holding:
    """What `host`, whose service runs, has of the network `net`."""
    store = host.store
    assert store is not None
    with store._database.reading() as db:
        blocks = [
            IPv4Network(text)
            for (text,) in db.execute("SELECT prefix FROM block WHERE state = 'held'")
        ]
        others = {text for (text,) in db.execute("SELECT prefix FROM peer_block")}
        leases = {
            IPv4Address(text): Lease(id_, place or "", state or "")
            for text, id_, place, state in db.execute(
                "SELECT address, id, block.prefix, state FROM address"
                " LEFT JOIN block ON number = address.block WHERE sandbox IS NOT NULL"
            )
        }
    free = {block[0] for block in blocks if is_claim(block)}
    for block in blocks:
        own = None if is_claim(block) else host_address(subnet, block)
        free |= {
            one for one in block
            if one != own and refusal(subnet, one) is None and f"{one}/32" not in others
        }  # fmt: skip
    free -= leases.keys()
    return Holding(
        store.cluster.identity().incarnation, frozenset(map(str, blocks)), leases, frozenset(free)
    )


class Holdings:
    """Those of all hosts. A host whose service does not run has what it had.

    Attributes:
        suspects: hosts that may not have heard yet that what they have is not theirs any more.
    """

    def __init__(self, subnet: IPv4Network) -> None:
        self._subnet = subnet
        self._all: dict[str, Holding] = {}
        self.suspects: set[str] = set()
        self._excused: set[str] = set()
        """Containers with addresses that may be those of others by now."""

    def of(self, name: str) -> Holding:
        """That of one host."""
        return self._all.get(name, Holding())

    def are_copies(self, one: str, other: str) -> bool:
        """Whether one is the copy of the other's disk, so that both have what either has."""
        return self.of(one).incarnation == self.of(other).incarnation != ""

    def forget(self, name: str) -> None:
        """A host is gone for good."""
        self._all.pop(name, None)

    def put(self, name: str, host: PlayedHost) -> None:
        """Note what a host has now, and see what must hold.

        Raises:
            AssertionError: it does not.
        """
        now = self._all[name] = holding(host, self._subnet)
        for address, lease in now.leases.items():
            assert lease.place, f"{name} leases {address} from no block"
            assert lease.state in ("held", "lost"), f"{name} leases {address} from {lease}"
            assert address in IPv4Network(lease.place), f"{name} leases {address} from {lease}"
            assert refusal(self._subnet, address) is None, f"{name} leases {address}"
            block = block_with(self._subnet, BLOCK, address)
            assert address != host_address(self._subnet, block), f"{name} leases {address}"
        self.check()

    def check(self) -> None:
        """See that nothing is leased twice, nor can be.

        Raises:
            AssertionError: it can.
        """
        for one, other in combinations(self._all, 2):
            if self._all[one].held and self._all[other].held and self.are_copies(one, other):
                self.suspects |= {one, other}
        who: dict[IPv4Address, str] = {}
        for name, has in self._all.items():
            if name in self.suspects:
                self._excused |= {lease.id for lease in has.leases.values()}
            for address, lease in has.leases.items():
                if lease.id not in self._excused:
                    self._is_alone(who, address, f"{name} leases it to {lease.id}")
        for name, has in self._all.items():
            if name not in self.suspects:
                for address in has.free:
                    self._is_alone(who, address, f"{name} may lease it")

    @staticmethod
    def _is_alone(who: dict[IPv4Address, str], address: IPv4Address, what: str) -> None:
        assert address not in who, f"of {address}: {who[address]}, and {what}"
        who[address] = what
