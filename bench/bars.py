"""The bars: the limit of each figure, and whether the figure keeps it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.tables import Table


@dataclass(frozen=True, slots=True)
class Bar:
    """One limit.

    Attributes:
        figure: the name of the figure.
        bar: the limit, in words.
        found: the result, in words.
        reached: whether the result keeps the limit.
    """

    figure: str
    bar: str
    found: str
    reached: bool


def table(bars: Iterable[Bar]) -> Table:
    """A table of all bars."""
    rows = tuple((b.figure, b.bar, b.found, "yes" if b.reached else "no") for b in bars)
    return Table("The bars", ("figure", "bar", "found", "reached"), rows)
