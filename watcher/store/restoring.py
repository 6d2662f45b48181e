"""Writes a sandbox into the lease store from a copy, as a part of the caller's transaction."""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING, Final

from watcher.model.errors import WatcherError, quoted
from watcher.model.naming import MAX_NETWORKS
from watcher.store import documents, port_claims
from watcher.store.block_book import open_book
from watcher.store.ipam import pool_of, refusal
from watcher.store.membership import insert_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.model.network import Network
    from watcher.model.sandbox import Interface, Sandbox


_DAMAGED: Final = "its copy is damaged"

_LAST: Final = 65535
_LINK: Final = re.compile(r"[!-.0-~]{1,15}")
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_ID: Final = re.compile(r"[^/\x00]+")


def restore(db: sqlite3.Connection, copy: Sandbox, networks: Mapping[str, Network]) -> int:
    """Write a sandbox as :meth:`watcher.store.leases.LeaseStore.restore` says; returns its key."""
    if not _is_sound(copy):
        raise _cannot(copy, _DAMAGED)
    if copy.limits.policy not in ("", *networks):  # it would be held to nothing
        raise _cannot(copy, f"there is no network {quoted(copy.limits.policy)} any more")
    try:
        return _restore(db, copy, networks)
    except (sqlite3.IntegrityError, OverflowError) as error:  # numbers and names that nobody has
        raise _cannot(copy, _DAMAGED) from error


def _is_sound(copy: Sandbox) -> bool:
    """Whether a container can have all that; what nobody can have would fail at each sync."""
    pid = copy.init.pid
    links = (
        one.ordinal in range(MAX_NETWORKS)
        and one.host_name == f"netnsv{one.ordinal}-{pid}"
        and _LINK.fullmatch(one.name) is not None
        and one.name not in (".", "..")
        and _MAC.fullmatch(one.mac) is not None
        for one in copy.interfaces
    )
    ports = (
        1 <= p.host_port <= p.last <= _LAST and 1 <= p.port <= _LAST + 1 - p.length
        for p in copy.ports
    )
    ids = (_ID.fullmatch(id_) for id_ in (copy.id, *(member.id for member in copy.members)))
    return all(links) and all(ports) and all(ids)


def _restore(db: sqlite3.Connection, copy: Sandbox, networks: Mapping[str, Network]) -> int:
    root = next((m.root for m in copy.members if m.id == copy.id), copy.members[0].root)
    key = db.execute(
        "INSERT INTO sandbox (root, id, pid, start, netns, kept, limits)"
        " VALUES (?, ?, ?, ?, ?, 1, ?)",
        (
            root, copy.id, copy.init.pid, copy.init.start, copy.netns,
            documents.encode_limits(copy.limits),
        ),
    ).lastrowid  # fmt: skip
    assert key is not None
    numbers: dict[tuple[str, str], int] = {}
    for member in copy.members:
        done = db.execute(
            "INSERT INTO member (root, id, pid, start, sandbox, asked) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (
                member.root, member.id, member.init.pid, member.init.start, key,
                documents.encode(member.asked),
            ),
        )  # fmt: skip
        if not done.rowcount:
            raise _cannot(copy, f"{quoted(member.id)} is in another sandbox")
        assert done.lastrowid is not None
        numbers[member.root, member.id] = done.lastrowid
        insert_names(db, done.lastrowid, member.asked)
    for interface in copy.interfaces:
        _restore_interface(db, copy, key, root, interface, networks, numbers)
    for member in copy.members:
        number = numbers[member.root, member.id]
        if clash := port_claims.write(db, number, key, member.ports):
            raise _cannot(copy, f"{clash.mine} is published by sandbox {quoted(clash.holder)}")
    return key


def _restore_interface(
    db: sqlite3.Connection,
    copy: Sandbox,
    key: int,
    root: str,
    interface: Interface,
    networks: Mapping[str, Network],
    numbers: Mapping[tuple[str, str], int],
) -> None:
    network = networks.get(interface.network)
    if network is None:
        raise _cannot(copy, f"there is no network {quoted(interface.network)} any more")
    done = db.execute(
        "INSERT INTO interface (sandbox, ordinal, network, name, host_name, mac, member)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            key, interface.ordinal, interface.network, interface.name, interface.host_name,
            interface.mac, None if interface.member is None else numbers.get(interface.member),
        ),
    )  # fmt: skip
    if not done.rowcount:
        what = f"{interface.mac} is in use in network {interface.network}"
        raise _cannot(copy, what)
    holder_root, holder_id = interface.member or (root, copy.id)
    for address in interface.addresses:
        subnet = network.subnet_of(address.version)
        if subnet is None:
            family = f"IPv{address.version}"
            raise _cannot(copy, f"network {quoted(network.name)} has no {family} subnet any more")
        book = open_book(
            db, network, pool_of(subnet), holder_root, holder_id, key, interface.ordinal
        )
        if (why := refusal(subnet, address.ip)) is not None:
            raise _cannot(copy, f"{address.ip} {why} of network {quoted(network.name)}")
        if (holder := book.holder(address.ip)) is not None:
            raise _cannot(copy, f"{address.ip} is held by sandbox {quoted(holder)}")
        book.lease(address.ip, address.network.prefixlen)


def _cannot(copy: Sandbox, reason: str) -> WatcherError:
    return WatcherError(
        f"the lease store was lost, and sandbox {quoted(copy.id)} cannot be as before: {reason}",
        "it gets what its annotations ask for; what was changed while it ran is to be done again",
    )
