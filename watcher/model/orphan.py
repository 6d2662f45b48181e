"""An orphan: the links of a namespace whose sandbox the lease store does not know."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from watcher.model.address import Address
from watcher.model.alias import ALIAS, alias_of
from watcher.model.network import Network


class Orphan(Struct, frozen=True):
    """The links and addresses in a namespace whose sandbox the lease store does not know.

    Attributes:
        id: the sandbox's id in the alias of its host ends.
        pid: the pid in the names of its links.
        links: the names of its host ends, in order.
        addresses: for each of them, the addresses that the guard allows it; without a guard, those
            of the sandbox end.
    """

    id: str
    pid: int
    links: tuple[str, ...]
    addresses: tuple[tuple[Address, ...], ...]

    def is_of(self, sandbox_id: str) -> bool:
        """Whether it belonged to the sandbox of that id."""
        return alias_of(sandbox_id) == ALIAS + self.id

    def by_network(self, networks: Sequence[Network]) -> dict[str, tuple[Address, ...]]:
        """Its addresses by network: interface 0 is in the first of `networks`, and so on."""
        return {n.name: a for n, a in zip(networks, self.addresses, strict=False)}
