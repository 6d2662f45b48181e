"""Port maps as sets of single ports: what is in one list of them and not in another.

Two port maps have a port in common if they lead the same host port to the same port. The cost grows
with the number of port maps, not with their lengths.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from operator import itemgetter
from typing import TYPE_CHECKING

from watcher.model.request import PortMap

if TYPE_CHECKING:
    from watcher.model.address import Address
    from watcher.model.request import Protocol

type _Line = tuple[Protocol, Address | None, int]
"""Where two port maps may have ports in common."""


def less(ports: Iterable[PortMap], gone: Iterable[PortMap]) -> tuple[PortMap, ...]:
    """`ports` in order without those of `gone`; a range may fall into several."""
    spans = _spans(gone)
    found: list[PortMap] = []
    for port in ports:
        cuts = spans.get(_line(port), ())
        at = port.host_port
        for first, last in cuts[bisect_left(cuts, at, key=itemgetter(1)) :] if cuts else ():
            if first > port.last:
                break
            if at < first:
                found.append(_part(port, at, first - 1))
            at = last + 1
        if at == port.host_port:
            found.append(port)
        elif at <= port.last:
            found.append(_part(port, at, port.last))
    return tuple(found)


def _spans(ports: Iterable[PortMap]) -> dict[_Line, list[tuple[int, int]]]:
    """The host ports of `ports` by line, as ranges in order that neither overlap nor touch."""
    spans: defaultdict[_Line, list[tuple[int, int]]] = defaultdict(list)
    for port in sorted(ports, key=lambda port: port.host_port):
        same = spans[_line(port)]
        if same and port.host_port <= same[-1][1] + 1:
            same[-1] = same[-1][0], max(same[-1][1], port.last)
        else:
            same.append((port.host_port, port.last))
    return spans


def _line(port: PortMap) -> _Line:
    return port.protocol, port.host_ip, port.port - port.host_port


def _part(port: PortMap, first: int, last: int) -> PortMap:
    to = port.port + first - port.host_port
    return PortMap(port.protocol, port.host_ip, first, to, last - first + 1)
