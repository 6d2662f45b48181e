"""The bars: what each figure has to be, and whether it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.tables import Table


@dataclass(frozen=True, slots=True)
class Bar:
    """One of them.

    Attributes:
        figure: what is measured.
        bar: what it has to be, in words.
        found: what it is, in words.
        reached: whether that is enough.
    """

    figure: str
    bar: str
    found: str
    reached: bool


def table(bars: Iterable[Bar]) -> Table:
    """All of them, row by row."""
    rows = tuple((b.figure, b.bar, b.found, "yes" if b.reached else "no") for b in bars)
    return Table("The bars", ("figure", "bar", "found", "reached"), rows)
