"""Notices that etcd has lost what only this host gives back: it was restored meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.cluster.registry.keys import part_of
from watcher.model.cluster import is_claim

if TYPE_CHECKING:
    from watcher.cluster.agent.tables import Place, Service
    from watcher.cluster.protocol import HostRow
    from watcher.cluster.registry.picture import Picture


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


def _is_gone(picture: Picture, before: Picture, place: Place, host: HostRow) -> bool:
    part = part_of(*place)
    claim = is_claim(place[1])
    was = before.claims.get(part) if claim else before.blocks.get(part)
    mine = was is not None and was.record is not None and was.record.host == host.host
    return mine and part not in (picture.claims if claim else picture.blocks)
