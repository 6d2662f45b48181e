"""Reads sandboxes from the lease store: one, or all with the same number of queries."""

from __future__ import annotations

import socket
from collections import defaultdict
from ipaddress import IPv4Interface, IPv6Interface
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from watcher.model.container import Process
from watcher.model.policy.limits import UNLIMITED
from watcher.model.sandbox import Interface, Member, Sandbox
from watcher.store import documents
from watcher.store.port_claims import to_port_map

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from watcher.model.address import AddressWithPrefix

_SANDBOX: Final = "SELECT key, id, pid, start, netns, kept, limits FROM sandbox "
_INTERFACE: Final = (
    "SELECT interface.sandbox, interface.ordinal, interface.network, name, host_name, mac,"
    " address, prefix, member.root, member.id FROM interface LEFT JOIN address"
    " ON address.sandbox = interface.sandbox AND address.ordinal = interface.ordinal"
    " LEFT JOIN member ON member.number = interface.member "
)
_INTERFACE_ORDER: Final = " ORDER BY interface.sandbox, interface.ordinal, address.family"
_MEMBER: Final = (
    "SELECT sandbox, number, root, id, pid, start,"
    " CASE WHEN ifnull(position, 0) = 0 THEN asked END,"  # once per member: it may be long
    " protocol, host_ip, host_port, port, length"
    " FROM member LEFT JOIN claim ON claim.member = member.number "
)
_MEMBER_ORDER: Final = " ORDER BY sandbox, number, position"

_ONE_SANDBOX: Final = _SANDBOX + "WHERE key = ?"
_ONE_INTERFACE: Final = _INTERFACE + "WHERE interface.sandbox = ?" + _INTERFACE_ORDER
_ONE_MEMBER: Final = _MEMBER + "WHERE sandbox = ?" + _MEMBER_ORDER
_SOME_SANDBOX: Final = _SANDBOX + "WHERE key > ? ORDER BY key LIMIT ?"
_SOME_INTERFACE: Final = _INTERFACE + "WHERE interface.sandbox BETWEEN ? AND ?" + _INTERFACE_ORDER
_SOME_MEMBER: Final = _MEMBER + "WHERE sandbox BETWEEN ? AND ?" + _MEMBER_ORDER
_ALL_SANDBOX: Final = _SANDBOX + "ORDER BY key"
_ALL_INTERFACE: Final = _INTERFACE + _INTERFACE_ORDER
_ALL_MEMBER: Final = _MEMBER + _MEMBER_ORDER


def load(db: sqlite3.Connection, key: int) -> Sandbox | None:
    """The sandbox with that key."""
    row = db.execute(_ONE_SANDBOX, (key,)).fetchone()
    if row is None:
        return None
    interfaces = _interfaces(db.execute(_ONE_INTERFACE, (key,)))
    members = _members(db.execute(_ONE_MEMBER, (key,)))
    names = dict.fromkeys([row[1], *(member.id for member in members)])
    pins = tuple(name for name in names if key_named(db, name) == key)
    return _sandbox(row, interfaces, members, pins)


def load_all(db: sqlite3.Connection) -> list[Sandbox]:
    """Every sandbox, the oldest first."""
    rows = db.execute(_ALL_SANDBOX).fetchall()
    interfaces = {
        key: _interfaces(group)
        for key, group in groupby(db.execute(_ALL_INTERFACE), key=itemgetter(0))
    }
    members = {
        key: _members(group) for key, group in groupby(db.execute(_ALL_MEMBER), key=itemgetter(0))
    }
    owner = {row[1]: row[0] for row in rows}
    owner.update((member.id, row[0]) for row in rows for member in members.get(row[0], ()))
    pins = defaultdict(list)
    for row in rows:
        key = row[0]
        for name in dict.fromkeys([row[1], *(member.id for member in members.get(key, ()))]):
            if owner[name] == key:
                pins[key].append(name)
    return [
        _sandbox(row, interfaces.get(row[0], ()), members.get(row[0], ()), tuple(pins[row[0]]))
        for row in rows
    ]


