"""What the lease store has of the cluster: this host's blocks, and the other hosts with theirs.

This host leases addresses of clustered networks only from blocks that are `held`.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from watcher.model.cluster import Block, Peer, PeerBlock, claim_of, is_claim

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from watcher.model.address import Address, Subnet
    from watcher.model.cluster import BlockState
    from watcher.store.database import Database

_IDENTITY: Final = "cluster"
_NUMBER: Final = "cluster number "
"""Names of notes: who this host is, and the number of each network."""

_BLOCKS: Final = "SELECT network, prefix, state FROM block ORDER BY number"
_USED: Final = (
    "SELECT network, prefix, state,"
    " (SELECT count(*) FROM address WHERE block = number AND sandbox IS NOT NULL) FROM block"
    " ORDER BY number"
)


class Identity(Struct, frozen=True):
    """Who this host is in the cluster, and what it has seen of that.

    Attributes:
        incarnation: marks what it takes in the registry.
        cluster_id, revision: of the registry's latest state that it has seen.
    """

    incarnation: str = ""
    cluster_id: str = ""
    revision: int = 0


class ClusterStore:
    """The part of the lease store that is about the cluster; each change is one transaction."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    def blocks(self) -> list[Block]:
        """This host's blocks and claims, the first taken first."""
        with self._database.reading() as db:
            return [_block(*row) for row in db.execute(_BLOCKS)]

    def used(self) -> list[tuple[Block, int]]:
        """Each with the number of addresses that are leased from it."""
        with self._database.reading() as db:
            return [(_block(*row), leased) for *row, leased in db.execute(_USED)]

    def take(self, network: str, prefix: Subnet) -> None:
        """Hold a block or a claim from now on, whatever it was before."""
        with self._database.writing() as db:
            db.execute(
                "INSERT INTO block (network, prefix, family, state) VALUES (?, ?, ?, 'held')"
                " ON CONFLICT (network, prefix) DO UPDATE SET state = 'held'",
                (network, str(prefix), prefix.version),
            )
            # A lease store that was lost has leases before it has blocks again.
            rows = db.execute(
                "SELECT address FROM address WHERE network = ? AND family = ? AND block IS NULL",
                (network, prefix.version),
            ).fetchall()
            query = "SELECT number FROM block WHERE network = ? AND prefix = ?"
            (number,) = db.execute(query, (network, str(prefix))).fetchone()
            db.executemany(
                "UPDATE address SET block = ?, pooled = 1 WHERE network = ? AND address = ?",
                [(number, network, text) for (text,) in rows if ip_address(text) in prefix],
            )

    def turn(self, network: str, prefix: Subnet, state: BlockState) -> None:
        """Give a block another state."""
        with self._database.writing() as db:
            db.execute(
                "UPDATE block SET state = ? WHERE network = ? AND prefix = ?",
                (state, network, str(prefix)),
            )

    def leave(self, network: str, prefix: Subnet) -> bool:
        """Lease nothing from a block any more, if nothing is leased from it; returns whether so."""
        with self._database.writing() as db:
            done = db.execute(
                "UPDATE block SET state = 'leaving' WHERE network = ? AND prefix = ?"
                " AND NOT EXISTS (SELECT 1 FROM address WHERE block = number"
                " AND sandbox IS NOT NULL)",
                (network, str(prefix)),
            )
            return done.rowcount > 0

    def forget(self, network: str, prefix: Subnet) -> bool:
        """Forget a block from which nothing is leased; returns whether it is forgotten."""
        with self._database.writing() as db:
            row = db.execute(
                "SELECT number, EXISTS (SELECT 1 FROM address WHERE block = number"
                " AND sandbox IS NOT NULL) FROM block WHERE network = ? AND prefix = ?",
                (network, str(prefix)),
            ).fetchone()
            if row is None or row[1]:
                return row is None
            db.execute("DELETE FROM address WHERE block = ?", row[:1])
            db.execute("DELETE FROM block WHERE number = ?", row[:1])
            _look_again(db, network, prefix)
            return True

    def peers(self) -> dict[str, Peer]:
        """The other hosts, by name."""
        with self._database.reading() as db:
            rows = db.execute("SELECT host, address, alive FROM peer ORDER BY host")
            return {host: Peer(host, ip_address(text), bool(alive)) for host, text, alive in rows}

    def peer_blocks(self) -> list[PeerBlock]:
        """What the other hosts have."""
        with self._database.reading() as db:
            rows = db.execute("SELECT network, prefix, host FROM peer_block")
            return [PeerBlock(network, ip_network(text), host) for network, text, host in rows]

    def peer_blocks_as_written(self) -> Iterable[tuple[tuple[str, str], str]]:
        """The same: network and prefix, and the host that has it."""
        with self._database.reading() as db:
            rows = db.execute("SELECT network, prefix, host FROM peer_block").fetchall()
            return (((network, text), host) for network, text, host in rows)

    def hosts(self) -> tuple[int, int]:
        """How many other hosts there are that are heard of, and that are silent."""
        with self._database.reading() as db:
            counts = dict(db.execute("SELECT alive, count(*) FROM peer GROUP BY alive"))
            return counts.get(1, 0), counts.get(0, 0)

    def lent(self) -> Mapping[str, Sequence[str]]:
        """The addresses that other hosts have alone, by network."""
        found: dict[str, list[str]] = {}
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT network, prefix FROM peer_block"
                " WHERE prefix LIKE '%/32' AND prefix NOT LIKE '%:%' OR prefix LIKE '%/128'"
            )
            for network, prefix in rows:
                found.setdefault(network, []).append(prefix.partition("/")[0])
        return found

    def may_lease(self, network: str, address: Address) -> bool:
        """Whether a container may get `address` that asks for it, if no other one has it."""
        claim = str(claim_of(address))
        with self._database.reading() as db:
            lent = db.execute(
                "SELECT 1 FROM peer_block WHERE network = ? AND prefix = ?", (network, claim)
            ).fetchone()
            held = db.execute(
                "SELECT prefix FROM block WHERE network = ? AND family = ? AND state = 'held'",
                (network, address.version),
            )
            return any(
                text == claim or (lent is None and address in ip_network(text)) for (text,) in held
            )

    def lend(self, network: str, prefix: Subnet, host: str) -> bool:
        """Note that `host` has one address of a block of this host, if it is free; was it?

        From then on nobody here gets that address.
        """
        address = str(prefix.network_address)
        with self._database.writing() as db:
            taken = db.execute(
                "SELECT 1 FROM address WHERE network = ? AND address = ? AND sandbox IS NOT NULL",
                (network, address),
            ).fetchone()
            if taken is not None:
                return False
            db.execute(
                "INSERT INTO peer_block (network, prefix, host) VALUES (?, ?, ?)"
                " ON CONFLICT (network, prefix) DO UPDATE SET host = excluded.host",
                (network, str(prefix), host),
            )
            return True

    def meet(
        self,
        peers: Iterable[Peer],
        blocks: Iterable[PeerBlock],
        gone: Iterable[str] = (),
        gone_blocks: Sequence[tuple[str, Subnet]] = (),
    ) -> None:
        """Note what is new of other hosts, and forget what is `gone`."""
        with self._database.writing() as db:
            db.executemany("DELETE FROM peer WHERE host = ?", [(host,) for host in gone])
            db.executemany(
                "DELETE FROM peer_block WHERE network = ? AND prefix = ?",
                [(network, str(prefix)) for network, prefix in gone_blocks],
            )
            for network, prefix in gone_blocks:
                _look_again(db, network, prefix)
            db.executemany(
                "INSERT OR REPLACE INTO peer (host, address, alive) VALUES (?, ?, ?)",
                [(peer.host, str(peer.address), peer.alive) for peer in peers],
            )
            db.executemany(
                "INSERT OR REPLACE INTO peer_block (network, prefix, host) VALUES (?, ?, ?)",
                [(one.network, str(one.prefix), one.host) for one in blocks],
            )

    def number(self, network: str) -> int:
        """The number of a clustered network; 0 if it has none yet."""
        row = self._database.peek("SELECT value FROM note WHERE name = ?", (f"{_NUMBER}{network}",))
        return 0 if row is None else int(row[0])

    def numbers(self) -> Mapping[str, int]:
        """The number of each network that has one."""
        with self._database.reading() as db:
            rows = db.execute("SELECT name, value FROM note WHERE name LIKE ?", (f"{_NUMBER}%",))
            return {name.removeprefix(_NUMBER): int(value) for name, value in rows}

    def set_number(self, network: str, number: int) -> None:
        """Note the number of a network."""
        with self._database.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO note (name, value) VALUES (?, ?)",
                (f"{_NUMBER}{network}", str(number)),
            )

    def identity(self) -> Identity:
        """Who this host is; without an incarnation if it was in no cluster yet."""
        row = self._database.peek("SELECT value FROM note WHERE name = ?", (_IDENTITY,))
        return Identity() if row is None else msgspec.json.decode(row[0], type=Identity)

    def identify(self, identity: Identity) -> None:
        """Note who this host is, and what it has seen."""
        with self._database.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO note (name, value) VALUES (?, ?)",
                (_IDENTITY, msgspec.json.encode(identity).decode()),
            )


def _look_again(db: sqlite3.Connection, network: str, prefix: Subnet) -> None:
    """Have the cursor of this host's block come by `prefix` again, if that was a claim in it.

    It may have passed that while somebody else had the address.
    """
    if not is_claim(prefix):
        return
    address = prefix.network_address
    for number, text, cursor in db.execute(
        "SELECT number, prefix, cursor FROM block WHERE network = ? AND family = ?",
        (network, prefix.version),
    ).fetchall():
        block = ip_network(text)
        offset = int(address) - int(block.network_address)
        if address in block and offset < cursor:
            db.execute("UPDATE block SET cursor = ? WHERE number = ?", (offset, number))


def _block(network: str, prefix: str, state: BlockState) -> Block:
    return Block(network, ip_network(prefix), state)
