"""Line charts as SVG, in a few colours that are legible on white and on black."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, Protocol

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 130, 44, 46
COLOURS: Final = ("#2f81f7", "#e3873b", "#2da160", "#a371f7", "#d1477a")
INK: Final = "#7d8590"
"""Halfway between white and black, for everything but the lines."""

_NEAR: Final = 14.0
"""The least distance between the names of two lines, in pixels."""

type Point = tuple[float, float]


class Picture(Protocol):
    """What becomes a file beside the page."""

    @property
    def name(self) -> str:
        """The name of its file."""

    @property
    def title(self) -> str:
        """What it shows."""

    def svg(self) -> str:
        """The content of the SVG file."""


def opening(width: int, height: int) -> str:
    """The first line of an SVG file of that many pixels."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        f' font-family="system-ui, sans-serif" font-size="12" fill="{INK}">'
    )


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with logarithmic axes.

    Attributes:
        name: the name of its file.
        title: the line above it.
        across: the label of the horizontal axis.
        lines: points by the name of the line.
        unit: the unit of the vertical axis; `s` is scaled as needed.
    """

    name: str
    title: str
    across: str
    lines: dict[str, list[Point]]
    unit: str

    def svg(self) -> str:
        """The content of the SVG file."""
        points = [point for line in self.lines.values() for point in line]
        across = _Axis([x for x, _ in points], _LEFT, _WIDTH - _RIGHT, whole=False)
        up = _Axis([y for _, y in points], _HEIGHT - _BOTTOM, _TOP, whole=True)
        title = escape(self.title)
        parts = [
            opening(_WIDTH, _HEIGHT),
            f"<title>{title}</title>",
            f'<text x="{_LEFT}" y="22" font-size="14" font-weight="600">{title}</text>',
            *self._grid(across, up),
        ]
        ends = {name: up.place(line[-1][1]) for name, line in self.lines.items()}
        labels = _apart(ends)
        for (name, line), colour in zip(self.lines.items(), COLOURS, strict=False):
            parts += _drawn(name, line, colour, across, up, labels[name])
        return "\n".join([*parts, "</svg>"]) + "\n"

    def _grid(self, across: _Axis, up: _Axis) -> list[str]:
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        found = []
        for value in up.ticks():
            y = up.place(value)
            found.append(
                f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{INK}"'
                ' stroke-opacity="0.25"/>'
            )
            found.append(text(_LEFT - 8, y + 4, _shown(value, self.unit), "end"))
        found += [
            text(across.place(value), bottom + 18, f"{value:,.0f}", "middle")
            for value in sorted({x for line in self.lines.values() for x, _ in line})
        ]
        middle = (_LEFT + right) / 2
        found.append(text(middle, bottom + 38, self.across, "middle"))
        return found


class _Axis:
    """A logarithmic axis from pixel `start` to `end`; `whole`: it begins and ends with a tick."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, whole: bool) -> None:
        least, most = min(values), max(values)
        if whole:
            least = max(tick for tick in _ticks() if tick <= least)
            most = min(tick for tick in _ticks() if tick > most)
        self._least, self._most = least, most if most > least else least * 10
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        """The pixel of `value`."""
        part = math.log(value / self._least) / math.log(self._most / self._least)
        return self._start + part * (self._end - self._start)

    def ticks(self) -> list[float]:
        """Round numbers from end to end."""
        return [tick for tick in _ticks() if self._least <= tick <= self._most]


def _ticks() -> list[float]:
    """1, 2, 5, 10, …, from a billionth to a billion."""
    return [float(f"{digit}e{power}") for power in range(-9, 10) for digit in (1, 2, 5)]


def _drawn(
    name: str, line: list[Point], colour: str, across: _Axis, up: _Axis, label: float
) -> list[str]:
    places = [(across.place(x), up.place(y)) for x, y in line]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *dots,
        text(_WIDTH - _RIGHT + 10, label + 4, name, "start", colour),
    ]


def text(x: float, y: float, words: str, anchor: str, colour: str = INK) -> str:
    """The element of `words` at a place; `anchor` as SVG's `text-anchor`."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}>{escape(words)}</text>"


def _shown(value: float, unit: str) -> str:
    if unit == "s" and value < 1:
        value, unit = (value * 1e3, "ms") if value >= 1e-3 else (value * 1e6, "µs")
    return f"{value:,.10g} {unit}"


def _apart(places: dict[str, float]) -> dict[str, float]:
    """`places`, moved down where two would be on top of each other."""
    found: dict[str, float] = {}
    last = -math.inf
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        last = max(place, last + _NEAR)
        found[name] = last
    return found
