"""What has to be on this host so that packets get to the blocks of others: worked out, not made.

A *part* is what belongs to one other host in one network. A change of rows changes some parts, and
:meth:`Plan.change` tells the difference, whatever the number of the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from handlers.cluster.ways import NOWHERE, Way
from handlers.kernel.rtnl.block_routes import BlockRoute, RouteKey, unreachable
from handlers.kernel.rtnl.entries import Entry, EntryKey
from handlers.networks.clustered import ClusteredDriver
from watcher.model.address import Address, Subnet
from watcher.model.cluster import Block, Peer, PeerBlock, is_claim, vtep_mac
from watcher.model.naming import link_local

OWN_STATES: Final = ("held", "leaving")
"""The states of a block that no other host can have meanwhile."""


class Local(Struct, frozen=True):
    """What this host has of a network.

    Attributes:
        driver: the network's driver.
        number: its number in the cluster; 0 if it has none yet.
        device: the index of its VXLAN device; 0 if there is none.
        version: the IP version that this device sends by; 0 if there is none.
        sources: what the host's own packets come from, by IP version.
    """

    driver: ClusteredDriver
    number: int = 0
    device: int = 0
    version: int = 0
    sources: Mapping[int, Address] = {}


type _PartKey = tuple[str, str]
"""A network and another host."""


class _Part(Struct, frozen=True):
    routes: dict[RouteKey, BlockRoute]
    entries: dict[EntryKey, Entry]


_NO_PART: Final = _Part({}, {})


class Delta(Struct, frozen=True):
    """What to change: new routes and entries take the place of those with the same keys."""

    entries: list[Entry]
    routes: list[BlockRoute]
    no_routes: list[BlockRoute]
    no_entries: list[Entry]


NO_CHANGE: Final = Delta([], [], [], [])


class Plan:
    """The routes and entries that are wanted.

    Args:
        locals_: what this host has of each clustered network, by name.
        own: this host's blocks and claims.
        peers: the other hosts.
        blocks: what these have.
        ways: how their addresses are reached.

    Attributes:
        ways: the ways, by address.
        routes: each wanted route by its key.
        entries: each wanted entry by its key.
    """

    def __init__(
        self,
        locals_: Mapping[str, Local],
        own: Iterable[Block],
        peers: Mapping[str, Peer],
        blocks: Iterable[PeerBlock],
        ways: Mapping[Address, Way],
    ) -> None:
        self._locals = locals_
        self.ways = dict(ways)
        self._peers = dict(peers)
        self._own: set[Subnet] = set()
        self._blocks: dict[Subnet, PeerBlock] = {}
        self._of: dict[_PartKey, set[Subnet]] = {}
        self._parts: dict[_PartKey, _Part] = {}
        self._uses: Counter[EntryKey] = Counter()
        """How many parts want each entry: a host may have got a new name."""
        self.routes: dict[RouteKey, BlockRoute] = {}
        self.entries: dict[EntryKey, Entry] = {}
        for local in locals_.values():
            for subnet in local.driver.network.subnets:
                route = unreachable(subnet)
                self.routes[route.key] = route
        self._note(blocks)
        self.take_own(own)
        self._refresh(list(self._of))

    @property
    def locals(self) -> Mapping[str, Local]:
        """What this host has of each clustered network, by name."""
        return self._locals

    @property
    def peers(self) -> Mapping[str, Peer]:
        """The other hosts, by name."""
        return self._peers

    def reached_otherwise(self, ways: Mapping[Address, Way]) -> list[Peer]:
        """The other hosts that are not reached by `ways` as they were."""
        return [
            peer for peer in self._peers.values()
            if ways[peer.address] != self.ways.get(peer.address, NOWHERE)
        ]  # fmt: skip

    def take_own(self, own: Iterable[Block]) -> Delta:
        """Take what this host has, in place of what it had."""
        before = self._own
        self._own = {
            block.prefix
            for block in own
            if block.state in OWN_STATES and block.network in self._locals
        }
        changed = before ^ self._own
        touched = {self._key(self._blocks[prefix]) for prefix in changed & self._blocks.keys()}
        delta = self._refresh(touched)
        no_routes = delta.no_routes
        for prefix in filter(is_claim, changed):  # for a block, the route to the subnet does
            route = unreachable(prefix)
            if prefix in self._own:
                self.routes[route.key] = route
                delta.routes.append(route)
            elif self.routes.get(route.key) == route:
                del self.routes[route.key]
                no_routes.append(route)
        no_routes[:] = [route for route in no_routes if route.key not in self.routes]
        return delta

    def change(
        self,
        peers: Iterable[Peer],
        blocks: Iterable[PeerBlock],
        gone: Iterable[str],
        gone_blocks: Iterable[tuple[str, Subnet]],
        ways: Mapping[Address, Way],
    ) -> Delta:
        """Take rows that are new, in place of those with the same keys, and forget others."""
        hosts = set(gone)
        for host in hosts:
            self._peers.pop(host, None)
        for peer in peers:
            hosts.add(peer.host)
            self._peers[peer.host] = peer
        self.ways.update(ways)
        touched = {(network, host) for network in self._locals for host in hosts} & self._of.keys()
        touched |= self._forget(gone_blocks)
        touched |= self._note(blocks)
        return self._refresh(touched)

    def _note(self, blocks: Iterable[PeerBlock]) -> set[_PartKey]:
        """Note what others have; returns the parts that this changes."""
        touched = set()
        for block in blocks:
            local = self._locals.get(block.network)
            if local is None or not local.driver.has_room_for(block.prefix):
                continue
            touched |= self._forget([(block.network, block.prefix)])
            key = self._key(block)
            self._blocks[block.prefix] = block
            self._of.setdefault(key, set()).add(block.prefix)
            touched.add(key)
        return touched

    def _forget(self, blocks: Iterable[tuple[str, Subnet]]) -> set[_PartKey]:
        touched = set()
        for network, prefix in blocks:
            block = self._blocks.get(prefix)
            if block is not None and block.network == network:
                del self._blocks[prefix]
                self._of[self._key(block)].discard(prefix)
                touched.add(self._key(block))
        return touched

    @staticmethod
    def _key(block: PeerBlock) -> _PartKey:
        return block.network, block.host

    def _refresh(self, touched: Iterable[_PartKey]) -> Delta:
        """Work the `touched` parts out anew; returns what that changes of the whole."""
        routes_before: dict[RouteKey, BlockRoute] = {}
        routes_after: dict[RouteKey, BlockRoute] = {}
        entries_before: dict[EntryKey, Entry] = {}
        entries_after: dict[EntryKey, Entry] = {}
        for key in touched:
            old, new = self._parts.pop(key, _NO_PART), self._part(key)
            routes_before.update(old.routes)
            routes_after.update(new.routes)
            entries_before.update(old.entries)
            entries_after.update(new.entries)
            self._uses.subtract(old.entries.keys())
            self._uses.update(new.entries.keys())
            if self._of.get(key):
                self._parts[key] = new
            else:
                self._of.pop(key, None)
        no_routes = [r for key, r in routes_before.items() if key not in routes_after]
        no_entries = [e for key, e in entries_before.items() if self._uses[key] <= 0]
        for route in no_routes:
            del self.routes[route.key]
        for entry in no_entries:
            del self.entries[entry.key], self._uses[entry.key]
        self.routes.update(routes_after)
        self.entries.update(entries_after)
        return Delta(
            entries=[e for key, e in entries_after.items() if entries_before.get(key) != e],
            routes=[r for key, r in routes_after.items() if routes_before.get(key) != r],
            no_routes=no_routes,
            no_entries=no_entries,
        )

    def _part(self, key: _PartKey) -> _Part:
        network, host = key
        local, peer = self._locals[network], self._peers.get(host)
        part = _Part({}, {})
        if peer is None:
            return part
        address, way = peer.address, self.ways.get(peer.address, NOWHERE)
        mac = bytes.fromhex(vtep_mac(address, local.number).replace(":", ""))
        tunnelled = bool(local.device) and local.version == address.version
        plain = way.link, address.packed
        for version in (4, 6):
            prefixes = [p for p in self._of.get(key, ()) if p.version == version]
            prefixes = [prefix for prefix in prefixes if prefix not in self._own]
            if not prefixes or not way.link:
                continue
            path = local.driver.path(version, address, common=way.common)
            vxlan = local.device, _hop(version, address, mac)
            if path == "vxlan" and tunnelled:
                for entry in (Entry(*vxlan, mac), Entry(local.device, mac, address.packed)):
                    part.entries[entry.key] = entry
            elif path != "plain":
                continue
            index, hop = plain if path == "plain" else vxlan
            its = local.sources.get(version)
            source = b"" if its is None else its.packed
            for prefix in prefixes:
                to = prefix.network_address.packed
                route = BlockRoute(to, prefix.prefixlen, index, hop, source)
                part.routes[route.key] = route
        return part


def _hop(version: int, address: Address, mac: bytes) -> bytes:
    """The next hop in VXLAN of a route of IP `version` to the host with that `address` and MAC.

    It stands in the table of neighbours only, so nobody has to answer for it.
    """
    return address.packed if version == address.version == 4 else link_local(mac.hex(":")).packed
