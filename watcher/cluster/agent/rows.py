"""What `watcher cluster` tells the service, by a picture of the registry. It is only worked out."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from watcher.cluster.protocol import (
    AskedRow,
    NumberRow,
    OwnRow,
    PeerBlockRow,
    PeerRow,
    RefusedRow,
)
from watcher.cluster.registry.keys import Part, part_of
from watcher.cluster.registry.records import subnets_of
from watcher.model.cluster import block_prefix, claim_of, host_address, is_claim
from watcher.model.errors import quoted
from watcher.model.network import gateway

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from watcher.cluster.agent.standing import Standing
    from watcher.cluster.agent.tables import Place, Service
    from watcher.cluster.protocol import BlockRow, NetworkRow, Row
    from watcher.cluster.registry.picture import Picture
    from watcher.cluster.registry.records import NetworkRecord
    from watcher.model.address import Subnet

_UNANSWERED: Final = 4.0
"""Seconds until a claim is refused although nothing is known against it: its member of etcd may
stand still or have no leader, and the next one is asked after two."""

PATIENCE: Final = 3.0
"""Seconds until a claim that cannot be granted is refused: a container that moves may be ending on
the other host just now."""


class Map:
    """The parts of the networks, by whom they belong to.

    Args:
        picture: the registry.
        standing: how this host stands.
        service: what the service has told.

    Attributes:
        problems: why this host takes no part in a network, by its name.
        own: blocks and claims of this host.
        had: those that its lease store has.
        asked: claims of others in its blocks, with their hosts.
        lengths: the prefix length of blocks, by network and version.
    """

    def __init__(self, picture: Picture, standing: Standing, service: Service) -> None:
        self.picture = picture
        self.me = standing.me
        self.lengths: dict[tuple[str, int], int] = {}
        self.subnets: dict[tuple[str, int], Subnet] = {}
        for name, entry in picture.networks.items():
            for version, subnet in ({} if not entry.record else subnets_of(entry.record)).items():
                assert entry.record is not None
                self.subnets[name, version] = subnet
                self.lengths[name, version] = block_prefix(subnet, entry.record.block)
        networks = service.networks
        self.networks = networks
        self.problems = {n: p for n, row in networks.items() if (p := problem(picture, row))}
        self._known = {part_of(*place): place[1] for place in service.blocks}
        self.had = {place for place, row in service.blocks.items() if row.state != "wanted"}
        self.own = set(self._own())
        self.asked = dict(self._asked())

    def block_with(self, part: Part) -> Part | None:
        """The block that a claim is in; `None` if the network has no such address."""
        subnet = self.subnets.get((part.network, part.version))
        if subnet is None or part.address not in subnet:
            return None
        bits = subnet.max_prefixlen - self.lengths[part.network, part.version]
        return Part(part.network, part.version, part.first >> bits << bits)

    def prefix(self, part: Part) -> Subnet | None:
        """The subnet that a block is; `None` if the network has no such block."""
        known = self.picture.prefixes.get(part)
        if known is not None:
            return known
        length = self.lengths.get((part.network, part.version))
        subnet = self.subnets.get((part.network, part.version))
        if length is None or subnet is None or self.block_with(part) != part:
            return None
        return self.picture.prefixes.setdefault(part, part.prefix(length))

    def _own(self) -> Iterator[Place]:
        me = self.me
        if me is None:
            return
        for part, entry in self.picture.blocks.items():
            record = entry.record
            if record and record.host == me.name and record.incarnation == me.incarnation:
                prefix = self.prefix(part) or self._known.get(part)
                if prefix is not None:
                    yield part.network, prefix
        for part, claim in self.picture.claims.items():
            wanted = claim.record
            if not wanted or not wanted.counts or wanted.host != me.name:
                continue
            if wanted.incarnation == me.incarnation:
                yield part.network, claim_of(part.address)

    def _asked(self) -> Iterator[tuple[Place, str]]:
        for part, claim in self.picture.claims.items():
            if self.me is None or claim.record is None or claim.record.host == self.me.name:
                continue
            block = self.block_with(part)
            if block is not None:
                prefix = self.prefix(block)
                if prefix is not None and (part.network, prefix) in self.own:
                    yield (part.network, claim_of(part.address)), claim.record.host


def told(
    map_: Map, standing: Standing, service: Service, trying: Mapping[Place, float]
) -> list[Row]:
    """The rows for the service, but for the status.

    Args:
        trying: seconds since this host has tried to get each claim, or block that it had before.
    """
    host = service.host
    name = "" if host is None else host.host
    rows: list[Row] = list(_networks(map_))
    rows += (OwnRow(network, prefix) for network, prefix in map_.own)
    rows += (
        AskedRow(network, prefix, of) for (network, prefix), of in map_.asked.items()
    )  # fmt: skip
    rows += _peers(map_.picture, name)
    rows += _peer_blocks(map_, name)
    if standing.kind == "in":
        rows += _refused(map_, service, trying)
    elif standing.kind == "out" and standing.me is None:
        rows += (
            RefusedRow(row.network, row.prefix, standing.problem[:500])
            for row in service.blocks.values()
            if row.state != "leaving"
        )
    return rows


def put_back(map_: Map, service: Service, mark: int) -> Iterator[Row]:
    """What other hosts have written since the mark that etcd was restored was set.

    It is believed, as they know what they have; nothing that this host has is among it.

    Args:
        mark: the revision at which the mark was set.
    """
    name = "" if service.host is None else service.host.host
    yield from _peers(map_.picture, name, mark)
    for row in _peer_blocks(map_, name, mark):
        if row.host and (row.network, row.prefix) not in service.blocks:
            yield row


def _networks(map_: Map) -> Iterator[Row]:
    for name in map_.networks:
        record = map_.picture.network(name)
        problem_ = map_.problems.get(name, "")
        yield NumberRow(name, 0 if record is None or problem_ else record.number, problem_)


def _peers(picture: Picture, name: str, since: int = 0) -> Iterator[Row]:
    for host, entry in picture.hosts.items():
        if host != name and entry.record is not None and entry.modified > since:
            yield PeerRow(host, ip_address(entry.record.address), host in picture.alive)


def _peer_blocks(map_: Map, name: str, since: int = 0) -> Iterator[PeerBlockRow]:
    """What cannot be read is somebody else's, unless the service has it."""
    wanted = {network for network in map_.networks if network not in map_.problems}
    for part, entry in map_.picture.blocks.items():
        host = entry.record.host if entry.record else ""
        if host == name or part.network not in wanted or entry.modified <= since:
            continue
        row = map_.picture.rows.get(part)
        if row is None or row.host != host:
            prefix = map_.prefix(part)
            if prefix is None:
                continue
            row = map_.picture.rows[part] = PeerBlockRow(part.network, prefix, host)
        if host or (part.network, row.prefix) not in map_.had:
            yield row
    for part, claim in map_.picture.claims.items():
        record, prefix = claim.record, claim_of(part.address)
        host = record.host if record else ""
        if (record and not record.counts) or host == name or part.network not in wanted:
            continue
        if claim.modified <= since:
            continue
        if map_.block_with(part) is not None and (host or (part.network, prefix) not in map_.had):
            yield PeerBlockRow(part.network, prefix, host)


