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
