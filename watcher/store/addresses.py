"""The lease store's address rows: present and former holders, and each pool's cursor."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_address
from typing import TYPE_CHECKING, Final

from watcher.store.ipam import FIRST, refusal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from watcher.model.address import Address, AddressWithPrefix
    from watcher.store.ipam import Pool


_POOL: Final = (
    "SELECT subnet, cursor, EXISTS (SELECT 1 FROM address WHERE id = ?1 AND root = ?2"
    "  AND network = ?3 AND family = ?4 AND freed IS NOT NULL)"
    " FROM pool WHERE network = ?3 AND family = ?4"
)

_LEASE: Final = (
    "INSERT INTO address"
    " (network, address, family, prefix, root, id, pooled, sandbox, ordinal, freed)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL) ON CONFLICT (network, address) DO"
)
_IF_UNKNOWN: Final = f"{_LEASE} NOTHING"
_ANEW: Final = (
    f"{_LEASE} UPDATE SET"
    "  prefix = excluded.prefix, root = excluded.root, id = excluded.id,"
    "  pooled = excluded.pooled, sandbox = excluded.sandbox, ordinal = excluded.ordinal,"
    "  freed = NULL"
)


class AddressBook:
    """One network's addresses of one family, for one interface of the container `id` of `root`.

    An :class:`ipam.Book` over rows that do not change during the caller's transaction.

    Attributes:
        cursor: as in :class:`ipam.Book`; :meth:`lease` stores it.
    """

    __slots__ = (
        "_db", "_id", "_kept", "_network", "_ordinal", "_pool", "_returns", "_root", "_sandbox",
        "_taken", "cursor",
    )  # fmt: skip

    def __init__(
        self,
        db: sqlite3.Connection,
        network: str,
        pool: Pool,
        root: str,
        id: str,  # noqa: A002
        sandbox: int,
        ordinal: int,
    ) -> None:
        self._db = db
        self._network = network
        self._pool = pool
        self._root = root
        self._id = id
        self._sandbox = sandbox
        self._ordinal = ordinal
        self._taken: Address | None = None
        """The address that :meth:`take` has leased."""
        self._kept: int | None = None
        self._returns = True
        """Whether the container may have had addresses here."""
        row = db.execute(_POOL, (id, root, network, self._pool.family)).fetchone()
        if row is not None:
            text, cursor, self._returns = row
            if text == self._pool.text:
                self._kept = cursor
            else:
                self._move()
        self.cursor = FIRST if self._kept is None else self._kept

    def take(self, address: Address) -> bool:
        """Lease `address`, unless it is leased or remembered; whether it was leased."""
        if not self._write(_IF_UNKNOWN, address, self._pool.prefix):
            return False
        self._taken = address
        return True

    def free(self, address: Address) -> bool:
        """Whether no sandbox has leased `address`."""
        return self.holder(address) is None

    def holder(self, address: Address) -> str | None:
        """The id of the sandbox that has leased `address`."""
        return holder_of(self._db, self._network, address)

    def had(self) -> Iterable[Address]:
        """The free addresses that the container had before, the latest first."""
        if not self._returns:
            return ()
        rows = self._db.execute(
            "SELECT address FROM address WHERE id = ? AND root = ? AND network = ? AND family = ?"
            " AND freed IS NOT NULL ORDER BY freed DESC",
            (self._id, self._root, self._network, self._pool.family),
        )
        return (ip_address(text) for (text,) in rows)

    def freed(self) -> Iterator[Address]:
        """The free remembered addresses, the first freed first."""
        rows = self._db.execute(
            "SELECT address FROM address WHERE network = ? AND family = ? AND freed IS NOT NULL"
            " ORDER BY freed",
            (self._network, self._pool.family),
        )
        return (ip_address(text) for (text,) in rows)

    def in_use(self) -> int:
        """The number of leased addresses in the subnet; reads them all."""
        rows = self._db.execute(
            "SELECT address FROM address WHERE network = ? AND family = ? AND sandbox IS NOT NULL",
            (self._network, self._pool.family),
        )
        return sum(refusal(self._pool.subnet, ip_address(text)) is None for (text,) in rows)

    def lease(self, address: Address, prefix: int | None = None) -> AddressWithPrefix:
        """Lease a free `address`, unless :meth:`take` has, and store the cursor.

        `prefix` is its prefix length, if that is not the subnet's.
        """
        pool = self._pool
        prefix = pool.prefix if prefix is None else prefix
        if address is not self._taken:
            self._write(_ANEW, address, prefix)
        if self.cursor != self._kept:
            self._db.execute(
                "INSERT INTO pool (network, family, subnet, cursor) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (network, family) DO UPDATE"
                " SET subnet = excluded.subnet, cursor = excluded.cursor",
                (self._network, pool.family, pool.text, self.cursor),
            )
            self._kept = self.cursor
        interface = IPv4Interface if pool.family == 4 else IPv6Interface
        return interface((int(address), prefix))  # a number needs no parsing

    def _write(self, query: str, address: Address, prefix: int) -> int:
        """Write a lease; returns how many rows `query` has written."""
        return self._db.execute(
            query,
            (
                self._network,
                str(address),
                self._pool.family,
                prefix,
                self._root,
                self._id,
                self._pool.has(address),
                self._sandbox,
                self._ordinal,
            ),
        ).rowcount

    def _move(self) -> None:
        """Move to the network's new subnet after a change of the configuration.

        A lease outside of the new subnet stays until its sandbox ends, and is then forgotten.
        """
        rows = self._db.execute(
            "SELECT address, freed IS NULL FROM address WHERE network = ? AND family = ?",
            (self._network, self._pool.family),
        ).fetchall()
        for text, held in rows:
            pooled = self._pool.has(ip_address(text))
            if held:
                self._db.execute(
                    "UPDATE address SET pooled = ? WHERE network = ? AND address = ?",
                    (pooled, self._network, text),
                )
            elif not pooled:
                self._db.execute(
                    "DELETE FROM address WHERE network = ? AND address = ?", (self._network, text)
                )


def holder_of(db: sqlite3.Connection, network: str, address: Address) -> str | None:
    """The id of the sandbox that has leased `address` in `network`."""
    row = db.execute(
        "SELECT sandbox.id FROM address JOIN sandbox ON sandbox.key = address.sandbox"
        " WHERE network = ? AND address = ?",
        (network, str(address)),
    ).fetchone()
    return None if row is None else str(row[0])


def free_leases(db: sqlite3.Connection, sandbox: int, ordinal: int | None = None) -> None:
    """Free the leases of a sandbox, or of one of its interfaces.

    Their holder is remembered, and that their flows may be left.
    """
    which = (sandbox, ordinal)
    db.execute(
        "INSERT OR IGNORE INTO stale SELECT address FROM address"
        " WHERE sandbox = ?1 AND (?2 IS NULL OR ordinal = ?2)",
        which,
    )
    db.execute(
        "DELETE FROM address WHERE sandbox = ?1 AND (?2 IS NULL OR ordinal = ?2) AND NOT pooled",
        which,
    )
    db.execute(
        "UPDATE address SET sandbox = NULL, ordinal = NULL, freed = 1 + coalesce(("
        "  SELECT other.freed FROM address AS other"
        "  WHERE other.network = address.network AND other.family = address.family"
        "  AND other.freed IS NOT NULL ORDER BY other.freed DESC LIMIT 1"
        " ), 0) WHERE sandbox = ?1 AND (?2 IS NULL OR ordinal = ?2)",
        which,
    )
