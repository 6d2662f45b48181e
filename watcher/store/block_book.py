"""The addresses of a clustered network, which are leased from this host's blocks alone."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network
from typing import TYPE_CHECKING

from watcher.model import keys
from watcher.model.cluster import block_with, claim_of, host_address, is_claim
from watcher.model.errors import InvalidRequest, Unclaimed, quoted
from watcher.store.addresses import AddressBook, holder_of
from watcher.store.ipam import refusal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from watcher.model.address import Address, AddressWithPrefix, Subnet
    from watcher.model.network import Network
    from watcher.store.ipam import Pool


class BlockBook:
    """One clustered network's addresses of one family, for one interface of a container."""

    __slots__ = ("_block", "_db", "_id", "_network", "_ordinal", "_root", "_sandbox", "_subnet")

    def __init__(
        self,
        db: sqlite3.Connection,
        network: Network,
        subnet: Subnet,
        root: str,
        id: str,  # noqa: A002
        sandbox: int,
        ordinal: int,
    ) -> None:
        self._db = db
        self._network = network
        self._subnet = subnet
        self._root = root
        self._id = id
        self._sandbox = sandbox
        self._ordinal = ordinal
        self._block: int | None = None

    def fixed(self, address: Address, asked: str, adopt: Iterable[Address] = ()) -> None:
        """Check that the container may have the `address` that it asks for, `asked` as written.

        If it is one of `adopt`, the container has it already, from a lease store that was lost. So
        it may keep it, though this host does not know its blocks yet.

        Raises:
            InvalidRequest: no container may have it, or another sandbox has it.
            Unclaimed: it is not in what this host holds.
        """
        name = self._network.name
        remedy = f"ask for another address of {self._subnet}"
        if address == self._host_address(address):
            reason = f"{address} is kept for the host that has {self._block_with(address)}"
            raise InvalidRequest(keys.IP, asked, reason, remedy)
        if (holder := self.holder(address)) is not None:
            reason = f"{address} is held by sandbox {quoted(holder)}"
            raise InvalidRequest(keys.IP, asked, reason, f"{remedy}, or stop that one")
        self._block, lent = self._held(claim_of(address)), self._lent(address)
        if self._block is None and not lent:
            self._block = self._held(self._block_with(address))
        if self._block is None and (lent or address not in adopt):
            raise Unclaimed(name, address, asked)

    def holder(self, address: Address) -> str | None:
        """The id of the sandbox that has leased `address`."""
        return holder_of(self._db, self._network.name, address)

    def choose(self, adopt: Iterable[Address]) -> Address:
        """An address for the container; `adopt` are those that it has already.

        In this order: one of these, the one that it had last, one that was never leased, the one
        that was freed first.

        Raises:
            InvalidRequest: none of what this host holds is free.
        """
        name, version = self._network.name, self._subnet.version
        for address in adopt:
            if address in self._subnet and refusal(self._subnet, address) is None:
                self._block = self._of_ours(address)
                if self.holder(address) is None:  # whoever has it by now: it has been there first
                    return address
        remembered = (
            "SELECT address, address.block FROM address JOIN block ON number = address.block"
            " WHERE address.network = ? AND address.family = ? AND freed IS NOT NULL"
            " AND state = 'held' AND block.prefix != address || ?"
        )  # a claim is for who has asked for it
        of = name, version, f"/{self._subnet.max_prefixlen}"
        had = self._db.execute(
            f"{remembered} AND id = ? AND root = ? ORDER BY freed DESC",
            (*of, self._id, self._root),
        )
        for text, block in had:
            if self._free(ip_address(text)):
                self._block = block
                return ip_address(text)
        fresh = self._fresh()
        if fresh is not None:
            return fresh
        for text, block in self._db.execute(f"{remembered} ORDER BY freed", of):
            if self._free(ip_address(text)):
                self._block = block
                return ip_address(text)
        count = self._db.execute(
            "SELECT count(*) FROM address WHERE network = ? AND family = ?"
            " AND sandbox IS NOT NULL AND block IS NOT NULL",
            (name, version),
        ).fetchone()[0]
        raise InvalidRequest(
            keys.NETWORK,
            name,
            f"no free address in the blocks of {self._subnet} that this host holds"
            f" ({count} in use)",
            "see that `watcher cluster` runs and reaches etcd, with `watcher check`",
        )

    def lease(self, address: Address, prefix: int | None = None) -> AddressWithPrefix:
        """Lease the address that was chosen last."""
        prefix = self._subnet.prefixlen if prefix is None else prefix
        block = self._of_ours(address) if self._block is None else self._block
        self._db.execute(
            "INSERT INTO address (network, address, family, prefix, root, id, pooled, sandbox,"
            "  ordinal, freed, block) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?)"
            " ON CONFLICT (network, address) DO UPDATE SET"
            "  prefix = excluded.prefix, root = excluded.root, id = excluded.id,"
            "  pooled = excluded.pooled, sandbox = excluded.sandbox, ordinal = excluded.ordinal,"
            "  block = excluded.block, freed = NULL",
            (
                self._network.name, str(address), self._subnet.version, prefix,
                self._root, self._id, block is not None, self._sandbox, self._ordinal,
                block,
            ),
        )  # fmt: skip
        interface = IPv4Interface if self._subnet.version == 4 else IPv6Interface
        return interface((int(address), prefix))

    def _fresh(self) -> Address | None:
        """The first address of a held block that was never leased; moves the block's cursor."""
        blocks = self._db.execute(
            "SELECT number, prefix, cursor FROM block WHERE network = ? AND family = ?"
            " AND state = 'held' ORDER BY number",
            (self._network.name, self._subnet.version),
        ).fetchall()
        for number, text, cursor in blocks:
            prefix, own = _block(self._subnet, text)
            if is_claim(prefix):
                continue
            for offset in range(cursor, prefix.num_addresses):
                address = prefix.network_address + offset
                if address != own and refusal(self._subnet, address) is None and self._new(address):
                    self._moved(number, offset + 1)
                    self._block = number
                    return address
            if cursor < prefix.num_addresses:
                self._moved(number, prefix.num_addresses)
        return None

    def _moved(self, number: int, cursor: int) -> None:
        self._db.execute("UPDATE block SET cursor = ? WHERE number = ?", (cursor, number))

    def _free(self, address: Address) -> bool:
        """Whether a container that asks for no address may get `address`, if nobody has it."""
        return (
            refusal(self._subnet, address) is None
            and address != self._host_address(address)
            and not self._lent(address)
        )

    def _new(self, address: Address) -> bool:
        """Whether `address` was never leased, and no other host has it alone; in one query."""
        name, text = self._network.name, str(address)
        row = self._db.execute(
            "SELECT 1 FROM address WHERE network = ? AND address = ?"
            " UNION ALL SELECT 1 FROM peer_block WHERE network = ? AND prefix = ?",
            (name, text, name, f"{text}/{address.max_prefixlen}"),
        ).fetchone()
        return row is None

    def _lent(self, address: Address) -> bool:
        """Whether another host has `address` alone."""
        row = self._db.execute(
            "SELECT 1 FROM peer_block WHERE network = ? AND prefix = ?",
            (self._network.name, f"{address}/{address.max_prefixlen}"),
        ).fetchone()
        return row is not None

    def _of_ours(self, address: Address) -> int | None:
        """The number of the block or claim with `address` that this host has, in any state."""
        for prefix in (claim_of(address), self._block_with(address)):
            row = self._db.execute(
                "SELECT number FROM block WHERE network = ? AND prefix = ?",
                (self._network.name, str(prefix)),
            ).fetchone()
            if row is not None:
                return int(row[0])
        return None

    def _held(self, prefix: Subnet) -> int | None:
        row = self._db.execute(
            "SELECT number FROM block WHERE network = ? AND prefix = ? AND state = 'held'",
            (self._network.name, str(prefix)),
        ).fetchone()
        return None if row is None else int(row[0])

    def _block_with(self, address: Address) -> Subnet:
        return block_with(self._subnet, self._network.block, address)

    def _host_address(self, address: Address) -> Address:
        return host_address(self._subnet, self._block_with(address))


@lru_cache(1024)
def _block(subnet: Subnet, text: str) -> tuple[Subnet, Address]:
    """The block or claim of `subnet` that is written so, and the host's own address in it.

    Each attach needs that of the blocks that this host has, which are the same for long.
    """
    prefix = ip_network(text)
    return prefix, host_address(subnet, prefix)


def open_book(
    db: sqlite3.Connection,
    network: Network,
    pool: Pool,
    root: str,
    id: str,  # noqa: A002
    sandbox: int,
    ordinal: int,
) -> AddressBook | BlockBook:
    """The book in which the container `id` of `root` leases an address for an interface."""
    if network.cluster:
        return BlockBook(db, network, pool.subnet, root, id, sandbox, ordinal)
    return AddressBook(db, network.name, pool, root, id, sandbox, ordinal)
