"""Port maps that exclude each other, and the store's rows of port maps."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.model import keys
from watcher.model.errors import InvalidRequest, quoted
from watcher.model.request import PortMap, Request
from watcher.store.kept import keep
from watcher.store.port_choice import NoneLeft, choose

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from watcher.model.address import Address
    from watcher.model.container import Container
    from watcher.store.port_choice import Choice, Choices


class Clash(Struct, frozen=True):
    """Two port maps, of one port each, that exclude each other.

    Attributes:
        mine: the first requested port that is taken.
        theirs: the port map in its way.
        sandbox: the key of the sandbox that has `theirs`.
        holder: that sandbox's id.
    """

    mine: PortMap
    theirs: PortMap
    sandbox: int
    holder: str


def overlap(one: Address | None, other: Address | None) -> bool:
    """Whether one packet can match both host addresses, as in :class:`PortMap`."""
    if one is None or other is None:
        return True
    if one.version != other.version:
        return False
    return one == other or one.is_unspecified or other.is_unspecified


def clashes(mine: PortMap, theirs: PortMap, *, same_sandbox: bool) -> bool:
    """Whether two port maps exclude each other.

    They do if one packet would match both, unless both lead to the same port of the same sandbox.
    """
    if mine.protocol != theirs.protocol:
        return False
    if mine.host_port > theirs.last or theirs.host_port > mine.last:
        return False
    if same_sandbox and mine.port - mine.host_port == theirs.port - theirs.host_port:
        return False
    return overlap(mine.host_ip, theirs.host_ip)


def to_port_map(protocol: str, host_ip: str, host_port: int, port: int, length: int) -> PortMap:
    """The port map of a row of `claim`."""
    return PortMap(protocol, ip_address(host_ip) if host_ip else None, host_port, port, length)  # type: ignore[arg-type]


def claim(
    db: sqlite3.Connection,
    container: Container,
    sandbox: int,
    member: int,
    request: Request,
    choices: Choices,
) -> tuple[PortMap, ...]:
    """Give a member without port maps those of `request`, and return them.

    For those that name no host port one is chosen, and a copy of the sandbox is kept from now on.

    Raises:
        InvalidRequest: another port map is in the way, or no host port is left.
    """
    if not request.ports:
        return ()
    written = container.annotations.get(keys.PORTS, "")
    ports = _claim(db, sandbox, member, request.ports, lambda: choices(container), written)
    if ports != request.ports:
        keep(db, sandbox)
    return ports


def replace(
    db: sqlite3.Connection, sandbox: int, member: int, ports: Sequence[PortMap], choice: Choice
) -> tuple[PortMap, ...]:
    """Give a member `ports` in place of those that it has, and return them, as :func:`claim` does.

    Raises:
        InvalidRequest: another port map is in the way, or no host port is left.
    """
    db.execute("DELETE FROM claim WHERE member = ?", (member,))
    return _claim(db, sandbox, member, tuple(ports), lambda: choice, "")


def write(
    db: sqlite3.Connection, member: int, sandbox: int, ports: Sequence[PortMap]
) -> Clash | None:
    """Write the `ports` of a member that has none; returns the first that is in the way of one."""
    _write(db, member, enumerate(ports))
    if db.execute(_HAS_OVERLAP, (member,)).fetchone() is None:  # mostly
        return None
    return _first_clash(db, member, sandbox)


def _claim(
    db: sqlite3.Connection,
    sandbox: int,
    member: int,
    ports: tuple[PortMap, ...],
    choice: Callable[[], Choice],
    written: str,
) -> tuple[PortMap, ...]:
    """As :func:`claim`; `written` is the value for errors, by default the port map at fault."""
    clash = write(db, member, sandbox, ports)
    if clash is not None:
        raise _in_the_way(clash, sandbox, written)
    wanted = {n: port for n, port in enumerate(ports) if port.to_choose}
    return _choose(db, member, ports, wanted, choice(), written) if wanted else ports


def _choose(
    db: sqlite3.Connection,
    member: int,
    ports: Sequence[PortMap],
    wanted: Mapping[int, PortMap],
    choice: Choice,
    written: str,
) -> tuple[PortMap, ...]:
    """Choose the host ports of the `wanted` ones among `ports`, by position, and write them."""
    try:
        found = choose(db, list(wanted.values()), choice)
    except NoneLeft as none:
        ranges = ", ".join(f"{low}-{high}" for low, high in choice.ranges)
        raise InvalidRequest(
            keys.PORTS,
            written or none.wanted,
            f"no host port of {ranges} is free for {none.wanted}",
            "name a host port, stop a container that has one, or allow more in limits.host_ports",
        ) from None
    chosen = dict(zip(wanted, found, strict=True))
    _write(db, member, chosen.items())
    return tuple(chosen.get(n, port) for n, port in enumerate(ports))


def _in_the_way(clash: Clash, sandbox: int, written: str) -> InvalidRequest:
    same = clash.sandbox == sandbox
    holder = "this sandbox" if same else f"sandbox {quoted(clash.holder)}"
    return InvalidRequest(
        keys.PORTS,
        written or clash.mine,
        f"{clash.mine} conflicts with {clash.theirs} of {holder}",
        "publish another port of the host" + ("" if same else f", or stop {quoted(clash.holder)}"),
    )


class PortClaim(Struct, frozen=True):
    """A port map of the container `id` of `root`.

    Attributes:
        root, id: the container.
        sandbox: the key of its sandbox.
        port: one of its port maps.
    """

    root: str
    id: str
    sandbox: int
    port: PortMap


_SPANS: Final = (
    "SELECT protocols.column1,"
    " min((SELECT min(host_port) FROM claim"
    "  WHERE protocol = protocols.column1 AND size = sizes.column1)),"
    " max(sizes.column1 - 1 + (SELECT max(host_port) FROM claim"
    "  WHERE protocol = protocols.column1 AND size = sizes.column1))"
    " FROM (VALUES ('tcp'), ('udp'), ('sctp')) AS protocols"
    " CROSS JOIN (VALUES (1), (16), (256), (4096), (65536)) AS sizes"
    " GROUP BY protocols.column1"
)
"""Each subquery is one look-up in the index, however many port maps there are."""

_CLAIMS: Final = (
    "SELECT DISTINCT member.root, member.id, member.sandbox,"
    " protocol, host_ip, host_port, port, length"
    " FROM json_each(?2) AS asked"
    " CROSS JOIN (VALUES (1), (16), (256), (4096), (65536)) AS sizes"
    " CROSS JOIN claim ON protocol = ?1 AND size = sizes.column1"
    "  AND host_port > asked.value - sizes.column1 AND host_port <= asked.value"
    "  AND host_port + length > asked.value"
    " JOIN member ON member.number = claim.member"
)


def spans(db: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """By protocol, two ports between which all published ones are; without those of none."""
    return {
        protocol: (low, min(high, 65535))
        for protocol, low, high in db.execute(_SPANS)
        if low is not None
    }


def claims(db: sqlite3.Connection, protocol: str, ports: Iterable[int]) -> list[PortClaim]:
    """Every port map of one of the host's `ports`, found by their numbers alone."""
    found = db.execute(_CLAIMS, (protocol, f"[{','.join(map(str, ports))}]"))
    return [PortClaim(root, id_, key, to_port_map(*row)) for root, id_, key, *row in found]


