"""Rows of `cluster.sock`: what one side was told, and what it tells the other."""

from __future__ import annotations

from itertools import batched
from typing import TYPE_CHECKING

from watcher.cluster.protocol import (
    TOGETHER,
    Begin,
    End,
    Removed,
    Row,
    encode,
    key_of,
    removal_of,
    table_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

type Key = tuple[str, ...]
type _Rows = dict[str, dict[Key, Row]]


class Heard:
    """The rows that were told, and which of them have changed since they were looked at.

    Attributes:
        whole: whether all rows were told once.
    """

    def __init__(self) -> None:
        self._rows: _Rows = {}
        self._coming: _Rows | None = None
        self._changed: dict[str, set[Key]] = {}
        self.whole = False

    def take(self, rows: Iterable[Row]) -> None:
        """Take the rows of a packet. Those of a new state count once it is whole."""
        for row in rows:
            if isinstance(row, Begin):
                self._coming = {}
            elif isinstance(row, End):
                self._replace()
            elif isinstance(row, Removed):
                self._put(row.table, row.key, None)
            else:
                self._put(table_of(row), key_of(row), row)

    def of[R: Row](self, kind: type[R]) -> dict[Key, R]:
        """The rows of one kind, by their keys."""
        rows = self._rows.get(table_of(kind), {})
        return {key: row for key, row in rows.items() if isinstance(row, kind)}

    def row[R: Row](self, kind: type[R], key: Key = ()) -> R | None:
        """One row."""
        row = self._rows.get(table_of(kind), {}).get(key)
        return row if isinstance(row, kind) else None

    def coming[R: Row](self, kind: type[R]) -> R | None:
        """The row of a kind that has only one, even of a state that is not whole."""
        row = ((self._coming or {}).get(table_of(kind)) or {}).get(())
        return row if isinstance(row, kind) else self.row(kind)

    def changed(self, kind: type[Row]) -> set[Key]:
        """The keys of the rows of one kind that have changed since this was last asked."""
        return self._changed.pop(table_of(kind), set())

    def _put(self, table: str, key: Key, row: Row | None) -> None:
        target = self._rows if self._coming is None else self._coming
        rows = target.setdefault(table, {})
        if row is not None:
            rows[key] = row
        elif rows.pop(key, None) is None:
            return
        if self._coming is None:
            self._changed.setdefault(table, set()).add(key)

    def _replace(self) -> None:
        if self._coming is None:
            return
        for table in self._rows.keys() | self._coming.keys():
            before, after = self._rows.get(table, {}), self._coming.get(table, {})
            differ = {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
            self._changed.setdefault(table, set()).update(differ)
        self._rows, self._coming, self.whole = self._coming, None, True


class Told:
    """The rows that the other side was told."""

    def __init__(self) -> None:
        self._rows: _Rows | None = None

    def packets(self, rows: Sequence[Row]) -> Iterator[bytes]:
        """The packets that make the other side know `rows` and nothing else."""
        now: _Rows = {}
        for row in rows:
            now.setdefault(table_of(row), {})[key_of(row)] = row
        if self._rows is None:
            news: list[Row] = [Begin(), *rows, End()]
        else:
            news = []
            for table in self._rows.keys() | now.keys():
                before, after = self._rows.get(table, {}), now.get(table, {})
                news += [removal_of(row) for key, row in before.items() if key not in after]
                news += [row for key, row in after.items() if before.get(key) != row]
        self._rows = now
        for some in batched(news, TOGETHER):
            yield encode(some)
