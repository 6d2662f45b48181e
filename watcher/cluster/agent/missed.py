"""Notices by what this host has in etcd that etcd was restored: nobody else takes or gives that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.cluster.registry.keys import Part, part_of
from watcher.model.cluster import is_claim

if TYPE_CHECKING:
    from watcher.cluster.agent.tables import Place, Service
    from watcher.cluster.protocol import HostRow
    from watcher.cluster.registry.picture import Entry, Picture
    from watcher.cluster.registry.records import BlockRecord, ClaimRecord


def misses(picture: Picture, before: Picture, service: Service, host: HostRow) -> bool:
    """Whether a block or claim of this host, which it has, was there `before` and no longer is.

    If the host has been removed, so have they.
    """
    record = picture.host(host.host)
    if record is None or record.incarnation != host.incarnation:
        return False
    return any(
        row.state == "held" and _is_gone(picture, before, place, host)
        for place, row in service.blocks.items()
    )


def had_given_back(picture: Picture, service: Service, host: HostRow) -> bool:
    """Whether this host has there what it had no more when the service heard of etcd last.

    It is asked at the start, when nothing else is known of what was there before.
    """
    known = {claim: set[Part]() for claim in (False, True)}
    for place in service.blocks:
        known[is_claim(place[1])].add(part_of(*place))
    return any(
        part not in known[False] and block.modified <= host.revision and _is_mine(block, host)
        for part, block in picture.blocks.items()
    ) or any(
        part not in known[True] and claim.modified <= host.revision and _is_mine(claim, host)
        for part, claim in picture.claims.items()
        if claim.record is not None and claim.record.counts
    )


def _is_mine(entry: Entry[BlockRecord] | Entry[ClaimRecord], host: HostRow) -> bool:
    record = entry.record
    return record is not None and (record.host, record.incarnation) == (
        host.host, host.incarnation,
    )  # fmt: skip


def _is_gone(picture: Picture, before: Picture, place: Place, host: HostRow) -> bool:
    part = part_of(*place)
    claim = is_claim(place[1])
    was = before.claims.get(part) if claim else before.blocks.get(part)
    mine = was is not None and _is_mine(was, host)
    return mine and part not in (picture.claims if claim else picture.blocks)
