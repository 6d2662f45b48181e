"""Writes rows of the lease store when a running sandbox gets an interface or loses one.

Each function is a part of its caller's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.model import keys
from watcher.model.errors import InvalidRequest, WatcherError, quoted
from watcher.model.naming import MAX_NETWORKS
from watcher.store import membership
from watcher.store.ipam import place_fixed
from watcher.store.kept import keep

if TYPE_CHECKING:
    import sqlite3

    from watcher.model.container import Container
    from watcher.model.network import Network
    from watcher.model.request import Request


def connect(
    db: sqlite3.Connection,
    container: Container,
    key: int,
    network: Network,
    request: Request,
    name: str,
) -> None:
    """Give a sandbox an interface, as :meth:`watcher.store.leases.LeaseStore.connect` says."""
    row = db.execute(
        "SELECT member.number, sandbox.pid FROM member JOIN sandbox ON key = sandbox"
        " WHERE member.id = ? AND member.root = ? AND key = ?",
        (container.id, container.root, key),
    ).fetchone()
    if row is None:
        raise WatcherError(f"container {quoted(container.id)} has left its sandbox", "try again")
    member, pid = row
    there = db.execute(
        "SELECT ordinal, network, name FROM interface WHERE sandbox = ?", (key,)
    ).fetchall()
    ordinal = _ordinal(network, {number: its for number, its, _ in there})
    name = _name(network, ordinal, {its for _, _, its in there}, name)
    fixed = place_fixed([network], request.addresses)
    its_own = {version: address for (_, version), address in fixed.items()}
    place = (key, ordinal, network.name, name, f"netnsv{ordinal}-{pid}")
    membership.add_interface(db, container, network, place, its_own, request.mac, {})
    db.execute(
        "UPDATE interface SET member = ? WHERE sandbox = ? AND ordinal = ?", (member, key, ordinal)
    )
    keep(db, key)


def disconnect(db: sqlite3.Connection, key: int, ordinal: int, *, kept: bool) -> None:
    """Take an interface from a sandbox, and free its leases."""
    membership.drop_interface(db, key, ordinal)
    keep(db, key, kept=kept)


def _ordinal(network: Network, networks: dict[int, str]) -> int:
    """The place for an interface of `network` beside those of `networks`, by place."""
    if network.name in networks.values():
        raise InvalidRequest(
            keys.NETWORK, network.name, "it is connected already",
            "disconnect it first, to have other addresses or another name there",
        )  # fmt: skip
    free = set(range(MAX_NETWORKS)) - networks.keys()
    if not free:
        raise InvalidRequest(
            keys.NETWORK, network.name, f"it has {MAX_NETWORKS} networks already",
            f"disconnect one of {', '.join(networks.values())} first",
        )  # fmt: skip
    return min(free)


def _name(network: Network, ordinal: int, taken: set[str], asked: str) -> str:
    """What the new interface is called inside: as `asked`, if at all, or else as at attach."""
    if asked:
        if asked in taken:
            raise InvalidRequest(
                keys.INTERFACE,
                asked,
                "another interface of it has that name",
                "choose another name",
            )
        return asked
    candidates = [network.interface] if ordinal == 0 else []
    candidates += [f"eth{number}" for number in range(1, MAX_NETWORKS + 1)]
    return next(name for name in candidates if name not in taken)