def _refused(map_: Map, service: Service, trying: Mapping[Place, float]) -> Iterator[Row]:
    """What the lease store has and the registry does not grant."""
    for place, row in service.blocks.items():
        if place in map_.own or row.state == "leaving":
            continue
        reason = why_not(map_, row, trying.get(place, 0.0))
        if reason:
            yield RefusedRow(row.network, row.prefix, reason[:500])


def why_not(map_: Map, row: BlockRow, trying: float) -> str:
    """Why this host does not get a block or a claim; empty if it may still get it."""
    part = part_of(row.network, row.prefix)
    if row.network in map_.problems:
        return map_.problems[row.network]
    if row.network not in map_.picture.networks:
        return "" if row.network in map_.networks else "etcd does not have its network"
    if is_claim(row.prefix):
        return _why_no_claim(map_, row, part, trying)
    entry = map_.picture.blocks.get(part)
    if entry is None:
        return "" if map_.prefix(part) else _NO_BLOCK
    if entry.record is None:  # what this host has was overwritten, and is put back
        return "" if row.state == "held" else "etcd has of it what is not understood"
    if map_.me is not None and entry.record.host == map_.me.name:
        return ""  # an earlier incarnation had it
    return f"host {quoted(entry.record.host)} has it"


_NO_BLOCK: Final = "it is no block of the network"


def _why_no_claim(map_: Map, row: BlockRow, part: Part, trying: float) -> str:
    block = map_.block_with(part)
    if block is None:
        return "it is not in the network"
    prefix, subnet = map_.prefix(block), map_.subnets[part.network, part.version]
    assert prefix is not None
    if part.address in (
        subnet.network_address, gateway(subnet), host_address(subnet, prefix)
    ):  # fmt: skip
        return "it is for the host that has the addresses around it"
    if trying < PATIENCE:
        return ""
    claim, entry = map_.picture.claims.get(part), map_.picture.blocks.get(block)
    name = "" if map_.me is None else map_.me.name
    if claim is not None and claim.record is None and row.state == "held":
        return ""
    if claim is not None and claim.record is None:
        return "etcd has of it what is not understood"
    if claim is not None and claim.record is not None and claim.record.host != name:
        return f"host {quoted(claim.record.host)} has it"
    if entry is not None and entry.record is not None and entry.record.host != name:
        host = quoted(entry.record.host)
        if entry.record.host in map_.picture.alive:
            return f"host {host} has the addresses around it, and does not let this host have it"
        return f"host {host} has the addresses around it, and is not heard of"
    if map_.picture.restored is not None:
        return "etcd was restored from an older state a moment ago"
    return "" if trying < _UNANSWERED else "etcd does not grant it"


def problem(picture: Picture, row: NetworkRow) -> str:
    """Why this host takes no part in a network; empty if it does."""
    entry = picture.networks.get(row.name)
    if entry is None:
        return ""
    record = entry.record
    if record is None:
        return "etcd has of the network what is not understood"
    if {*record.subnets} != {str(subnet) for subnet in row.subnets}:
        return (
            f"the other hosts have subnets = [{', '.join(record.subnets)}]; write the same on each"
        )
    if record.block != row.block:
        return f"the other hosts have block = {record.block}; write the same on each"
    return _same_number(picture, row.name, record)


def _same_number(picture: Picture, name: str, record: NetworkRecord) -> str:
    for other, entry in picture.networks.items():
        if other < name and entry.record and entry.record.number == record.number:
            return f"network {quoted(other)} has the same number in etcd; delete one of them there"
    return ""
