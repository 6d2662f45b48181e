"""What a namespace has of a sandbox that the lease store does not know (any more)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from watcher.model.address import Address
from watcher.model.alias import ALIAS, alias_of
from watcher.model.network import Network


@dataclass(frozen=True, slots=True)
class Orphan:
    """See the module's docstring.

    Attributes:
        id: the sandbox's id, as the alias of its host ends has it.
        pid: the pid in the names of its links.
        links: the names of its host ends, in order.
        addresses: of each of these, those inside.
    """

    id: str
    pid: int
    links: tuple[str, ...]
    addresses: tuple[tuple[Address, ...], ...]

    def is_of(self, sandbox_id: str) -> bool:
        """Whether it is what the sandbox of that id had."""
        return alias_of(sandbox_id) == ALIAS + self.id

    def held_to(self, guarded: Mapping[str, tuple[Address, ...]]) -> Orphan:
        """It with the addresses that the host's guard holds its links to, whatever is inside."""
        both = zip(self.links, self.addresses, strict=True)
        return replace(self, addresses=tuple(guarded.get(name, a) for name, a in both))

    def by_network(self, networks: Sequence[Network]) -> dict[str, tuple[Address, ...]]:
        """The addresses by the name of the network that the interface of that number is in."""
        return {n.name: a for n, a in zip(networks, self.addresses, strict=False)}