def load_after(db: sqlite3.Connection, key: int, most: int) -> list[Sandbox]:
    """The first sandboxes with higher keys than `key`, at most so many, in order of their keys.

    They have no pins, which depend on all the others.
    """
    rows = db.execute(_SOME_SANDBOX, (key, most)).fetchall()
    if not rows:
        return []
    span = rows[0][0], rows[-1][0]
    interfaces = {
        key: _interfaces(group)
        for key, group in groupby(db.execute(_SOME_INTERFACE, span), key=itemgetter(0))
    }
    members = {
        key: _members(group)
        for key, group in groupby(db.execute(_SOME_MEMBER, span), key=itemgetter(0))
    }
    return [_sandbox(row, interfaces.get(row[0], ()), members.get(row[0], ()), ()) for row in rows]


def key_named(db: sqlite3.Connection, name: str) -> int | None:
    """The key of the one sandbox that a container's id leads to, whatever its root.

    It is the newest that has a container of that id, else the newest that was made for one.
    """
    row = db.execute(
        "SELECT coalesce("
        " (SELECT sandbox FROM member WHERE id = ?1 ORDER BY sandbox DESC LIMIT 1),"
        " (SELECT key FROM sandbox WHERE id = ?1 ORDER BY key DESC LIMIT 1))",
        (name,),
    ).fetchone()
    key: int | None = row[0]
    return key


def with_id(db: sqlite3.Connection, name: str) -> list[tuple[str, int]]:
    """The roots of the containers of an id, and the keys of their sandboxes, the newest first."""
    return db.execute(
        "SELECT root, sandbox FROM member WHERE id = ? ORDER BY sandbox DESC", (name,)
    ).fetchall()


def named(
    db: sqlite3.Connection, name: str, beside: tuple[str, str], most: int
) -> list[tuple[str, int]]:
    """The ids of containers that have a name, and the keys of their sandboxes; `most` of them.

    `beside` is the id and root of one that does not count.
    """
    return db.execute(
        "SELECT member.id, sandbox FROM name JOIN member ON number = name.member"
        " WHERE name.name = ? AND (member.id, root) <> (?, ?) LIMIT ?",
        (name, *beside, most),
    ).fetchall()


def _sandbox(
    row: tuple[Any, ...],
    interfaces: tuple[Interface, ...],
    members: tuple[Member, ...],
    pins: tuple[str, ...],
) -> Sandbox:
    key, name, pid, start, netns, kept, document = row
    init = Process(pid, start)
    limits = UNLIMITED if document == "{}" else documents.decode_limits(document)
    if limits.forced:
        interfaces = tuple(replace(interface, forced=True) for interface in interfaces)
    return Sandbox(key, name, init, netns, interfaces, members, pins, bool(kept), limits)


def _interfaces(rows: Iterable[tuple[Any, ...]]) -> tuple[Interface, ...]:
    """The interfaces of one sandbox, from ordered rows, one per address."""
    return tuple(
        Interface(
            ordinal,
            network,
            name,
            host_name,
            mac,
            tuple(_lease(row[6], row[7]) for row in group if row[6] is not None),
            None if id_ is None else (root, id_),
        )
        for (ordinal, network, name, host_name, mac, root, id_), group in groupby(
            rows, key=itemgetter(1, 2, 3, 4, 5, 8, 9)
        )
    )


def _lease(text: str, prefix: int) -> AddressWithPrefix:
    """The address `text` with its prefix length; `ip_interface` would parse the text twice.

    Raises:
        ValueError: it is no address.
    """
    try:
        if ":" in text:
            return IPv6Interface((socket.inet_pton(socket.AF_INET6, text), prefix))
        return IPv4Interface((socket.inet_pton(socket.AF_INET, text), prefix))
    except OSError as error:
        raise ValueError(f"{text!r} is no address") from error


def _members(rows: Iterable[tuple[Any, ...]]) -> tuple[Member, ...]:
    """The members of one sandbox, from ordered rows, one per port map."""
    return tuple(_member(list(group)) for _, group in groupby(rows, key=itemgetter(1)))


def _member(rows: Sequence[tuple[Any, ...]]) -> Member:
    _, _, root, name, pid, start, document, protocol, *_ = rows[0]
    ports = () if protocol is None else tuple(to_port_map(*row[7:]) for row in rows)
    return Member(root, name, Process(pid, start), ports, documents.decode(document or ""))
