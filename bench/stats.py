"""Summaries of measurements: median, percentiles, ratios."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import TypedDict


class Summary(TypedDict):
    """The percentiles of `count` values by nearest rank, and the minimum and maximum."""

    count: int
    median: float
    p95: float
    p99: float
    least: float
    most: float


def summary(values: Iterable[float]) -> Summary:
    """The summary of `values`, at least one."""
    ordered = sorted(values)
    return Summary(
        count=len(ordered),
        median=statistics.median(ordered),
        p95=_rank(ordered, 95),
        p99=_rank(ordered, 99),
        least=ordered[0],
        most=ordered[-1],
    )


class Spread(TypedDict):
    """The median of `count` values, and their 10th and 90th percentile by nearest rank."""

    count: int
    median: float
    p10: float
    p90: float


def spread(values: Iterable[float]) -> Spread:
    """The spread of `values`, at least one."""
    ordered = sorted(values)
    return Spread(
        count=len(ordered),
        median=statistics.median(ordered),
        p10=_rank(ordered, 10),
        p90=_rank(ordered, 90),
    )


def ratios(values: Iterable[float], bases: Iterable[float]) -> list[float]:
    """Each of `values` to that of `bases` which was measured in the same round."""
    return [value / base for value, base in zip(values, bases, strict=True)]


def _rank(ordered: list[float], percent: int) -> float:
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


class Samples:
    """Measurements, collected by name."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        """Add a measurement of `name`."""
        self._values.setdefault(name, []).append(value)

    def values(self, name: str) -> list[float]:
        """All of `name`, in order."""
        return self._values[name]

    def summaries(self) -> dict[str, Summary]:
        """The summary of each, by name."""
        return {name: summary(values) for name, values in self._values.items()}
