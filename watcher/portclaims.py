"""Which port maps cannot stand beside each other, and the store's rows of them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from watcher.model import PortMap

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from watcher.model import Address


@dataclass(frozen=True, slots=True)
class Clash:
    """Two port maps that cannot both be.

    Attributes:
        mine: the one that was asked for.
        theirs: the one in its way.
        sandbox: the number of the sandbox that has `theirs`.
        holder: that sandbox's id.
    """

    mine: PortMap
    theirs: PortMap
    sandbox: int
    holder: str


def overlap(one: Address | None, other: Address | None) -> bool:
    """Whether a packet can be for both of two host addresses, as :class:`PortMap` has them."""
    if one is None or other is None:
        return True
    if one.version != other.version:
        return False
    return one == other or one.is_unspecified or other.is_unspecified


def clashes(mine: PortMap, theirs: PortMap, *, same_sandbox: bool) -> bool:
    """Whether two port maps cannot both be.

    They cannot where one packet would match both, unless it goes to the same port of the same
    sandbox either way.
    """
    if (mine.protocol, mine.host_port) != (theirs.protocol, theirs.host_port):
        return False
    if same_sandbox and mine.port == theirs.port:
        return False
    return overlap(mine.host_ip, theirs.host_ip)


def to_port_map(protocol: str, host_ip: str, host_port: int, port: int) -> PortMap:
    """The port map of a row of `claim`."""
    return PortMap(protocol, ip_address(host_ip) if host_ip else None, host_port, port)  # type: ignore[arg-type]


def of_member(db: sqlite3.Connection, member: int) -> tuple[PortMap, ...]:
    """The port maps of a member, in the order in which it asked for them."""
    rows = db.execute(
        "SELECT protocol, host_ip, host_port, port FROM claim WHERE member = ? ORDER BY position",
        (member,),
    )
    return tuple(to_port_map(*row) for row in rows)


def write(db: sqlite3.Connection, member: int, ports: Sequence[PortMap]) -> None:
    """Makes `ports` those of a member that has none, whatever they clash with."""
    db.executemany(
        "INSERT INTO claim (member, position, protocol, host_ip, host_port, port)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            (
                member,
                n,
                p.protocol,
                "" if p.host_ip is None else str(p.host_ip),
                p.host_port,
                p.port,
            )
            for n, p in enumerate(ports)
        ),
    )


def first_clash(db: sqlite3.Connection, member: int, sandbox: int) -> Clash | None:
    """The first of a member's port maps that cannot stand, with what is in its way.

    One query for any number of them; each costs one look into an index.
    """
    rows = db.execute(
        "SELECT mine.protocol, mine.host_ip, mine.host_port, mine.port,"
        " theirs.host_ip, theirs.port, holder.key, holder.id"
        " FROM claim AS mine"
        " JOIN claim AS theirs"
        "  ON theirs.host_port = mine.host_port AND theirs.protocol = mine.protocol"
        "  AND (theirs.member <> mine.member OR theirs.position < mine.position)"
        " JOIN member ON member.number = theirs.member"
        " JOIN sandbox AS holder ON holder.key = member.sandbox"
        " WHERE mine.member = ? ORDER BY mine.position",
        (member,),
    )
    for protocol, my_ip, host_port, my_port, their_ip, their_port, key, holder in rows:
        mine = to_port_map(protocol, my_ip, host_port, my_port)
        theirs = to_port_map(protocol, their_ip, host_port, their_port)
        if clashes(mine, theirs, same_sandbox=key == sandbox):
            return Clash(mine, theirs, key, holder)
    return None
