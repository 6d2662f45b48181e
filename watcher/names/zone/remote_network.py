"""A clustered network, and who is in it on other hosts, as far as it counts.

It counts while the host is heard of, and for addresses in blocks of that host alone: whoever writes
to the registry as one host takes no address of another. Whether it does is worked out when somebody
asks, so that a host which falls silent costs nothing but the answers that were kept.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.names.zone.segments import joined, packed_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from watcher.names.zone.views import Use


class RemoteHost(Struct, eq=False, gc=False):
    """A host.

    Attributes:
        name: its name.
        alive: whether what it tells counts: it is another host, and is heard of.
        blocks: its prefixes, by the network.
    """

    name: str
    alive: bool = False
    blocks: Mapping[str, frozenset[str]] = {}


class RemotePresence(Struct, frozen=True, eq=False, gc=False):
    """What a sandbox of another host has in one network.

    Attributes:
        network: the network.
        host: the host's name.
        addresses: its addresses, packed.
        names: all names of its containers.
        firsts: what people call each of these.
    """

    network: RemoteNetwork
    host: str
    addresses: tuple[bytes, ...]
    names: tuple[bytes, ...]
    firsts: tuple[bytes, ...]

    def counting(self, length: int) -> list[bytes]:
        """Its addresses of so many bytes that count; of any, if that is 0."""
        return [
            address
            for address in self.addresses
            if (not length or len(address) == length) and self.network.counts(self.host, address)
        ]

    @property
    def exists(self) -> bool:
        """Whether any of it counts."""
        return any(self.network.counts(self.host, address) for address in self.addresses)

    def records(self, version: int, before: bytes) -> bytes:
        """As :meth:`watcher.names.zone.segments.Called.records`."""
        return joined(before, self.counting(4 if version == 4 else 16))


class _Group:
    """Several that are called the same in one network; their records are put together once.

    Attributes:
        presences: theirs.
    """

    __slots__ = ("_exists", "_network", "_records", "_state", "presences")

    def __init__(self, network: RemoteNetwork, *presences: RemotePresence) -> None:
        self._network = network
        self.presences = dict.fromkeys(presences)
        self._records: dict[int, bytes] = {}
        self._exists: bool | None = None
        self._state = 0

    def forget(self) -> None:
        """Forget what was worked out."""
        self._records.clear()
        self._exists = None

    @property
    def exists(self) -> bool:
        """Whether any of it counts."""
        self._renew()
        if self._exists is None:
            self._exists = any(one.exists for one in self.presences)
        return self._exists

    def records(self, version: int, before: bytes) -> bytes:
        """As :meth:`watcher.names.zone.segments.Called.records`."""
        self._renew()
        records = self._records.get(version)
        if records is None:
            length = 4 if version == 4 else 16
            found = [address for one in self.presences for address in one.counting(length)]
            records = self._records[version] = joined(before, found)
        return records

    def _renew(self) -> None:
        if self._state != self._network.state:
            self._state = self._network.state
            self.forget()


class RemoteNetwork:
    """A clustered network, and who is in it on other hosts.

    Args:
        name: its name.
        hosts: all hosts, by name.

    Attributes:
        state: differs after each change of what hosts have which blocks, and are heard of.
    """

    __slots__ = ("_at", "_called", "_hosts", "_owners", "name", "state")

    def __init__(self, name: str, hosts: Mapping[str, RemoteHost]) -> None:
        self.name = name
        self.state = 1
        self._hosts = hosts
        self._called: dict[bytes, RemotePresence | _Group] = {}
        self._at: dict[bytes, RemotePresence | dict[RemotePresence, None]] = {}
        self._owners: dict[tuple[int, int], dict[int, str]] = {}
        """By the bytes of an address and the bits behind a prefix: the host, by the prefix. The
        longest prefixes come first."""

    def find(self, name: bytes) -> RemotePresence | _Group | None:
        """Who is called so, if that counts."""
        found = self._called.get(name)
        return found if found is not None and found.exists else None

    def at(self, address: str) -> RemotePresence | None:
        """Who has the address, if that counts."""
        packed = packed_of(address)
        found = (one for one in self._all_at(packed) if self.counts(one.host, packed))
        return next(found, None)

    def _all_at(self, packed: bytes) -> Iterable[RemotePresence]:
        """All that say they have the address."""
        found = self._at.get(packed, _NOBODY)
        return found if isinstance(found, dict) else (found,)

    def counts(self, host: str, address: bytes) -> bool:
        """Whether `host` is heard of, and the address is in the smallest block that is there."""
        known = self._hosts.get(host)
        return known is not None and known.alive and self._owner(address) == host

    def _owner(self, address: bytes) -> str | None:
        """Who has the block with the address: the smallest one, which a claim is."""
        length, number = len(address), int.from_bytes(address)
        for (bytes_, bits), owners in self._owners.items():
            if bytes_ == length and (owner := owners.get(number >> bits)) is not None:
                return owner
        return None

    def own(self, prefix: str, host: str, *, own: bool) -> None:
        """A host has, or no longer has, the block or claim `prefix`."""
        network = ip_network(prefix)
        bits = network.max_prefixlen - network.prefixlen
        kind = (network.max_prefixlen // 8, bits)
        number = int(network.network_address) >> bits
        if own:
            if kind not in self._owners:
                self._owners[kind] = {}
                self._owners = dict(sorted(self._owners.items()))
            self._owners[kind][number] = host
        elif self._owners.get(kind, {}).get(number) == host:
            del self._owners[kind][number]
            if not self._owners[kind]:
                del self._owners[kind]

    def affected(self, prefix: str) -> list[Use] | None:
        """What follows from who has `prefix`; `None` if it is more than one address."""
        network = ip_network(prefix)
        if network.prefixlen != network.max_prefixlen:
            return None
        packed = network.network_address.packed
        presences = self._all_at(packed)
        for one in presences:
            for name in one.names:
                self._forget(name)
        return [text_of(packed), *{name for one in presences for name in one.names}]

    def clear(self) -> None:
        """Nobody is in it any more."""
        self._called.clear()
        self._at.clear()
        self._owners.clear()
        self.state += 1

    def enter(self, presence: RemotePresence) -> None:
        """A sandbox is there."""
        for name in presence.names:
            before = self._called.get(name)
            if before is None:
                self._called[name] = presence
            elif isinstance(before, _Group):
                before.presences[presence] = None
                before.forget()
            else:
                self._called[name] = _Group(self, before, presence)
        for address in presence.addresses:
            there = self._at.setdefault(address, presence)
            if isinstance(there, dict):
                there[presence] = None
            elif there is not presence:
                self._at[address] = {there: None, presence: None}

    def leave(self, presence: RemotePresence) -> None:
        """A sandbox is there no more."""
        for name in presence.names:
            there = self._called[name]
            if there is presence:
                del self._called[name]
                continue
            assert isinstance(there, _Group)
            del there.presences[presence]
            there.forget()
            if len(there.presences) == 1:
                (self._called[name],) = there.presences
        for address in presence.addresses:
            those = self._at[address]
            if not isinstance(those, dict):
                del self._at[address]
                continue
            del those[presence]
            if len(those) == 1:
                (self._at[address],) = those

    def _forget(self, name: bytes) -> None:
        found = self._called.get(name)
        if isinstance(found, _Group):
            found.forget()


_NOBODY: Final[dict[RemotePresence, None]] = {}
