"""Traffic by container: the differences of the kernel's counters between two pictures."""

from __future__ import annotations

import time
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.model.naming import short_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from watcher.feed.lines import InterfacePart, SandboxLine, Traffic
    from watcher.observe.stream import Picture

_counters: Final = attrgetter(
    "received_bytes", "sent_bytes", "received_packets", "sent_packets", "received_dropped",
    "sent_dropped", "guard_dropped",
)  # fmt: skip


class Sample(Struct, frozen=True):
    """A picture, and when its counters were read.

    Attributes:
        at: on the clock of :func:`time.time`.
        picture: the picture.
    """

    at: float
    picture: Picture


class Figures(Struct, frozen=True):
    """Traffic as a sandbox sees it: of all time, or of a second.

    Attributes:
        received, sent: bytes.
        packets: packets in both directions.
        dropped: packets that were dropped in either direction, also by the guard.
    """

    received: float = 0.0
    sent: float = 0.0
    packets: float = 0.0
    dropped: float = 0.0


NOTHING: Final = Figures()


class Row(Struct, frozen=True):
    """A sandbox, or one interface of it.

    Attributes:
        key: tells it from all others.
        container: the name of the container that the sandbox was made for, or its id, and how many
            others are in the sandbox.
        network: its networks.
        address: its addresses.
        rates: its traffic a second; `None` while only one picture tells of it.
        total: its traffic since its interfaces were made.
    """

    key: str
    container: str
    network: str
    address: str
    rates: Figures | None
    total: Figures


def sampled(picture: Picture) -> Sample:
    """`picture` with the time of its counters."""
    counted = picture.counted
    return Sample(time.time() if counted is None else counted.timestamp(), picture)


def rows(now: Sample, before: Sample | None, *, apart: bool = False) -> list[Row]:
    """The traffic of each sandbox; `apart`: of each of its interfaces, in a row of its own."""
    if before is not None and now.at <= before.at:
        before = None
    found = []
    for sandbox in now.picture.sandboxes.values():
        name = called(sandbox)
        if apart:
            found += [
                _row(f"{sandbox.key} {one.host_name}", name, sandbox, (one,), now, before)
                for one in sandbox.interfaces
            ]
        else:
            found.append(_row(sandbox.key, name, sandbox, sandbox.interfaces, now, before))
    return found


def called(sandbox: SandboxLine) -> str:
    """What a sandbox is called: a name of its first container or its id, and ` +1` for others."""
    name, others = short_id(sandbox.id), 0
    for container in sandbox.containers:
        if container.id != sandbox.id:
            others += 1
        elif container.names:
            name = container.names[0]
    return f"{name} +{others}" if others else name


def whole(found: Iterable[Row]) -> Figures:
    """The sum of all rates."""
    rates = [row.rates for row in found if row.rates is not None]
    return Figures(
        sum(one.received for one in rates), sum(one.sent for one in rates),
        sum(one.packets for one in rates), sum(one.dropped for one in rates),
    )  # fmt: skip


def _row(
    key: str, name: str, sandbox: SandboxLine, interfaces: tuple[InterfacePart, ...],
    now: Sample, before: Sample | None,
) -> Row:  # fmt: skip
    totals, rates = [0] * 7, [0] * 7
    known = before is not None
    for one in interfaces:
        after = now.picture.traffic.get(one.host_name)
        if after is None:
            continue
        values = _counters(after)
        totals = [a + b for a, b in zip(totals, values, strict=True)]
        since = None if before is None else _base(sandbox, one, after, before)
        if since is None:
            known = False
        else:
            rates = [r + v - s for r, v, s in zip(rates, values, since, strict=True)]
    networks = {one.network: None for one in interfaces}
    return Row(
        key, name, ",".join(networks), ",".join(_addresses(interfaces)),
        _figures(rates, now.at - before.at) if known and before is not None else None,
        _figures(totals, 1.0),
    )  # fmt: skip


def _base(
    sandbox: SandboxLine, interface: InterfacePart, after: Traffic, before: Sample
) -> tuple[int, ...] | None:
    """What the counters were `before`; `None` if that is not known."""
    earlier = before.picture.traffic.get(interface.host_name)
    if earlier is None:
        # Its counters began meanwhile, if it was not there.
        was = before.picture.sandboxes.get(sandbox.key)
        return None if was is not None and interface in was.interfaces else (0,) * 7
    values, since = _counters(after), _counters(earlier)
    if any(value < old for value, old in zip(values, since, strict=True)):
        return (0,) * 7  # another interface of that name, whose counters began anew
    counted: tuple[int, ...] = since
    return counted


def _figures(values: list[int], seconds: float) -> Figures:
    received, sent, packets_in, packets_out, *dropped = values
    return Figures(
        received / seconds, sent / seconds, (packets_in + packets_out) / seconds,
        sum(dropped) / seconds,
    )  # fmt: skip


def _addresses(interfaces: Iterable[InterfacePart]) -> Iterator[str]:
    for one in interfaces:
        yield from one.addresses
