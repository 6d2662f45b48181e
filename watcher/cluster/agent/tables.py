"""What each side of `cluster.sock` has told, by table and key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from watcher.cluster.protocol import (
    LONGEST,
    TOGETHER,
    Begin,
    BlockRow,
    End,
    HostRow,
    LentRow,
    NetworkRow,
    OwnRow,
    Removed,
    Row,
    StatusRow,
    encode,
    key_of,
    removal_of,
    table_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from watcher.clustering.tables import Heard
    from watcher.model.address import Subnet

type Key = tuple[str, tuple[str, ...]]
"""A table and a key in it."""

type Place = tuple[str, Subnet]
"""A network's name, and a part of the network."""

_STATUS: Final[Key] = ("status", ())


class Service(Struct, frozen=True):
    """What the service has told.

    Attributes:
        host: this host; `None`: the service knows no address of it.
        networks: the clustered networks, by name.
        blocks: the blocks and claims of the lease store.
        lent: the addresses that are set aside for other hosts.
    """

    host: HostRow | None
    networks: dict[str, NetworkRow]
    blocks: dict[Place, BlockRow]
    lent: dict[Place, LentRow]


def service_of(heard: Heard) -> Service:
    """What was heard, by what it is about."""
    blocks, lent = heard.of(BlockRow).values(), heard.of(LentRow).values()
    return Service(
        heard.row(HostRow),
        {row.name: row for row in heard.of(NetworkRow).values()},
        {(row.network, row.prefix): row for row in blocks},
        {(row.network, row.prefix): row for row in lent},
    )


class Telling:
    """What the service is told: the difference between what it knows and what there is.

    What changes before it was told is told once: a service that does not read costs nothing.

    Attributes:
        status: how this host stands.
    """

    def __init__(self) -> None:
        self._rows: Mapping[Key, Row] | None = None
        """What there is; `None`: that is not known yet, so what the service knows stays."""
        self._keys: dict[int, Key] = {}
        """The keys of these rows by their id(): most of the next ones will be the same objects."""
        self.status = StatusRow(connected=False)
        self._known: dict[Key, Row] = {}
        self._untold: list[Row] = []
        """What is left of the changes that were worked out last."""
        self._begun = self._ended = False

    def set(self, rows: Iterable[Row]) -> bool:
        """This is all that there is, beside the status; whether it was different so far."""
        before, self._untold = self._rows, []  # `before` keeps each object that has a key yet
        keys = self._keys
        self._rows = {keys.get(id(row)) or (table_of(row), key_of(row)): row for row in rows}
        self._keys = {id(row): key for key, row in self._rows.items()}
        return before != self._rows

    def add(self, rows: Sequence[Row]) -> None:
        """There is this, too; it is left out as long as it is not known what else there is."""
        if rows and self._rows is not None:
            more = {(table_of(row), key_of(row)): row for row in rows}
            self.set({**self._rows, **more}.values())

    def anew(self) -> None:
        """The service knows nothing: it is another connection, perhaps of another incarnation."""
        self.status = replace(self.status, cluster_id="", revision=0)
        self._known.clear()
        self._untold = []
        self._begun = self._ended = False

    def next(self) -> Sequence[Row]:
        """What to tell next, a packet of it; nothing if all was told. :meth:`told` confirms it."""
        if not self._begun:
            return [Begin(), self.status]
        if not self._untold or self._known.get(_STATUS) != self.status:
            self._untold = list(self._changes())
        if self._untold:
            return _fitting(self._untold)
        return [End()] if self._rows is not None and not self._ended else []

    def told(self, rows: Sequence[Row]) -> None:
        """The service has been told these, which :meth:`next` has returned."""
        for row in rows:
            if isinstance(row, Begin):
                self._begun = True
            elif isinstance(row, End):
                self._ended = True
            elif isinstance(row, Removed):
                self._known.pop((row.table, row.key), None)
            else:
                self._known[table_of(row), key_of(row)] = row
        del self._untold[: len(rows)]

    def _changes(self) -> Iterable[Row]:
        """The changes, in this order: no block is this host's before all claims in it are known."""
        if self._known.get(_STATUS) != self.status:
            yield self.status
        if self._rows is None:
            return
        rows, known = self._rows, self._known
        gone = [(key, row) for key, row in known.items() if key not in rows and key != _STATUS]
        new = [row for key, row in rows.items() if (it := known.get(key)) is not row and it != row]
        yield from (removal_of(row) for _, row in gone if isinstance(row, OwnRow))
        yield from (row for row in new if not isinstance(row, OwnRow))
        yield from (removal_of(row) for _, row in gone if not isinstance(row, OwnRow))
        yield from (row for row in new if isinstance(row, OwnRow))


def _fitting(rows: Sequence[Row]) -> Sequence[Row]:
    """The first rows that fit into a packet."""
    count = TOGETHER
    while count > 1 and len(encode(rows[:count])) > LONGEST:
        count //= 2
    return rows[:count]
