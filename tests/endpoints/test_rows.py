"""Readers that read at their own pace all end up with what there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from watcher.cluster.endpoints import rows as module
from watcher.cluster.endpoints.rows import Rows

_GONE = b"gone "


class Reader:
    """One as the server has them: how far it has got, and what it knows."""

    def __init__(self, rows: Rows[int]) -> None:
        self._rows = rows
        self._begin()

    def _begin(self) -> None:
        self.at, self._began = 0, self._rows.last
        self.known: dict[int, bytes] = {}

    @property
    def reached(self) -> int:
        return max(self.at, self._began)

    def read(self, most: int) -> bool:
        """Reads some; whether there were any."""
        if self.reached < self._rows.forgotten:
            self._begin()
        found = self._rows.after(self.at, most)
        for row in found:
            assert row.number > self.at
            self.at = row.number
            key = int(row.line.removeprefix(_GONE).split()[0])
            if row.gone:
                self.known.pop(key, None)
            else:
                self.known[key] = row.line
        return bool(found)


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 9), st.integers(0, 3)),
        st.tuples(st.just("remove"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("read"), st.integers(0, 2), st.integers(1, 4)),
        st.tuples(st.just("join"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(_STEPS, st.integers(0, 4), st.integers(0, 4))
def test_every_reader_knows_what_there_is_in_the_end(
    steps: list[tuple[str, int, int]], slack: int, most_gone: int
) -> None:
    before = module._SLACK, module._MOST_GONE
    module._SLACK, module._MOST_GONE = slack, most_gone  # type: ignore[misc]
    try:
        readers: list[Reader] = []
        rows: Rows[int] = Rows(lambda: min((r.reached for r in readers), default=rows.last))
        there: dict[int, bytes] = {}
        for step, one, other in steps:
            match step:
                case "put":
                    line = b"%d %d" % (one, other)
                    assert rows.put(one, line) == (there.get(one) != line)
                    there[one] = line
                case "remove":
                    assert rows.remove(one, _GONE + b"%d" % one) == (one in there)
                    there.pop(one, None)
                case "join":
                    readers.append(Reader(rows))
                case _ if readers:
                    readers[one % len(readers)].read(other)
            assert (len(rows), set(rows.every_key())) == (len(there), set(there))
            assert len(rows._order) <= 2 * len(rows) + rows._gone + slack + 1
        for reader in readers:
            while reader.read(3):
                pass
            assert reader.known == there
    finally:
        module._SLACK, module._MOST_GONE = before  # type: ignore[misc]


def test_what_changes_often_takes_no_room() -> None:
    rows: Rows[int] = Rows(lambda: 0)
    for number in range(50_000):
        rows.put(number % 7, b"%d" % number)
    assert len(rows) == 7
    assert len(rows._order) < 2000
    assert len(rows.after(0, 100)) == 7


def test_those_that_are_gone_are_told_of_to_slow_readers_but_not_for_ever() -> None:
    rows: Rows[int] = Rows(lambda: 0)
    for number in range(200_000):
        rows.put(number, b"here")
        rows.remove(number, b"gone")
    assert len(rows) == 0
    assert rows.forgotten
    assert len(rows.after(0, 1 << 20)) <= module._MOST_GONE + 1
