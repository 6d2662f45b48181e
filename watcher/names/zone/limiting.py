"""Which names a sandbox may ask for, put together of what was told of it and of its networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.names.opening.limits import NameLimits, Place, lists_of, name_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.feed.lines import SandboxLine
    from watcher.names.zone.segments import Segment


def limits_of(segments: Mapping[str, Segment], line: SandboxLine) -> NameLimits | None:
    """Which names the sandbox may ask for; `None` if its lists of `egress` have no names.

    If its root forces the lists of a network upon it that nobody has told of yet, it may ask for
    none.
    """
    forced = segments.get(line.policy)
    if line.policy and forced is None:
        return NameLimits((), free=False)
    of_root = None if forced is None else forced.line.egress
    places: list[Place] = []
    free = False
    for interface in line.interfaces:
        segment = segments.get(interface.network)
        if segment is None or segment.internal:  # nothing leaves it, whatever a list says
            continue
        lists = lists_of(segment.line.egress, of_root, line.egress)
        names = name_list(lists)
        if names is None:
            free = True
        elif interface.addresses:
            places.append(Place(segment.line.name, interface.addresses[0], names))
    return NameLimits(tuple(places), free) if places else None