def _write(db: sqlite3.Connection, member: int, ports: Iterable[tuple[int, PortMap]]) -> None:
    """Write a member's port maps at their positions, except those that name no host port."""
    db.executemany(
        "INSERT INTO claim"
        " (member, position, protocol, host_ip, host_port, port, length, size)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                member,
                n,
                p.protocol,
                "" if p.host_ip is None else str(p.host_ip),
                p.host_port,
                p.port,
                p.length,
                _size(p.length),
            )
            for n, p in ports
            if not p.to_choose
        ],
    )


def _size(length: int) -> int:
    """The smallest power of 16 that is not less than `length`."""
    return 1 << ((length - 1).bit_length() + 3) // 4 * 4


_OVERLAPS: Final = (
    " FROM claim AS mine CROSS JOIN (VALUES (1), (16), (256), (4096), (65536)) AS sizes"
    " CROSS JOIN claim AS theirs"
    "  ON theirs.protocol = mine.protocol AND theirs.size = sizes.column1"
    "  AND theirs.host_port > mine.host_port - sizes.column1"
    "  AND theirs.host_port < mine.host_port + mine.length"
    "  AND theirs.host_port + theirs.length > mine.host_port"
    "  AND (theirs.member <> mine.member OR theirs.position < mine.position)"
)
"""A range of a `size` that overlaps the ports from A to B begins at A - `size` + 1 or later."""

_HAS_OVERLAP: Final = f"SELECT 1{_OVERLAPS} WHERE mine.member = ? LIMIT 1"
_OVERLAPPING: Final = (
    "SELECT mine.protocol, mine.host_ip, mine.host_port, mine.port, mine.length,"
    " theirs.protocol, theirs.host_ip, theirs.host_port, theirs.port, theirs.length,"
    f" holder.key, holder.id{_OVERLAPS}"
    " JOIN member ON member.number = theirs.member"
    " JOIN sandbox AS holder ON holder.key = member.sandbox"
    " WHERE mine.member = ? ORDER BY mine.position, max(mine.host_port, theirs.host_port)"
)


def _first_clash(db: sqlite3.Connection, member: int, sandbox: int) -> Clash | None:
    """The first of a member's ports that clashes with another, and that one.

    One query for any number of ports; each port map costs one index lookup per size of range.
    """
    for *row, key, holder in db.execute(_OVERLAPPING, (member,)):
        mine, theirs = to_port_map(*row[:5]), to_port_map(*row[5:])
        if clashes(mine, theirs, same_sandbox=key == sandbox):
            first = max(mine.host_port, theirs.host_port)
            return Clash(mine.at(first), theirs.at(first), key, holder)
    return None
